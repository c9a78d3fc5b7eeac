"""The instructions of the Dockerfile, run without docker, and the manifests, validated against the schema of Kubernetes.

Where the tests run there is no docker. So each instruction is executed as docker would, with the folders of the container below a
temporary one, and a new virtual environment in place of the Python image.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import dockerfile
import httpx
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imgclf.classifier.model import Classifier
from imgclf.images import decoding
from imgclf.images.loading import Source
from imgclf.service.client import Client
from support.classifiers import trained
from support.pictures import COLOURS, picture
from support.project import PROJECT, PYTHONS, ROOT, pins

DEPLOY = ROOT / "deploy"
STEPS = dockerfile.parse_file(str(DEPLOY / "Dockerfile"))
MODEL_STEPS = dockerfile.parse_file(str(DEPLOY / "model.Dockerfile"))
MANIFESTS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
}
CONTAINER_PATH = re.compile(r"(?<![\w./:])/(src|opt|models)\b")
OFFLINE = re.compile(
    r"NewConnectionError|Temporary failure in name resolution|Network is unreachable|No matching distribution found"
)
TOKEN = "0123456789abcdef0123456789abcdef"
# Debian's slim Python images have these beside the C library: apt and Python itself depend on them.
SYSTEM_LIBRARIES = {
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libz.so.1",
    "libffi.so.8",
    "libssl.so.3",
    "libcrypto.so.3",
    "libbz2.so.1.0",
    "liblzma.so.5",
    "libuuid.so.1",
    "libexpat.so.1",
    "libsqlite3.so.0",
    "libreadline.so.8",
    "libtinfo.so.6",
    "libncursesw.so.6",
    "libzstd.so.1",
}
C_LIBRARY = re.compile(
    r"(libc|libm|libmvec|libdl|librt|libpthread|libutil|libcrypt|linux-vdso|ld-linux-x86-64|ld-linux-aarch64)\.so\.\d"
)


@dataclass
class Container:
    """The result of a Dockerfile: folders below `root`, environment variables, command and health check."""

    root: Path
    environment: dict[str, str]
    folder: Path = field(init=False)
    command: list[str] = field(init=False, default_factory=list)
    health: list[str] = field(init=False, default_factory=list)
    user: str = field(init=False, default="root")

    def __post_init__(self) -> None:
        self.clean = dict(self.environment)
        self.folder = self.root

    def on_host(self, text: str) -> str:
        """Return a text with the paths of the container replaced by those below `root`."""
        return CONTAINER_PATH.sub(lambda found: f"{self.root}{found[0]}", text)

    def execute(self, step: dockerfile.Command) -> None:
        """Execute one instruction."""
        getattr(self, f"_{step.cmd.lower()}")(step)

    def _arg(self, step: dockerfile.Command) -> None:
        assert step.value[0].split("=")[0] == "PYTHON"

    def _from(self, step: dockerfile.Command) -> None:
        assert step.value[0] == "python:${PYTHON}-slim"
        self.environment, self.folder = dict(self.clean), self.root

    def _workdir(self, step: dockerfile.Command) -> None:
        self.folder = Path(self.on_host(step.value[0]))
        self.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, step: dockerfile.Command) -> None:
        *names, target = step.value
        if (
            step.flags
        ):  # from another stage; the folder stays in place, since a virtual environment cannot be moved
            assert (step.flags, len(names), names[0]) == (("--from=build",), 1, target) and Path(
                self.on_host(target)
            ).is_dir()
            return
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, self.folder / target, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, self.folder / target)

    def _run(self, step: dockerfile.Command) -> None:
        completed = subprocess.run(
            ["sh", "-c", self.on_host(step.value[0])],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode and OFFLINE.search(completed.stderr) and not os.environ.get("CI"):
            pytest.skip("needs a package index")
        assert completed.returncode == 0, completed.stderr

    def _env(self, step: dockerfile.Command) -> None:
        for name, value in zip(step.value[::2], step.value[1::2], strict=True):
            self.environment[name] = self.on_host(value).replace("$PATH", self.environment["PATH"])

    def _user(self, step: dockerfile.Command) -> None:
        self.user = step.value[0]

    def _expose(self, step: dockerfile.Command) -> None:
        assert step.value == ("8080",)

    def _healthcheck(self, step: dockerfile.Command) -> None:
        assert step.value[0] == "CMD"
        self.health = list(step.value[1:])

    def _entrypoint(self, step: dockerfile.Command) -> None:
        assert step.json
        self.command = [self.on_host(word) for word in step.value]


@pytest.fixture(scope="module")
def container(tmp_path_factory) -> Container:
    """The container after all instructions; the files of the build stage are deleted."""
    root = tmp_path_factory.mktemp("container")
    subprocess.run([sys.executable, "-m", "venv", root / "python"], check=True)
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith("PIP_") or name.lower().endswith("_proxy")
    }
    container = Container(
        root,
        {**passed, "PATH": f"{root / 'python' / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    for step in STEPS:
        container.execute(step)
    shutil.rmtree(root / "src")
    return container


@dataclass
class Started:
    """A running container, and its port."""

    process: subprocess.Popen
    port: int
    health: list[str]
    environment: dict[str, str]

    def is_healthy(self) -> bool:
        return (
            subprocess.run(self.health, env=self.environment, capture_output=True, check=False).returncode
            == 0
        )

    def wait_until_healthy(self) -> None:
        for _ in range(60):
            if self.is_healthy():
                return
            assert self.process.poll() is None, self.process.stderr.read()
        raise AssertionError("not healthy after a minute")


def start(container: Container, *options: str, **environment: str) -> Started:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [str(port) if word == "8080" else word for word in container.command] + [*options]
    environment = {**container.environment, **environment}
    process = subprocess.Popen(
        words, cwd="/", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    return Started(process, port, [word.replace("8080", str(port)) for word in container.health], environment)


@pytest.fixture
def model(container, tiny_network, colour_folder) -> Path:
    """A classifier at the path that the container serves."""
    written = trained(tiny_network, colour_folder)
    target = container.root / "models" / "classifier.onnx"
    target.parent.mkdir(exist_ok=True)
    return Path(shutil.copy(written, target))


@pytest.fixture
def started(container, model):
    running = start(container, IMGCLF_TOKEN=TOKEN)
    try:
        running.wait_until_healthy()
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@cache
def installed(root: Path) -> dict[str, str]:
    """Return name and version of all packages in the container."""
    (folder,) = root.glob("opt/imgclf/lib/python*/site-packages")
    return {canonicalize_name(found.name): found.version for found in distributions(path=[str(folder)])}


def test_container_contains_only_the_dependencies_of_the_service(container):
    found = installed(container.root)
    assert not found.keys() & {
        "torch",
        "scikit-learn",
        "scipy",
        "pandas",
        "matplotlib",
        "jupyterlab",
        "ipykernel",
        "ipywidgets",
        "nbformat",
        "papermill",
        "onnxruntime",
        "onnxscript",
        "pip",
        "setuptools",
        "pytest",
        "mlflow-skinny",
    }
    assert found["imgclf"] == PROJECT["version"]


def test_container_has_the_versions_of_the_lock(container):
    locked = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {
        name: version for name, version in installed(container.root).items() if name != "imgclf"
    }.items() <= locked.items()


def test_requirements_of_the_container_are_dependencies_of_the_project():
    optional = [line for group in PROJECT["optional-dependencies"].values() for line in group]
    known = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"] + optional}
    assert {
        canonicalize_name(line)
        for line in (DEPLOY / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    } <= known


def test_all_shared_libraries_are_in_the_container(container):
    """No package needs a system library that the slim image lacks, such as libGL; OpenVINO's GPU plugin is not checked."""
    needed = set()
    for path in container.root.glob("opt/imgclf/lib/python*/site-packages/**/*.so*"):
        if re.search(r"intel_(gpu|npu)", path.name):
            continue
        linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        assert "not found" not in linked, f"{path}: {linked}"
        needed |= {
            line.split()[0]
            for line in linked.splitlines()
            if "=>" in line and str(container.root) not in line
        }
    assert {name for name in needed if not C_LIBRARY.match(name)} <= SYSTEM_LIBRARIES


def test_container_returns_the_scores_of_the_file(started, model, tmp_path):
    blouse = tmp_path / "blouse.jpg"
    blouse.write_bytes(decoding.jpeg(picture(COLOURS["green"], seed=9)))
    with Client(f"http://127.0.0.1:{started.port}", token=TOKEN) as client:
        (found,) = client.label([blouse.read_bytes()])
    ((_, expected),) = Classifier.load(model).predict([Source(blouse)])
    assert found.label == expected.label == "green"
    assert list(found.scores.values()) == pytest.approx(expected.scores.tolist(), rel=1e-4)


def test_container_serves_the_page(started):
    assert "<html" in httpx.get(f"http://127.0.0.1:{started.port}/").raise_for_status().text


def test_container_requires_the_token(started):
    assert httpx.get(f"http://127.0.0.1:{started.port}/metadata").status_code == 401


def test_container_stops_on_sigterm(started):
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert not started.is_healthy()


@pytest.mark.parametrize(
    ("environment", "message"), [({}, "IMGCLF_TOKEN"), ({"IMGCLF_TOKEN": TOKEN}, "no classifier")]
)
def test_container_without_token_or_model_fails_with_a_message(container, environment, message):
    shutil.rmtree(container.root / "models", ignore_errors=True)
    running = start(container, **environment)
    assert message in running.process.communicate(timeout=60)[1]
    assert running.process.returncode == 1


def test_options_behind_the_image_are_those_of_the_service(container, model):
    running = start(container, "--reject-unfamiliar", IMGCLF_TOKEN=TOKEN)
    try:
        running.wait_until_healthy()
        with Client(f"http://127.0.0.1:{running.port}", token=TOKEN) as client:
            assert client.metadata()["reject_unfamiliar"] is True
    finally:
        running.process.kill()
        running.process.communicate()


def test_container_does_not_run_as_root(container):
    user, group = container.user.split(":")
    assert int(user) > 0 and int(group) > 0


def test_build_context_contains_exactly_the_copied_files():
    *_, ignored = lines = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert (lines[0], ignored) == ("*", "**/__pycache__")
    copied = {name for step in STEPS if step.cmd == "COPY" and not step.flags for name in step.value[:-1]}
    assert {line.removeprefix("!") for line in lines[1:-1]} == copied


def test_python_version_of_the_container_is_supported():
    (python,) = (step.value[0].removeprefix("PYTHON=") for step in STEPS if step.cmd == "ARG")
    assert python in PYTHONS


def test_model_image_has_the_model_at_the_path_that_is_served():
    (copy,) = (step for step in MODEL_STEPS if step.cmd == "COPY")
    (command,) = (step for step in STEPS if step.cmd == "ENTRYPOINT")
    assert copy.value == ("classifier.onnx", command.value[2])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name):
    kubernetes_validate.validate(MANIFESTS[name], kubernetes_validate.latest_version(), strict=True)


def test_an_invalid_manifest_is_refused():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**MANIFESTS["service"], "spec": {"ports": "8080"}},
            kubernetes_validate.latest_version(),
            strict=True,
        )


def test_labels_ports_and_volumes_of_the_manifests_match():
    pod = MANIFESTS["deployment"]["spec"]["template"]
    (served,) = pod["spec"]["containers"]
    (port,), (outer,) = served["ports"], MANIFESTS["service"]["spec"]["ports"]
    assert MANIFESTS["service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert MANIFESTS["deployment"]["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert outer["targetPort"] == port["name"] and port["containerPort"] == 8080
    assert (
        MANIFESTS["autoscaler"]["spec"]["scaleTargetRef"]["name"]
        == MANIFESTS["deployment"]["metadata"]["name"]
    )
    assert {
        served[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    } == {port["name"]}
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == {
        mount["name"] for mount in served["volumeMounts"]
    }


def test_no_manifest_contains_a_token():
    (served,) = MANIFESTS["deployment"]["spec"]["template"]["spec"]["containers"]
    (variable,) = served["env"]
    assert (
        variable["name"] == "IMGCLF_TOKEN"
        and variable.keys() == {"name", "valueFrom"}
        and "secretKeyRef" in variable["valueFrom"]
    )
    assert "Secret" not in {manifest["kind"] for manifest in MANIFESTS.values()}

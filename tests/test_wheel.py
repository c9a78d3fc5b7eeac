"""The wheel in an empty virtual environment, in a path with spaces: it holds all that a project needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import nbformat
import pytest

from imgclf.experiments import notebooks
from support.networks import write_tiny_network
from support.pictures import write_colours
from support.project import ROOT

pytestmark = pytest.mark.slow
OFFLINE = re.compile(
    r"NewConnectionError|Temporary failure in name resolution|Network is unreachable|No matching distribution found"
)
START_SECONDS = 120


@dataclass(frozen=True)
class Installed:
    """imgclf in a virtual environment of its own; its dependencies are those of the tests.

    Attributes
    ----------
    folder : with the environment and the home folder.
    """

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables: of the tests, without what could make the clone importable."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "IMGCLF", "JUPYTER"))
        }
        # JupyterLab looks for its own files in the environment that runs it.
        lab = {
            "JUPYTERLAB_DIR": f"{sys.prefix}/share/jupyter/lab",
            "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
        }
        home = {"HOME": str(self.folder / "home"), "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime")}
        return {**kept, **lab, **home}

    def command(self, *words: object) -> list[str]:
        return [str(self.folder / "an environment" / "bin" / "imgclf"), *map(str, words)]

    def imgclf(self, *words: object, cwd: Path) -> str:
        """Run a command, and return what it prints."""
        ended = subprocess.run(
            self.command(*words), cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if built.returncode and OFFLINE.search(built.stderr) and not os.environ.get("CI"):
        pytest.skip("needs a package index")
    assert built.returncode == 0, built.stderr
    return next(folder.glob("imgclf-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("a place")
    (folder / "home").mkdir()
    environment = folder / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True, timeout=300)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder)


@pytest.fixture(scope="module")
def project(installed: Installed, copy_descriptor: Path) -> Path:
    """A project with the colours, made by the command."""
    pictures = write_colours(installed.folder / "my pictures" / "colours")
    network = write_tiny_network(installed.folder / "tiny network.onnx")
    folder = installed.folder / "my fruit"
    installed.imgclf("new", folder, "--images", pictures, cwd=installed.folder)
    installed.imgclf("set", f"backbone={network}", "input_size=32", "svm_c=0.1,1", cwd=folder)
    (folder / "networks").mkdir()
    shutil.copy(copy_descriptor, folder / "networks")
    return folder


def test_the_wheel_holds_notebooks_manifests_pages_and_scripts_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packed = {
        "notebooks": [path.name for path in (ROOT / "notebooks").glob("*.*")],
        "data_manifest": [path.name for path in (ROOT / "data_manifest").iterdir()],
        "service/page": [path.name for path in (ROOT / "imgclf" / "service" / "page").iterdir()],
        "widgets": [
            path.name for path in (ROOT / "imgclf" / "widgets").iterdir() if path.suffix in (".js", ".css")
        ],
        "cntk": ["requirements.txt", "environment.yml"],
        "cli/labconfig": ["default_setting_overrides.json"],
    }
    assert {f"imgclf/{folder}/{name}" for folder, found in packed.items() for name in found} <= set(names)
    assert {name.split("/")[0] for name in names} <= {
        "imgclf",
        f"{wheel.name.rpartition('-py3')[0]}.dist-info",
    }


def test_the_clone_is_not_imported(installed):
    code = "import imgclf.files as f, imgclf.collect.manifest as m; print(f.CLONE, m.find('clothing'), f.__file__)"
    python = installed.folder / "an environment" / "bin" / "python"
    found = subprocess.run(
        [python, "-c", code], cwd=installed.folder, env=installed.environment, capture_output=True, text=True
    )
    assert found.stdout.startswith(f"None {installed.folder}") and str(ROOT) not in found.stdout, found


@pytest.mark.notebooks
def test_a_new_project_runs_from_a_folder_below_it(installed, project):
    (project / "deep" / "below").mkdir(parents=True)
    printed = installed.imgclf("run", cwd=project / "deep" / "below")
    assert 'dataset_name = "colours" (imgclf.toml)' in printed and "input_size = 32 (imgclf.toml)" in printed
    assert "overall accuracy" in printed and str(project / "proc" / "colours" / "classifier.onnx") in printed
    assert (project / "proc" / "colours" / "evaluation.json").is_file()
    (executed,) = (project / "runs").rglob("02_refine_dnn.ipynb")
    assert "input_size = 32 (imgclf.toml; the cell has the default)" in str(
        nbformat.read(executed, as_version=4).cells[2].outputs
    )
    again = installed.imgclf("run", cwd=project)
    assert again.count("up to date") >= 5 and "runs:" not in again


def test_notebooks_of_the_wheel_are_found_without_a_project(installed):
    code = "from imgclf.experiments import notebooks; print(*[path.stem for path in notebooks.paths()])"
    python = installed.folder / "an environment" / "bin" / "python"
    found = subprocess.run(
        [python, "-c", code], cwd=installed.folder, env=installed.environment, capture_output=True, text=True
    )
    assert found.stdout.split() == [path.stem for path in notebooks.shipped()]


def test_lab_without_a_project_names_imgclf_new(installed):
    ended = subprocess.run(
        installed.command("lab"),
        cwd=installed.folder,
        env=installed.environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "make a project with imgclf new FOLDER" in ended.stderr


@pytest.fixture
def server(installed: Installed, project: Path) -> Iterator[dict[str, str]]:
    """What a running `imgclf lab` says of itself."""
    options = ("--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0")
    with (installed.folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            installed.command("lab", *options),
            cwd=project / "notebooks",
            env=installed.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(10 * START_SECONDS):
            found = [path.read_text() for path in (installed.folder / "runtime").glob("jpserver-*.json")]
            if any(found):
                break
            assert process.poll() is None, (installed.folder / "lab.log").read_text()
            time.sleep(0.1)
        yield json.loads(next(filter(None, found)))
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.service
def test_lab_opens_the_project_and_asks_for_no_news(server, project):
    assert server["root_dir"] == str(project)
    with httpx.Client(
        base_url=server["url"],
        headers={"Authorization": f"token {server['token']}"},
        trust_env=False,
        timeout=60,
    ) as client:
        start = client.get("lab", follow_redirects=True)
        settings = (
            client.get("lab/api/settings/@jupyterlab/apputils-extension:notification")
            .raise_for_status()
            .json()
        )
        opened = client.get("/", follow_redirects=False).headers["location"]
    assert start.status_code == 200
    properties = settings["schema"]["properties"]
    assert (properties["fetchNews"]["default"], properties["checkForUpdates"]["default"]) == ("false", False)
    assert opened.partition("?")[0] == "/lab/tree/notebooks/01_prepare_data.ipynb"

"""What docs/cluster.md says to type, and the files of deploy/cluster, fit Dask, Kubernetes and each other."""

import operator
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from imgclf import ImgclfError
from imgclf.images.workers import CERTIFICATES, connected
from support.project import ROOT

pytest.importorskip("distributed", reason="needs pip install 'imgclf[cluster]'")
import dask
import dockerfile
from distributed.cli import dask_scheduler, dask_ssh, dask_worker

from support import dask_cluster

PAGE = (ROOT / "docs" / "cluster.md").read_text()
FOLDER = ROOT / "deploy" / "cluster"
MANIFESTS = list(yaml.safe_load_all((FOLDER / "cluster.yaml").read_text()))
SCHEDULER, SERVICE, WORKER, POLICY = MANIFESTS
PROGRAMS = {"scheduler": dask_scheduler.main, "worker": dask_worker.main, "ssh": dask_ssh.main}
TYPED = re.findall(r"\bdask ((?:scheduler|worker|ssh) [^#'`\n]*)", PAGE)
STARTED = [
    shlex.join(pod["spec"]["template"]["spec"]["containers"][0]["command"][1:]) for pod in (SCHEDULER, WORKER)
]


@pytest.mark.parametrize("line", [*TYPED, *STARTED])
def test_dask_takes_the_options(line, tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    program, *options = shlex.split(line.replace("~/cluster_keys", str(tmp_path)))
    assert PROGRAMS[program].make_context(program, options).params


def test_the_commands_of_the_page_are_found():
    assert {line.split()[0] for line in TYPED} == set(PROGRAMS) and len(TYPED) >= 5


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_manifests_are_valid(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_labels_and_ports_of_the_manifests_match():
    for pod in (SCHEDULER, WORKER):
        labels = pod["spec"]["template"]["metadata"]["labels"]
        assert pod["metadata"]["labels"] == pod["spec"]["selector"]["matchLabels"] == labels
        assert POLICY["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert pod["spec"]["template"]["spec"]["containers"][0]["image"] in PAGE
    assert SERVICE["spec"]["selector"] == SCHEDULER["metadata"]["labels"] != WORKER["metadata"]["labels"]
    (port,) = SERVICE["spec"]["ports"]
    assert f"tcp://{SERVICE['metadata']['name']}:{port['port']}" in STARTED[1]
    for name in (f"service/{SERVICE['metadata']['name']}", f"deployment/{WORKER['metadata']['name']}"):
        assert name in PAGE


def test_build_context_contains_exactly_the_copied_files():
    steps = dockerfile.parse_file(str(FOLDER / "Dockerfile"))
    copied = {name for step in steps if step.cmd == "COPY" for name in step.value[:-1]}
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_cluster_of_slurm_takes_the_certificates(monkeypatch):
    jobqueue = types.ModuleType("dask_jobqueue")
    jobqueue.SLURMCluster = lambda **given: types.SimpleNamespace(
        **given, scale=lambda jobs: None, scheduler_address=""
    )
    monkeypatch.setitem(sys.modules, "dask_jobqueue", jobqueue)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "SLURM" in block)
    names: dict = {}
    exec(code, names)
    assert names["cluster"].protocol == "tls://"
    arguments = names["security"].get_tls_config_for_role("worker")
    assert {
        key: value.rpartition("/")[2] for key, value in arguments.items() if value and "/" in str(value)
    } == {
        "ca_file": "cert.pem",
        "cert": "cert.pem",
        "key": "key.pem",
    }


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the program openssl")
def test_a_cluster_with_the_certificate_of_the_page_lets_in_who_has_it(tmp_path):
    made = re.search(r"^openssl .*$", PAGE, re.MULTILINE)
    assert made
    subprocess.run(shlex.split(made[0]), cwd=tmp_path, check=True, capture_output=True)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    options = ("--protocol", "tls", "--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    variables = dict(zip(CERTIFICATES.values(), (cert, cert, key), strict=True))
    for variable, file in variables.items():
        assert f"export {variable}=~/cluster_keys/{Path(file).name}\n" in PAGE
    before = dask.config.get("distributed.comm.tls")
    settings = dask.config.collect_env(variables)["distributed"]["comm"]["tls"]
    with (
        dask.config.set({"distributed.comm.tls": dask.config.merge(before, settings)}),
        dask_cluster.running(tmp_path, workers=1, options=options) as cluster,
    ):
        with connected(cluster.address) as used:
            assert cluster.address.startswith("tls://") and used.call(operator.add, 1, 2) == 3
        with (
            dask.config.set({"distributed.comm.tls.client.cert": None}),
            connected(cluster.address) as used,
            pytest.raises(ImgclfError, match="CLIENT__CERT must name a file .* it is not set"),
        ):
            used.call(operator.add, 1, 2)

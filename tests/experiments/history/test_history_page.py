"""MLflow's page of the run history: for this machine's user alone, and ended by Ctrl-C with all of its processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from imgclf import ImgclfError
from imgclf.experiments.history import runs, tracking
from support.mlflow_copies import free_port, with_client

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.usefixtures("with_mlflow")]

COMMAND = "import sys; sys.argv[0] = 'imgclf'; from imgclf.cli import main; main()"


@pytest.fixture(autouse=True)
def own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@contextmanager
def opened(*options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """`imgclf history` in a process of its own, and the URL that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "history", "--no-browser", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def finished() -> runs.Run:
    return runs.finish(runs.start(runs.BY_RUN, "fruit", {}), metrics={"overall accuracy": 0.5})


def processes_with(text: str) -> list[str]:
    """The command lines of running processes that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if text in line]


def addresses_listening_on(port: int) -> list[str]:
    """The addresses, in hexadecimal as Linux lists them, that a port listens on."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [
        line[1].split(":")[0] for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port
    ]


def test_the_page_is_for_this_machines_user_alone_and_ctrl_c_ends_all_of_it():
    run, port = finished(), free_port()
    with opened("--port", str(port)) as (process, url):
        root, (before, _) = f"http://127.0.0.1:{port}", url.split("#")
        path = before.removeprefix(root)
        assert len(path) > 40 and addresses_listening_on(port) == ["0100007F"]
        assert path.strip("/") not in " ".join(processes_with("mlflow"))  # which other users can list
        assert "MLflow" in httpx.get(before).raise_for_status().text
        found = httpx.get(f"{before}api/2.0/mlflow/experiments/get-by-name?experiment_name=fruit")
        assert found.json()["experiment"]["name"] == "fruit"
        query = {"experiment_ids": [found.json()["experiment"]["experiment_id"]]}
        (copy,) = httpx.post(f"{before}api/2.0/mlflow/runs/search", json=query).json()["runs"]
        assert copy["info"]["run_name"] == run.name
        for guess in (
            "/",
            "/api/2.0/mlflow/experiments/search?max_results=5",
            "/ajax-api/2.0/mlflow/experiments/search?max_results=5",
            "/graphql",
            "/api/2.0/mlflow-artifacts/artifacts",
        ):
            assert httpx.get(f"{root}{guess}").status_code == 404, guess
        assert httpx.get(before, headers={"Host": "example.com"}).status_code == 403
        foreign = {"Origin": "http://example.com"}
        assert (
            httpx.post(f"{before}api/2.0/mlflow/runs/search", json=query, headers=foreign).status_code == 403
        )
        with_client(
            "client.set_tag(sys.argv[1], 'mlflow.note.content', 'from the page')", copy["info"]["run_id"]
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert processes_with(f"--port {port}") == [] and addresses_listening_on(port) == []
    assert runs.find(run.id).note == "from the page"


def test_ending_the_command_ends_the_server():
    finished()
    port = free_port()
    with opened("--port", str(port)) as (process, _):
        process.send_signal(signal.SIGHUP)  # as a terminal that is closed sends
        process.wait(60)
    assert processes_with(f"--port {port}") == []


def test_of_a_server_of_the_team_the_page_is_printed(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example.com/team")
    with opened() as (process, url):
        assert url == "http://mlflow.example.com/team"
        assert process.wait(30) == 0


def test_a_module_in_the_data_folder_is_not_run(data_dir):
    finished()
    (data_dir / "mlflow.py").write_text("open('started', 'w')")
    with tracking.page() as url:
        assert httpx.get(url.partition("#")[0]).is_success
    assert not (data_dir / "started").exists()


def test_a_port_in_use_is_named():
    finished()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ImgclfError, match=f"--port {port}: Address already in use; give another"),
            tracking.page(port),
        ):
            pass


def test_without_a_run_or_without_mlflow_the_remedy_is_named(monkeypatch):
    with pytest.raises(ImgclfError, match="no run in .* yet; imgclf run makes one"), tracking.page():
        pass
    monkeypatch.setattr(tracking, "is_installed", lambda: False)
    with (
        pytest.raises(
            ImgclfError, match=r"imgclf history needs the package mlflow; pip install 'imgclf\[history\]'"
        ),
        tracking.page(),
    ):
        pass


def test_a_server_that_does_not_start_says_why():
    finished()
    (Path(os.environ["IMGCLF_DATA"]) / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(ImgclfError, match="MLflow's page did not start: "), tracking.page():
        pass

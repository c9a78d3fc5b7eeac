"""What MLflow holds, read by its own client in a process of its own: it loads much, and warns."""

import atexit
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from imgclf.experiments.history import tracking

# Loading MLflow takes seconds, so one process loads it, and a fork of that runs the code of each request.
FORKS = """
import contextlib, io, json, os, sys, traceback
import mlflow.store.tracking.sqlalchemy_store
from mlflow import MlflowClient
for line in sys.stdin:
    asked = json.loads(line)
    if not os.fork():
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.argv, printed, error = ["", *asked["arguments"]], io.StringIO(), ""
        try:
            with contextlib.redirect_stdout(printed):
                exec(asked["code"], {"sys": sys, "client": MlflowClient(asked["uri"])})
        except BaseException:
            error = traceback.format_exc()
        print(json.dumps([printed.getvalue(), error]), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print(json.dumps(["", "the process was killed"]), flush=True)
"""
READ = """
import json
from mlflow.entities import ViewType
copies = []
for experiment in client.search_experiments(view_type=ViewType.ALL):
    for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
        run = client.get_run(run.info.run_id)  # with all metrics
        curves = {key: [[p.step, p.value] for p in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics} if len(run.data.metrics) < 100 else {}
        folders, artifacts = [None], []
        while folders:
            for each in client.list_artifacts(run.info.run_id, folders.pop()):
                (folders if each.is_dir else artifacts).append(each.path)
        copies.append({"id": run.info.run_id, "experiment": experiment.name, "name": run.info.run_name, "status": run.info.status, "stage": run.info.lifecycle_stage, "start": run.info.start_time, "end": run.info.end_time, "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags, "curves": curves, "artifacts": sorted(artifacts), "location": run.info.artifact_uri})
print(json.dumps(copies))
"""


@cache
def _forks() -> subprocess.Popen[str]:
    """The process that has loaded MLflow."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env=tracking.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(process.communicate)
    return process


def with_client(code: str, *arguments: str, uri: str = "") -> str:
    """The output of Python code that has a `client` of MLflow."""
    asked = {
        "code": code,
        "arguments": arguments,
        "uri": uri or tracking.own_uri(),
        "environment": tracking.environment(),
        "folder": os.getcwd(),
    }
    process = _forks()
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    printed, error = json.loads(process.stdout.readline())
    assert not error, error
    return printed


def copies(uri: str = "") -> list[dict[str, Any]]:
    """Each run that MLflow has, also deleted ones; newest first within an experiment."""
    return json.loads(with_client(READ, uri=uri))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A server of MLflow with an empty store, on a port; gives its URL."""
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    stored = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1", *stored],
            env={**tracking.environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process, folder / "log")
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(f"{url}/health").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())

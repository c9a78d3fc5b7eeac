"""The copy of the run history in MLflow, made by a process of its own: nothing of MLflow is loaded here."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

from imgclf import ImgclfError, files
from imgclf.experiments.history import mlflow_terms, runs

DATABASE, ARTIFACTS = "mlflow.db", "mlflow_artifacts"  # in the data folder
TO_DELETE = ".to_delete"  # below runs/: a file for each deleted run that MLflow still has
SECONDS = 60  # that handing in may take
START_SECONDS, STOP_SECONDS = 120, 10  # of MLflow's server
COMMAND = [sys.executable, "-P", "-m", "imgclf.experiments.history.mlflow_store"]
AHEAD = "ahead"  # argument of COMMAND: wait for a line on stdin before handing in
SQLITE = "sqlite:///"  # of a URI, before the path
INSTALL = "pip install 'imgclf[history]'"
Process = subprocess.Popen[str]
OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# With `-m`, Python looks for modules in the working directory first: a mlflow.py there would run.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# A server that is gone costs a few seconds, once; what it misses is handed in with the next run.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

# No connection stays open: the database may be deleted while a process waits to hand in.
NO_POOL = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}


def is_installed() -> bool:
    """Return whether MLflow is installed; it is not loaded."""
    return find_spec("mlflow") is not None


def own_uri() -> str:
    """Return the URI of the database in the data folder."""
    return f"sqlite:///{(files.data_dir() / DATABASE).as_posix()}"


def uri() -> str:
    """Return where runs are handed in: `$MLFLOW_TRACKING_URI`, or the database in the data folder.

    The path of a SQLite database is relative to the data folder.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or own_uri()
    path = given.removeprefix(SQLITE)
    if path == given or not path or path.startswith((":memory:", "file:")) or Path(path).is_absolute():
        return given
    return f"{SQLITE}{(files.data_dir() / path).as_posix()}"


def is_server() -> bool:
    """Return whether runs are handed in to a server, which has a page already."""
    return uri().startswith(("http:", "https:"))


def without_password(text: str) -> str:
    """Return a URI without user name and password, as it may be shown and stored."""
    parts = urlsplit(text)
    if parts.scheme == "sqlite" or "@" not in parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def environment() -> dict[str, str]:
    """Return the environment variables of a process that loads MLflow: no telemetry, no long waiting, and no
    modules from the working directory.
    """
    return {**PATIENCE, **NO_POOL, **os.environ, **OFF, **SAFE_PATH}


@contextmanager
def prepared() -> Iterator[Process | None]:
    """Start the process that hands in runs, for `hand_in_all` in the block; None without MLflow.

    It loads MLflow and makes its database while the block does something else: that takes seconds.
    """
    with ExitStack() as stack:
        process = None
        with suppress(OSError):  # `hand_in_all` tries again, and says it
            process = stack.enter_context(_started(AHEAD)) if is_installed() else None
        yield process


@contextmanager
def _started(*arguments: str) -> Iterator[Process]:
    """Start a process that hands in runs; it ends with the block.

    Raises
    ------
    OSError : it cannot be started.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def hand_in_all(
    *, seconds: float | None = SECONDS, is_forced: bool = False, process: Process | None = None
) -> str:
    """Hand in to MLflow what it lacks, and take over what a person changed on MLflow's page.

    New runs, deletions, and changed names, notes and tags. Without MLflow nothing is done.

    Parameters
    ----------
    seconds : after which it is given up, or None; what is done by then stays.
    is_forced : also if nothing changed here. It takes seconds, and takes over what changed on MLflow's page.
    process : of `prepared`; by default, one is started.

    Returns
    -------
    A sentence for people if something could not be handed in; else "".
    """
    if not is_installed():
        is_wanted = bool(os.environ.get("MLFLOW_TRACKING_URI"))
        return f"MLFLOW_TRACKING_URI is set, but MLflow is not installed; {INSTALL}" if is_wanted else ""
    if not runs.root().is_dir() or not (is_forced or _is_something_new()):
        return ""
    if not (reason := _hand_in(seconds, process)):
        return ""
    return f"MLflow: {reason}; the runs are kept as files in runs/ and handed in with the next one"


def _is_something_new() -> bool:
    """Whether a run, a deletion, or a changed name, note or tag is not handed in yet; without MLflow."""
    key = without_password(uri())
    if uri() == own_uri() and not (files.data_dir() / DATABASE).is_file():
        return True
    if any((runs.root() / TO_DELETE).glob("*.json")):
        return True
    return any(
        not run.handed_in.get(key) or run.handed_in_edits.get(key) != mlflow_terms.Edited.of(run).as_text()
        for run in runs.all_runs()
        if run.status in (runs.FINISHED, runs.FAILED)
    )


def _hand_in(seconds: float | None, process: Process | None) -> str:
    """Return why something could not be handed in, or ""."""
    try:
        with nullcontext(process) if process and process.poll() is None else _started() as worker:
            printed, errors = worker.communicate("hand in\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:g} s; imgclf history takes the time it needs"
    except OSError as error:
        return f"no process could be started ({error.strerror})"
    try:
        return str(json.loads(printed.splitlines()[-1])["reason"])
    except (ValueError, LookupError, TypeError):  # it was killed, or could not even begin
        return (errors.strip().splitlines() or [f"exit code {worker.returncode}"])[-1]


def delete_later(run: runs.Run) -> None:
    """Note that a run was deleted here, so that MLflow's copy is deleted at the next chance.

    Raises
    ------
    ImgclfError : the folder cannot be written, or is a link.
    """
    if run.handed_in:
        files.write_json(files.not_linked(runs.root() / TO_DELETE) / f"{run.id}.json", dict(run.handed_in))


@contextmanager
def page(port: int = 0) -> Iterator[str]:
    """Serve MLflow's own page to this machine's user for the length of the block; gives its URL.

    The server listens on 127.0.0.1 alone, and answers only below a path that nobody can guess: neither other
    pages in the browser nor other users of the machine reach it. If `uri()` is a server, that is the page.

    Parameters
    ----------
    port : to listen on; 0: any free one.

    Raises
    ------
    ImgclfError : MLflow is not installed, the port is in use, or the server does not start.
    """
    if is_server():
        yield without_password(uri())
        return
    if not is_installed():
        raise ImgclfError(f"imgclf history needs the package mlflow; {INSTALL}")
    if not runs.root().is_dir():
        raise ImgclfError(f"no run in {files.data_dir()} yet; imgclf run makes one")
    port, path = _free(port), f"/{secrets.token_urlsafe()}"
    with tempfile.TemporaryFile() as log:
        server = _start_server(port, path, log)
        try:
            base = f"http://127.0.0.1:{port}{path}"
            _wait_for(f"{base}/health", server, log)
            yield f"{base}/#/experiments/{_newest_experiment(base)}/runs?workflowType=machine_learning"
        finally:
            _stop(server)


def _newest_experiment(base: str) -> str:
    """Return the id of the experiment with the newest run: MLflow's start page shows none of the runs."""
    import httpx

    query = {"max_results": 1, "order_by": ["last_update_time DESC"]}
    answer = httpx.post(f"{base}/ajax-api/2.0/mlflow/experiments/search", json=query, trust_env=False)
    return str(answer.raise_for_status().json()["experiments"][0]["experiment_id"])


def _free(port: int) -> int:
    """Return a port that can be listened on."""
    try:
        with socket.create_server(("127.0.0.1", port)) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ImgclfError(f"--port {port}: {reason}; give another, or none for any free one") from error


def _start_server(port: int, path: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start MLflow's server on a store; what others must not read of it is not in its arguments."""
    store = f"sqlite:///{DATABASE}" if uri() == own_uri() else uri()
    artifacts = (files.data_dir() / ARTIFACTS).as_uri()
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    options = ["--workers", "1", "--no-serve-artifacts", "--default-artifact-root", artifacts]
    settings = {
        "UVICORN_APP_DIR": os.devnull,  # it would put the working directory before all modules
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_STATIC_PREFIX": path,
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port},localhost:{port}",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return subprocess.Popen(
        [*command, *options],
        env=environment() | settings,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=files.data_dir(),  # "@" or "?" in its path would mean something else in a URI
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends all of the server's
    )


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Wait until the server answers.

    Raises
    ------
    ImgclfError : it ended, or does not answer.
    """
    import httpx

    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(url, trust_env=False).is_success:  # no proxy
                return
        time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise ImgclfError(f"MLflow's page did not start: {lines[-1] if lines else 'no answer'}")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server and all processes that it has started."""
    number = signal.SIGTERM
    while server.poll() is None:
        os.killpg(server.pid, number) if hasattr(os, "killpg") else server.kill()
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
        number = getattr(signal, "SIGKILL", number)
    with suppress(OSError):  # what its group still has
        os.killpg(server.pid, number) if hasattr(os, "killpg") else None

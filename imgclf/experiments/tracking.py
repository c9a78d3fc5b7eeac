"""The copy of the run history in MLflow, made by a process of its own: nothing of MLflow is loaded here."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

from imgclf import files
from imgclf.experiments import runs

DATABASE, ARTIFACTS = "mlflow.db", "mlflow_artifacts"  # in the data folder
TO_DELETE = ".to_delete"  # below runs/: a file for each deleted run that MLflow still has
SECONDS = 60  # that handing in may take
INSTALL = "pip install 'imgclf[history]'"
OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# A server that is gone costs a few seconds, once; what it misses is handed in with the next run.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def is_installed() -> bool:
    """Return whether MLflow is installed; it is not loaded."""
    return find_spec("mlflow") is not None


def own_uri() -> str:
    """Return the URI of the database in the data folder."""
    return f"sqlite:///{(files.data_dir() / DATABASE).as_posix()}"


def uri() -> str:
    """Return where runs are handed in: `$MLFLOW_TRACKING_URI`, or the database in the data folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri()


def without_password(text: str) -> str:
    """Return a URI without user name and password, as it may be shown and stored."""
    parts = urlsplit(text)
    if parts.scheme == "sqlite" or "@" not in parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def environment() -> dict[str, str]:
    """Return the environment variables of a process that loads MLflow: no telemetry, and no long waiting."""
    return {**PATIENCE, **os.environ, **OFF}


def hand_in_all(*, seconds: float = SECONDS) -> str:
    """Hand in to MLflow what it lacks, and take over what a person changed on MLflow's page.

    New runs, deletions, and changed names, notes and tags. Without MLflow nothing is done.

    Parameters
    ----------
    seconds : after which it is given up; what is done by then stays.

    Returns
    -------
    A sentence for people if something could not be handed in; else "".
    """
    if not is_installed():
        is_wanted = bool(os.environ.get("MLFLOW_TRACKING_URI"))
        return f"MLFLOW_TRACKING_URI is set, but MLflow is not installed; {INSTALL}" if is_wanted else ""
    if not runs.root().is_dir():
        return ""
    if not (reason := _hand_in(seconds)):
        return ""
    return f"MLflow: {reason}; the runs are kept as files in runs/ and handed in with the next one"


def _hand_in(seconds: float) -> str:
    """Return why something could not be handed in, or ""."""
    command = [sys.executable, "-m", "imgclf.experiments.mlflow_store"]
    try:
        ended = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:g} s"
    except OSError as error:
        return f"no process could be started ({error.strerror})"
    try:
        return str(json.loads(ended.stdout.splitlines()[-1])["reason"])
    except (ValueError, LookupError, TypeError):  # it was killed, or could not even begin
        return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]


def delete_later(run: runs.Run) -> None:
    """Note that a run was deleted here, so that MLflow's copy is deleted at the next chance.

    Raises
    ------
    ImgclfError : the folder cannot be written.
    """
    if run.handed_in:
        files.write_json(runs.root() / TO_DELETE / f"{run.id}.json", dict(run.handed_in))

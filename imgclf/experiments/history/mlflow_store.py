"""A process that hands in runs to MLflow; `tracking` starts it.

MLflow is loaded by functions alone, after `tracking` has set the environment.
"""

import itertools
import json
import os
import re
import secrets
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir, closing, contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from imgclf import ImgclfError, files
from imgclf.experiments.history import mlflow_terms, runs, tracking
from imgclf.experiments.history import run as records
from imgclf.experiments.history.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Copy

LOCK = ".mlflow.lock"  # in the data folder; SQLite and many writers do not mix
LOCK_SECONDS, DATABASE_SECONDS = 30, 10  # to wait for another process
MOST_PARAMETERS, MOST_METRICS, MOST_COPIES = 100, 400, 20  # of one request
COMPARE_SECONDS = 5  # hundreds of runs, unless each has thousands of metrics
WEIGHTS, WEIGHTS_IN = "imgclf.weights_sha256", "imgclf.weights_in_run"

MADE_AGAIN = "delete it, and it is made again from runs/"
NO_STORE = "MLFLOW_TRACKING_URI names neither a server nor a database"
# What people read, by a part of the message of SQLite, of a disk, or of a server.
REASONS = {
    "database is locked": "the database is locked",
    "file is not a database": f"mlflow.db is damaged; {MADE_AGAIN}",
    "malformed": f"mlflow.db is damaged; {MADE_AGAIN}",
    "disk is full": "the disk is full",
    "No space left": "the disk is full",
    "disk I/O error": "the disk is full, or damaged",
    "File too large": "the disk is full",
    "readonly database": "no permission to write mlflow.db",
    "Read-only file system": "the file system is read-only",
    "unable to open database": "no permission to write mlflow.db",
    "out-of-date database": f"mlflow.db is of another version of MLflow; {MADE_AGAIN}",
    "unsupported URI": NO_STORE,
    "filesystem tracking backend": NO_STORE,
    "timed out": "{server} does not answer",
    "Max retries exceeded": "no connection to {server}",
}


@dataclass(frozen=True)
class Store:
    """Where runs are handed in.

    Attributes
    ----------
    client : MLflow's. uri : without a password, as `Run.handed_in` has it.
    location : of the artefacts of new experiments; None if the server knows.
    """

    client: "MlflowClient"
    uri: str
    location: str | None

    def id_of(self, run: Run) -> str:
        """Return the id of a run's copy; "" if it is not handed in."""
        found = run.handed_in.get(self.uri, "")
        return found if re.fullmatch(r"[\w-]+", found) else ""  # it gets into a query


def main(arguments: Sequence[str]) -> None:
    """Hand in all runs; the last line of stdout says why something is left.

    Parameters
    ----------
    arguments : with `tracking.AHEAD`, load and connect first, and wait for a line on stdin; do nothing if it
        is closed.
    """
    if tracking.AHEAD in arguments:
        with suppress(Exception), _store():  # what fails is tried again, and then said
            pass
        if not sys.stdin.readline():
            return
    reason = ""
    try:
        with _store() as store:
            reason = hand_in(store)
    except Exception as error:  # of SQLite, the disk, a server, MLflow: no run fails for it
        reason = why(error)
    print("\n" + json.dumps({"reason": reason}))


@contextmanager
def _store() -> Iterator[Store]:
    """Connect to the store, which no other process hands in to during the block."""
    import mlflow  # noqa: F401  # takes seconds, in which others may hold the lock

    held = files.acquire(files.data_dir() / LOCK, seconds=LOCK_SECONDS)
    try:
        yield connect()
    finally:
        held.release()


def why(error: Exception) -> str:
    """Return in a sentence why something could not be handed in."""
    server = tracking.without_password(tracking.uri())
    if isinstance(error, Timeout):
        return "another process hands in runs"
    text = f"{error} {getattr(error, 'strerror', '')}"
    for part, reason in REASONS.items():
        if part in text:
            return reason.format(server=server)
    first = str(error).partition("\n")[0] or type(error).__name__
    return first.replace(tracking.uri(), server)[:300].rstrip(". ")


def connect() -> Store:
    """Return the store of `tracking.uri()`; without one, a database is made in the data folder.

    Raises
    ------
    sqlite3.Error : the database is locked, damaged or cannot be written.
    """
    uri, folder = tracking.uri(), files.data_dir()
    location = None if tracking.is_server() else (folder / tracking.ARTIFACTS).as_uri()
    if uri != tracking.own_uri():
        from mlflow import MlflowClient

        return Store(MlflowClient(uri), tracking.without_password(uri), location)
    database = files.not_linked(folder / tracking.DATABASE)
    if not database.exists() or not database.stat().st_size:
        _make_database(database)
    with _exclusive(database) as connection:
        _follow_folder(connection, (folder / tracking.ARTIFACTS).as_uri())
    return Store(_client_of(database), uri, location)


@contextmanager
def _exclusive(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to write into it; MLflow repeats for minutes what SQLite refuses at once."""
    with closing(sqlite3.connect(database, timeout=DATABASE_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


def _make_database(database: Path) -> None:
    """Make an empty database of MLflow, as a whole: it does not repair one that a full disk cut short."""
    for left in database.parent.glob(f".{database.name}.*.part"):  # by a process that was killed
        left.unlink(missing_ok=True)
    # MLflow knows a database by its path: one of the same path would get no tables again.
    temporary = database.with_name(f".{database.name}.{secrets.token_hex(4)}.part")
    try:
        with _exclusive(temporary):
            pass
        _client_of(temporary)
        for run in runs.all_runs():
            if run.handed_in.get(tracking.own_uri()):  # into one that is gone
                with suppress(ImgclfError):  # it was deleted meanwhile
                    runs.note_handed_in(run, tracking.own_uri(), "")
        os.replace(temporary, database)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _client_of(database: Path) -> "MlflowClient":
    """Return a client whose tables are there."""
    from mlflow import MlflowClient

    with chdir(database.parent):  # "@" or "?" in its path would mean something else in a URI
        client = MlflowClient(f"sqlite:///{database.name}")
        client.search_experiments(max_results=1)
    return client


def _follow_folder(connection: sqlite3.Connection, location: str) -> None:
    """Set all paths of artefacts to the data folder, which was moved, copied, or sent by somebody else."""
    connection.execute("UPDATE experiments SET artifact_location = ?", (location,))
    connection.execute("UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts'", (location,))


def hand_in(store: Store) -> str:
    """Hand in what changed here, and take over what changed on MLflow's page.

    Returns
    -------
    Why something is left, or "".
    """
    from mlflow.exceptions import MlflowException

    _delete_pending(store)
    history = [run for run in runs.all_runs() if run.status in (runs.FINISHED, runs.FAILED)]
    reason = ""
    for run in reversed([run for run in history if not store.id_of(run)]):
        try:
            _hand_in_one(store, run)
        except (OSError, ImgclfError, MlflowException) as error:
            reason = reason or why(error)
            if not _is_of_one_run(error):
                break  # the others would fail too, and each may take seconds
    if not reason:
        _compare(store, [run for run in history if store.id_of(run)])
    return reason


def _is_of_one_run(error: Exception) -> bool:
    """Whether it is an error of this run alone: it was deleted meanwhile, or MLflow refuses it."""
    refused = getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
    return refused or isinstance(error, FileNotFoundError | ImgclfError)


def _hand_in_one(store: Store, run: Run) -> None:
    """Hand in a run; one that an earlier process had begun is continued."""
    experiment = _experiment(store, run.dataset_name)
    copy = _copy_of(store, experiment, run) or store.client.create_run(
        experiment,
        start_time=mlflow_terms.milliseconds(run),
        run_name=mlflow_terms.Edited.of(run).name,
        tags={mlflow_terms.ID: run.id, "mlflow.user": _user()},
    )
    edits = ""
    if copy.info.status == "RUNNING":
        edits = mlflow_terms.Edited.of(run).as_text()
        _log(store.client, copy.info.run_id, run)
        _store_files(store.client, copy, run)
        ended = mlflow_terms.milliseconds(run) + round(1000 * sum(run.seconds.values()))
        store.client.set_terminated(copy.info.run_id, run.status.upper(), ended)
    runs.note_handed_in(run, store.uri, copy.info.run_id, edits)


def _user() -> str:
    """Return who hands in, as MLflow's own functions do."""
    with suppress(OSError, KeyError, ImportError):  # a container may know no name
        return getuser()
    return "unknown"


def _experiment(store: Store, dataset_name: str) -> str:
    """Return the id of a data set's experiment; a new one if it was deleted on MLflow's page."""
    for number in itertools.count(1):
        name = (dataset_name or "no data set") + (f" ({number})" if number > 1 else "")
        found = store.client.get_experiment_by_name(name)
        if found is None:
            kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page shows chats first
            return str(store.client.create_experiment(name, store.location, kind))
        if found.lifecycle_stage == "active":
            return str(found.experiment_id)
    raise AssertionError  # the loop has no end


def _copy_of(store: Store, experiment: str, run: Run) -> "Copy | None":
    """Return the copy of a run, also one that was deleted on MLflow's page."""
    from mlflow.entities import ViewType

    wanted = f"tags.`{mlflow_terms.ID}` = '{run.id}'"
    return next(iter(store.client.search_runs([experiment], wanted, ViewType.ALL, max_results=1)), None)


def _log(client: "MlflowClient", run_id: str, run: Run) -> None:
    """Log parameters, metrics and tags; what was logged already stays as it is."""
    from mlflow.entities import Metric, Param, RunTag

    started = mlflow_terms.milliseconds(run)
    parameters = [Param(key, text) for key, text in mlflow_terms.parameters(run).items()]
    tags = [RunTag(key, text) for key, text in mlflow_terms.tags(run).items()]
    metrics = [Metric(key, value, started, step) for key, step, value in mlflow_terms.metrics(run)]
    for some in _batches(parameters, MOST_PARAMETERS):
        client.log_batch(run_id, params=some)
    for some in _batches(tags, MOST_PARAMETERS):
        client.log_batch(run_id, tags=some)
    for some in _batches(metrics, MOST_METRICS):
        client.log_batch(run_id, metrics=some)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    everything = list(items)
    return (everything[start : start + size] for start in range(0, len(everything), size))


def _store_files(client: "MlflowClient", copy: "Copy", run: Run) -> None:
    """Store the files of a run; the weights of its network only if no other copy has them."""
    for path in sorted(run.folder.rglob("*")):
        inside = path.relative_to(run.folder)
        is_hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not path.is_symlink() and not is_hidden and path.name != records.RECORD:
            _store_file(client, copy, path, inside.parent.as_posix())
    if not (sha256 := _weights_of(run)):
        return
    wanted = f"tags.`{WEIGHTS}` = '{sha256}'"
    others = client.search_runs([copy.info.experiment_id], wanted, max_results=1)
    if others and others[0].info.run_id != copy.info.run_id:
        client.set_tag(copy.info.run_id, WEIGHTS_IN, others[0].info.run_id)
    elif (weights := files.not_linked(runs.root() / runs.WEIGHTS) / sha256).is_file():
        _store_file(client, copy, files.not_linked(weights), runs.WEIGHTS)
        client.set_tag(copy.info.run_id, WEIGHTS, sha256)


def _weights_of(run: Run) -> str:
    """Return the sha256 of the weights of a run's classifier; "" without one."""
    from imgclf.classifier import storage

    with suppress(ImgclfError):  # damaged
        if storage.is_stored(run.folder):
            return storage.weights_of(run.folder)
    return ""


def _store_file(client: "MlflowClient", copy: "Copy", path: Path, folder: str) -> None:
    """Store a file as an artefact. On this disk it is a hard link, which needs no space.

    Files of a run are replaced, never written into, so the two do not change each other.
    """
    target = _artifacts_here(copy)
    if target is None:
        client.log_artifact(copy.info.run_id, str(path), "" if folder == "." else folder)
        return
    root, target = target.parents[1], target / folder / path.name
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise ImgclfError(f"{target.parent}: a link leads out of {root}; remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links, or another one
        shutil.copyfile(path, target)


def _artifacts_here(copy: "Copy") -> Path | None:
    """Return the folder of a copy's artefacts in the data folder; None if its server has another place.

    What the database in the data folder says does not count: somebody else may have written it.

    Raises
    ------
    ImgclfError : it would be outside of the data folder.
    """
    root = files.data_dir() / tracking.ARTIFACTS
    path = root / copy.info.run_id / "artifacts"
    if tracking.uri() != tracking.own_uri() and copy.info.artifact_uri != path.as_uri():
        return None
    if not records.ID.fullmatch(copy.info.run_id):
        raise ImgclfError(f"mlflow.db is damaged; {MADE_AGAIN}")
    return files.not_linked(root) / copy.info.run_id / "artifacts"


def _compare(store: Store, handed_in: list[Run]) -> None:
    """Take over names, notes and tags changed on MLflow's page, and hand in those changed here.

    What was changed in both places is taken from here. Deleted copies are left alone. The newest runs come
    first; after `COMPARE_SECONDS` the others wait for another time.
    """
    deadline = time.monotonic() + COMPARE_SECONDS
    experiments = [each.experiment_id for each in store.client.search_experiments()]
    for some in _batches(handed_in, MOST_COPIES):
        if time.monotonic() > deadline:
            return
        by_id = {store.id_of(run): run for run in some}
        wanted = f"attributes.run_id IN ({', '.join(map(repr, by_id))})"
        for copy in store.client.search_runs(experiments, wanted, max_results=MOST_COPIES):
            run = by_id[copy.info.run_id]
            if copy.data.tags.get(mlflow_terms.ID) == run.id:  # else it is of somebody else
                by_id[copy.info.run_id] = _compare_one(store.client, copy, run)
        for run_id, run in by_id.items():
            edits = mlflow_terms.Edited.of(run).as_text()
            if run.handed_in_edits.get(store.uri) != edits:
                with suppress(ImgclfError):  # it was deleted meanwhile
                    runs.note_handed_in(run, store.uri, run_id, edits)


def _compare_one(client: "MlflowClient", copy: "Copy", run: Run) -> Run:
    """Let a run and its copy have the same name, note and tags; return the run."""
    ours, theirs = mlflow_terms.Edited.of(run), mlflow_terms.Edited.of_copy(copy)
    if ours == theirs and mlflow_terms.STATE in copy.data.tags:
        return run
    with suppress(ValueError, AttributeError, ImgclfError):  # of a tag, or a name, that a person emptied
        handed_in = json.loads(copy.data.tags.get(mlflow_terms.STATE, "{}"))
        here, there = ours.hashes(), theirs.hashes()
        taken = {key for key in here if here[key] == handed_in.get(key, here[key]) != there[key]}
        values = {"name": theirs.name, "note": theirs.note, "tags": theirs.tags_as_here()}
        changes: dict[str, Any] = {key: value for key, value in values.items() if key in taken}
        run = runs.change(run, **changes) if changes else run
        ours = mlflow_terms.Edited.of(run)
    _change_copy(client, copy.info.run_id, ours, theirs)
    return run


def _change_copy(
    client: "MlflowClient", run_id: str, ours: mlflow_terms.Edited, theirs: mlflow_terms.Edited
) -> None:
    """Let a copy have the name, note and tags of its run."""
    if ours.name != theirs.name:
        client.update_run(run_id, name=ours.name)
    for key in theirs.tags.keys() - ours.tags.keys():
        client.delete_tag(run_id, key)
    for key, text in {**ours.tags, mlflow_terms.NOTE: ours.note, mlflow_terms.STATE: ours.as_text()}.items():
        client.set_tag(run_id, key, text)


def _delete_pending(store: Store) -> None:
    """Delete copies of runs that were deleted here, and in the data folder their artefacts."""
    from mlflow.exceptions import MlflowException

    for path in files.not_linked(runs.root() / tracking.TO_DELETE).glob("*.json"):
        if not records.ID.fullmatch(path.stem):
            continue
        copies = files.read_json(path, {})
        if run_id := str(copies.pop(store.uri, "")):
            try:
                copy = store.client.get_run(run_id)
                is_copy = copy.data.tags.get(mlflow_terms.ID) == path.stem  # else it is of somebody else
                if is_copy:
                    _hand_over_weights(store.client, copy)
                    store.client.delete_run(run_id)
                if is_copy and (folder := _artifacts_here(copy)):
                    shutil.rmtree(folder.parent, ignore_errors=True)
            except MlflowException as error:
                if not _is_of_one_run(error):  # as one that was deleted there already
                    raise
        if copies:
            files.write_json(path, copies)
        else:
            path.unlink()


def _hand_over_weights(client: "MlflowClient", copy: "Copy") -> None:
    """Give the weights in a copy that is deleted to another that names it; the others then name that one."""
    sha256 = copy.data.tags.get(WEIGHTS, "")
    if not re.fullmatch("[0-9a-f]{64}", sha256):  # it gets into a path
        return
    wanted = f"tags.`{WEIGHTS_IN}` = '{copy.info.run_id}'"
    others = list(client.search_runs([copy.info.experiment_id], wanted))
    folder = _artifacts_here(copy)
    places = [folder / runs.WEIGHTS / sha256] if folder else []
    found = [path for path in (*places, runs.root() / runs.WEIGHTS / sha256) if path.is_file()]
    if not others or not found:
        return
    heir, *rest = others
    _store_file(client, heir, found[0], runs.WEIGHTS)
    client.set_tag(heir.info.run_id, WEIGHTS, sha256)
    client.delete_tag(heir.info.run_id, WEIGHTS_IN)
    for other in rest:
        client.set_tag(other.info.run_id, WEIGHTS_IN, heir.info.run_id)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A process that hands in runs to MLflow; `tracking` starts it.

MLflow is loaded by functions alone, after `tracking` has set the environment.
"""

import hashlib
import itertools
import json
import math
import os
import re
import shutil
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, closing, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from imgclf import ImgclfError, files
from imgclf.experiments import run as records
from imgclf.experiments import runs, tracking
from imgclf.experiments.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.entities import Run as Copy

LOCK = ".mlflow.lock"  # in the data folder; SQLite and many writers do not mix
LOCK_SECONDS, DATABASE_SECONDS = 30, 10  # to wait for another process
LONGEST_KEY, LONGEST_NAME, LONGEST_PARAMETER, LONGEST_TAG = 250, 250, 6000, 8000  # letters
MOST_PARAMETERS, MOST_METRICS, PAGE = 100, 400, 100  # of one request
ID, STATE = "imgclf.id", "imgclf.handed_in"  # tags: which run it is a copy of; hashes of what people change
WEIGHTS, WEIGHTS_IN = "imgclf.weights_sha256", "imgclf.weights_in_run"
NOTE = "mlflow.note.content"
NOT_OF_PEOPLE = ("mlflow.", "imgclf.")  # beginnings of tags

MADE_AGAIN = "delete it, and it is made again from runs/"
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
    is_new : whether the database was just made.
    """

    client: "MlflowClient"
    uri: str
    location: str | None
    is_new: bool = False

    def id_of(self, run: Run) -> str:
        """Return the id of a run's copy; "" if it is not handed in."""
        found = "" if self.is_new else run.handed_in.get(self.uri, "")
        return found if re.fullmatch(r"[\w-]+", found) else ""  # it gets into a query


def main() -> None:
    """Hand in all runs; the last line of stdout says why something is left."""
    reason = ""
    try:
        import mlflow  # noqa: F401  # takes seconds, in which others may hold the lock

        held = files.acquire(files.data_dir() / LOCK, seconds=LOCK_SECONDS)
        try:
            reason = hand_in(connect())
        finally:
            held.release()
    except Exception as error:  # of SQLite, the disk, a server, MLflow: no run fails for it
        reason = why(error)
    print("\n" + json.dumps({"reason": reason}))


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
    location = None if uri.startswith(("http:", "https:")) else (folder / tracking.ARTIFACTS).as_uri()
    if uri != tracking.own_uri():
        from mlflow import MlflowClient

        return Store(MlflowClient(uri), tracking.without_password(uri), location)
    database = folder / tracking.DATABASE
    is_new = not database.exists() or not database.stat().st_size
    # MLflow repeats for minutes what SQLite answers at once.
    with closing(sqlite3.connect(database, timeout=DATABASE_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if not is_new:
            _follow_folder(connection, location)
        connection.execute("COMMIT")
    from mlflow import MlflowClient

    with chdir(folder):  # a path with "@" or "?" means something else in a URI
        client = MlflowClient(f"sqlite:///{tracking.DATABASE}")
        client.search_experiments(max_results=1)
    return Store(client, uri, location, is_new)


def _follow_folder(connection: sqlite3.Connection, location: str | None) -> None:
    """Correct the paths of artefacts in a database whose data folder was moved or copied."""
    with suppress(sqlite3.OperationalError):  # no such table: MLflow had no time to make them
        stored = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (old,) in stored:
            if old != location and old and old.endswith(f"/{tracking.ARTIFACTS}"):
                for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE substr({column}, 1, ?) = ?",
                        (location, len(old) + 1, len(old), old),
                    )


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
    """Whether other runs may be handed in: this one was deleted meanwhile, or MLflow refuses it."""
    refused = getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"
    return refused or isinstance(error, FileNotFoundError | ImgclfError)


def _hand_in_one(store: Store, run: Run) -> None:
    """Hand in a run; one that an earlier process had begun is continued."""
    experiment = _experiment(store, run.dataset_name)
    copy = _copy_of(store, experiment, run) or store.client.create_run(
        experiment,
        start_time=_milliseconds(run),
        run_name=run.name[:LONGEST_NAME],
        tags={ID: run.id, "mlflow.user": _user()},
    )
    if copy.info.status == "RUNNING":
        _log(store.client, copy.info.run_id, run)
        _store_files(store.client, copy, run)
        ended = _milliseconds(run) + round(1000 * sum(run.seconds.values()))
        store.client.set_terminated(copy.info.run_id, run.status.upper(), ended)
    runs.note_handed_in(run, store.uri, copy.info.run_id)


def _milliseconds(run: Run) -> int:
    """Return when a run started, as MLflow counts."""
    return round(1000 * run.time.timestamp())


def _user() -> str:
    """Return who hands in, as MLflow's own functions do."""
    with suppress(OSError, KeyError, ImportError):  # a container may know no name
        return getuser()
    return "unknown"


def _experiment(store: Store, dataset_name: str) -> str:
    """Return the id of a data set's experiment; a new one if it was deleted on MLflow's page."""
    for number in itertools.count(1):
        name = dataset_name if number == 1 else f"{dataset_name} ({number})"
        found = store.client.get_experiment_by_name(name)
        if found is None:
            return str(store.client.create_experiment(name, artifact_location=store.location))
        if found.lifecycle_stage == "active":
            return str(found.experiment_id)
    raise AssertionError  # the loop has no end


def _copy_of(store: Store, experiment: str, run: Run) -> "Copy | None":
    """Return the copy of a run, also one that was deleted on MLflow's page."""
    from mlflow.entities import ViewType

    wanted = f"tags.`{ID}` = '{run.id}'"
    return next(iter(store.client.search_runs([experiment], wanted, ViewType.ALL, max_results=1)), None)


def _log(client: "MlflowClient", run_id: str, run: Run) -> None:
    """Log parameters, metrics and tags; what was logged already stays as it is."""
    from mlflow.entities import Param, RunTag

    values = zip(_keys(run.parameters), run.parameters.values(), strict=True)
    parameters = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in values]
    tags = [RunTag(key, value[:LONGEST_TAG]) for key, value in _tags(run).items()]
    for some in _batches(parameters, MOST_PARAMETERS):
        client.log_batch(run_id, params=some)
    for some in _batches(tags, MOST_PARAMETERS):
        client.log_batch(run_id, tags=some)
    for some in _batches(_metrics(run), MOST_METRICS):
        client.log_batch(run_id, metrics=some)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    everything = list(items)
    return (everything[start : start + size] for start in range(0, len(everything), size))


def _tags(run: Run) -> dict[str, str]:
    """Return the tags of a copy: what the run is about, and what a person said of it."""
    edited = Edited.of(run)
    own = {
        "mlflow.source.name": "imgclf",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": run.about.get("git commit", ""),
        NOTE: edited.note,
        STATE: edited.as_text(),
        "imgclf.kind": run.kind,
        "imgclf.folder": run.folder.name,
        "imgclf.error": run.error,
        "imgclf.values": ", ".join(f"{name}={value}" for name, value in run.values.items()),
    }
    about = {f"imgclf.{_key(name)}": value for name, value in run.about.items()}
    return {**{name: text for name, text in {**about, **own}.items() if text}, **edited.tags}


def _metrics(run: Run) -> list["Metric"]:
    """Return metrics, counts of images, seconds, memory, and curves by step.

    The numbers that a curve is over are a metric of its own if they are no steps: MLflow's charts take either
    for the x axis.
    """
    from mlflow.entities import Metric

    points: dict[str, list[tuple[int, float]]] = {name: [(0, value)] for name, value in run.metrics.items()}
    for part, counts in run.counts.items():
        points |= {f"{part} images of class {label}": [(0, n)] for label, n in counts.items()}
    points |= {f"seconds of notebook {number}": [(0, value)] for number, value in run.seconds.items()}
    points |= {
        f"peak memory of notebook {number} in MB": [(0, n)] for number, n in run.peak_memory_mb.items()
    }
    for name, curve in run.curves.items():
        is_by_step = all(float(x).is_integer() for x, _ in curve)
        points[name] = [(int(x) if is_by_step else k, y) for k, (x, y) in enumerate(curve)]
        if not is_by_step:
            points[name.rpartition(" over ")[2]] = [(k, x) for k, (x, _) in enumerate(curve)]
    time = _milliseconds(run)
    return [
        Metric(key, float(value), time, step)
        for key, curve_points in zip(_keys(points), points.values(), strict=True)
        for step, value in curve_points
        if math.isfinite(value)
    ]


def _key(name: str) -> str:
    """Return a name as MLflow takes it: letters of any language, digits, and a few signs."""
    key = re.sub(r"[^\w.\- ]", "_", unicodedata.normalize("NFC", name))
    return ("_" if not key.strip(".") else "") + key[: LONGEST_KEY - 1]


def _keys(names: Iterable[str]) -> list[str]:
    """Return names as MLflow takes them, each another one."""
    taken: dict[str, None] = {}
    for name in names:
        tries = (f"{_key(name)[: LONGEST_KEY - 8]} {number}" for number in itertools.count(2))
        taken[next(key for key in itertools.chain([_key(name)], tries) if key not in taken)] = None
    return list(taken)


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
    elif (weights := runs.root() / runs.WEIGHTS / sha256).exists():
        _store_file(client, copy, weights, runs.WEIGHTS)
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
    target = target / folder / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links, or another one
        shutil.copyfile(path, target)


def _artifacts_here(copy: "Copy") -> Path | None:
    """Return the folder of a copy's artefacts if it is in the data folder."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    if not copy.info.artifact_uri.startswith("file:"):
        return None
    path = Path(local_file_uri_to_path(copy.info.artifact_uri))
    return path if path.is_relative_to(files.data_dir() / tracking.ARTIFACTS) else None


@dataclass(frozen=True)
class Edited:
    """What a person may change of a run, here or on MLflow's page, as MLflow stores it."""

    name: str
    note: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, run: Run) -> "Edited":
        """Return that of a run. A tag `fruit=ripe` has the key `fruit` and the value `ripe`."""
        pairs = dict(tag.partition("=")[::2] for tag in run.tags)
        # A key that MLflow does not take goes into the value, for `tags_as_here` to find it.
        tags = {
            _key(key): value if _key(key) == key else f"{key}={value}".removesuffix("=")
            for key, value in pairs.items()
        }
        tags = {(f"tag {k}" if k.startswith(NOT_OF_PEOPLE) else k): v[:LONGEST_TAG] for k, v in tags.items()}
        return cls(run.name[:LONGEST_NAME], run.note[:LONGEST_TAG], tags)

    @classmethod
    def of_copy(cls, copy: "Copy") -> "Edited":
        """Return that of a copy."""
        tags = {key: text for key, text in copy.data.tags.items() if not key.startswith(NOT_OF_PEOPLE)}
        return cls(copy.info.run_name or "", copy.data.tags.get(NOTE, ""), tags)

    def hashes(self) -> dict[str, str]:
        """Return a hash of each attribute."""
        texts = {"name": self.name, "note": self.note, "tags": json.dumps(sorted(self.tags.items()))}
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}

    def as_text(self) -> str:
        """Return the hashes as the tag that says what was handed in last."""
        return json.dumps(self.hashes())

    def tags_as_here(self) -> tuple[str, ...]:
        """Return the tags as a run has them."""
        return tuple(
            value
            if key == _key(name := value.partition("=")[0]) != name
            else f"{key}={value}".removesuffix("=")
            for key, value in self.tags.items()
        )


def _compare(store: Store, handed_in: list[Run]) -> None:
    """Take over names, notes and tags changed on MLflow's page, and hand in those changed here.

    What was changed in both places is taken from here. Deleted copies are left alone.
    """
    experiments = [each.experiment_id for each in store.client.search_experiments()]
    for some in _batches(handed_in, PAGE):
        by_id = {store.id_of(run): run for run in some}
        listed = ", ".join(f"'{run_id}'" for run_id in by_id)
        for copy in store.client.search_runs(
            experiments, f"attributes.run_id IN ({listed})", max_results=PAGE
        ):
            _compare_one(store.client, copy, by_id[copy.info.run_id])


def _compare_one(client: "MlflowClient", copy: "Copy", run: Run) -> None:
    ours, theirs = Edited.of(run), Edited.of_copy(copy)
    if ours == theirs and STATE in copy.data.tags:
        return
    with suppress(ValueError):
        handed_in = json.loads(copy.data.tags.get(STATE, "{}"))
        here, there = ours.hashes(), theirs.hashes()
        taken = {key for key in here if here[key] == handed_in.get(key, here[key]) != there[key]}
        values = {"name": theirs.name, "note": theirs.note, "tags": theirs.tags_as_here()}
        changes: dict[str, Any] = {key: value for key, value in values.items() if key in taken}
        ours = Edited.of(runs.change(run, **changes)) if changes else ours
    _change_copy(client, copy.info.run_id, ours, theirs)


def _change_copy(client: "MlflowClient", run_id: str, ours: Edited, theirs: Edited) -> None:
    """Let a copy have the name, note and tags of its run."""
    if ours.name != theirs.name:
        client.update_run(run_id, name=ours.name)
    for key in theirs.tags.keys() - ours.tags.keys():
        client.delete_tag(run_id, key)
    for key, text in {**ours.tags, NOTE: ours.note, STATE: ours.as_text()}.items():
        client.set_tag(run_id, key, text)


def _delete_pending(store: Store) -> None:
    """Delete copies of runs that were deleted here, and in the data folder their artefacts."""
    from mlflow.exceptions import MlflowException

    for path in (runs.root() / tracking.TO_DELETE).glob("*.json"):
        copies = json.loads(path.read_text(encoding="utf-8"))
        if run_id := copies.pop(store.uri, ""):
            with suppress(MlflowException):  # deleted there already
                copy = store.client.get_run(run_id)
                store.client.delete_run(run_id)
                if folder := _artifacts_here(copy):
                    shutil.rmtree(folder.parent, ignore_errors=True)
        if copies:
            files.write_json(path, copies)
        else:
            path.unlink()


if __name__ == "__main__":
    main()

"""The run history: a folder for each run below `runs/`, with `run.json` and the files that belong to it.

A run is one `imgclf run`, one evaluation by hand in 05_evaluate, or one trial of a sweep. Its folder is named
for people, as in `2026-11-25 1704 fruit svm 92 %`. These files are the record; reading it needs nothing else.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, Timeout

from imgclf import ImgclfError, files, first_few
from imgclf.experiments.history.run import (
    ACCURACY,
    BY_HAND,
    BY_RUN,
    FAILED,
    FINISHED,
    ID,
    IMPORTED,
    RECORD,
    RUNNING,
    TRIAL,
    Run,
    folder_name,
    read,
    write,
)

if TYPE_CHECKING:
    from imgclf.evaluation.metrics import Evaluation

__all__ = ["BY_HAND", "BY_RUN", "FAILED", "FINISHED", "IMPORTED", "RUNNING", "TRIAL", "Run"]
CURRENT = "IMGCLF_RUN"  # environment variable: the folder of the run that executes this notebook
WEIGHTS = "weights"  # folder of the networks' weights, which many runs share
RESTORED = "restored"  # folder of classifiers that were put together again
DELETED = ".deleted"
MOST_TRIES = 5  # to list folders that other processes rename meanwhile
KILLED = "it did not end: its process was killed, or the disk was full"
# To wait for changes by another process: before a line says so, and after which it is given up.
SILENT_SECONDS, LOCK_SECONDS = 3, 60

MOST_BYTES_OF_A_NAME = 120  # of a folder; file systems take 255, Windows 260 letters for a whole path
REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # in names, by one file system or another

_held: dict[str, BaseFileLock] = {}  # by id, the locks of this process's own runs


def root() -> Path:
    """Return the folder of all runs."""
    return files.data_dir() / "runs"


def start(
    kind: str,
    dataset_name: str,
    parameters: Mapping[str, Any],
    *,
    values: Mapping[str, Any] | None = None,
) -> Run:
    """Make the folder of a new run, which counts as running until `finish` or `fail`, or this process ends.

    Parameters
    ----------
    parameters : all that are known. values : of a trial, its own values of the sweep.

    Raises
    ------
    ImgclfError : the folder cannot be written.
    """
    all_runs()  # marks those that were killed
    started = datetime.now().astimezone().replace(microsecond=0)
    run = Run(
        root(),
        uuid.uuid4().hex,
        "",
        kind,
        dataset_name,
        started.isoformat(),
        parameters=dict(parameters),
        values=dict(values or {}),
    )
    with _changes():
        folder = _unused(folder_name(run))
        folder.mkdir()
        _held[run.id] = files.acquire(folder / files.LOCK, seconds=-1)
        return write(replace(run, folder=folder, name=folder.name))


def finish(run: Run, **changes: Any) -> Run:
    """Write that a run is finished, with further attributes; its folder gets the accuracy in its name.

    Raises
    ------
    ImgclfError : the folder cannot be written.
    """
    with _changes():
        run = write(replace(reread(run), **changes, status=FINISHED, error=""))
        _release(run)
        return _renamed(run)


def fail(run: Run, error: str) -> Run:
    """Write that a run failed, and why; its folder keeps its name.

    Raises
    ------
    ImgclfError : the folder cannot be written.
    """
    with _changes():
        run = write(replace(reread(run), status=FAILED, error=error))
        _release(run)
        return run


@contextmanager
def attempt(run: Run) -> Iterator[None]:
    """Write that a run failed if the block raises and the run has not finished; the error passes."""
    try:
        yield
    except BaseException as error:
        reason = "stopped" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        with suppress(OSError, ImgclfError):
            if reread(run).status == RUNNING:
                fail(run, reason)
        raise


def update(run: Run, **changes: Any) -> Run:
    """Write other values of attributes; those that another process changed meanwhile stay.

    Raises
    ------
    ImgclfError : the folder cannot be written, or the run was deleted.
    """
    with _changes():
        return write(replace(reread(run), **changes))


def reread(run: Run) -> Run:
    """Return a run as it is on disk now, where another process may have renamed its folder.

    Raises
    ------
    ImgclfError : it was deleted, or is damaged.
    """
    for folder in (run.folder, *_folders()):
        with suppress(ValueError):
            if (folder / RECORD).exists() and (found := read(folder)).id == run.id:
                return found
    raise ImgclfError(f"{run.name}: its {RECORD} is gone or damaged; imgclf runs lists the others")


def change(
    run: Run, *, name: str | None = None, note: str | None = None, tags: Iterable[str] | None = None
) -> Run:
    """Change what a person says of a run; None leaves it as it is.

    Raises
    ------
    ImgclfError : the name is empty, the folder cannot be written, or the run was deleted.
    """
    changes: dict[str, Any] = {"name": name and name.strip(), "note": note}
    if changes["name"] == "":
        raise ImgclfError(f"name of {run.name!r}: empty; give one that tells it from the others")
    if tags is not None:
        changes["tags"] = tuple(dict.fromkeys(filter(None, map(str.strip, tags))))
    return update(run, **{key: value for key, value in changes.items() if value is not None})


def note_handed_in(run: Run, uri: str, mlflow_run_id: str, edits: str = "") -> Run:
    """Write that MLflow has a copy of a run.

    Parameters
    ----------
    edits : hashes of its name, note and tags; "" if unknown.

    Raises
    ------
    ImgclfError : the folder cannot be written, or the run was deleted.
    """
    with _changes():
        now = reread(run)
        handed_in = {**now.handed_in, uri: mlflow_run_id}
        return write(replace(now, handed_in=handed_in, handed_in_edits={**now.handed_in_edits, uri: edits}))


def delete(run: Run) -> None:
    """Remove the folder of a run, and the weights that no other run needs.

    Raises
    ------
    ImgclfError : the run is running, was deleted already, a file cannot be removed, or one of the folders
        that all runs share is a link.
    """
    from imgclf.classifier import storage
    from imgclf.experiments.history import tracking

    with _changes():
        run = reread(run)
        if run.status == RUNNING and not _was_killed(run):
            raise ImgclfError(f"{run.name}: is running; stop it first, or delete it when it has finished")
        for name in (DELETED, RESTORED, WEIGHTS, tracking.TO_DELETE):  # before anything is removed
            files.not_linked(root() / name)
        with files.writable(run.folder):
            gone = root() / DELETED
            shutil.rmtree(gone, ignore_errors=True)  # of a process that was killed
            run.folder.rename(gone)  # so that no half of a run stays in the list
            tracking.delete_later(run)
            shutil.rmtree(gone)
            shutil.rmtree(root() / RESTORED / run.id, ignore_errors=True)
            storage.remove_unused(root() / WEIGHTS, _folders())


def all_runs(dataset_name: str = "") -> list[Run]:
    """Return the runs, newest first; damaged ones are left out, see `listing`.

    Parameters
    ----------
    dataset_name : only those of this data set.
    """
    return [run for run in listing()[0] if dataset_name in ("", run.dataset_name)]


def listing() -> tuple[list[Run], list[Path]]:
    """Return the runs, newest first, and each `run.json` that is damaged.

    Runs whose process was killed are marked as failed, and folders of version 0.1.0 get a `run.json`.
    """
    for _ in range(MOST_TRIES):
        folders, found, damaged = _folders(), [], []
        for folder in folders:
            try:
                run = read(folder) if (folder / RECORD).exists() else _imported(folder)
            except ValueError:
                damaged.append(folder / RECORD)
                continue
            if run is not None:
                found.append(_marked_if_killed(run))
        if set(folders) == set(_folders()):  # else a run that finished meanwhile was renamed, and missed
            break
    return sorted(found, key=lambda run: (run.time, run.folder.name), reverse=True), damaged


def find(text: str) -> Run:
    """Return the run with this name, name of the folder, or unique beginning of the id.

    Raises
    ------
    ImgclfError : there is none, or several; names them.
    """
    runs = all_runs()
    wanted = text.strip()
    found = [run for run in runs if wanted in (run.id, run.name, run.folder.name)] or [
        run for run in runs if wanted and run.id.startswith(wanted.lower())
    ]
    if len(found) == 1:
        return found[0]
    if found and len({run.id for run in found}) == 1:
        folders = first_few([str(run.folder) for run in found])
        raise ImgclfError(f"{text!r}: {len(found)} folders hold this run: {folders}; move the copies away")
    if found:
        which = first_few([f"{run.short_id} ({run.name})" for run in found], most=5)
        raise ImgclfError(f"{text!r}: {len(found)} runs match: {which}; give more of an id")
    newest = first_few([f"{run.short_id} ({run.name})" for run in runs]) or "none"
    raise ImgclfError(f"{text!r}: no such run in {root()}; there are {newest}; imgclf runs lists all")


def current() -> Run | None:
    """Return the run that executes this notebook; None if it is not executed by one."""
    folder = Path(os.environ.get(CURRENT, ""))
    with suppress(OSError, ValueError):
        if os.environ.get(CURRENT) and (run := read(folder)).status == RUNNING:
            return run
    return None


@contextmanager
def executing(run: Run) -> Iterator[None]:
    """Let notebooks that are executed in the block write into the folder of a run."""
    earlier = os.environ.get(CURRENT)
    os.environ[CURRENT] = str(run.folder)
    try:
        yield
    finally:
        os.environ.pop(CURRENT)
        if earlier is not None:
            os.environ[CURRENT] = earlier


def evaluation(run: Run) -> "Evaluation":
    """Return the scores that a run recorded.

    Raises
    ------
    ImgclfError : it has none, or the file is damaged.
    """
    from imgclf.evaluation import report

    if not (run.folder / files.SCORES).exists():
        raise ImgclfError(f"{run.name}: has no scores{why_lacking(run)}; choose another run")
    return report.read_scores(run.folder / files.SCORES)


def keep_classifier(run: Run, path: Path) -> None:
    """Store a `classifier.onnx` in a run, but for the weights, which all runs share.

    Raises
    ------
    ImgclfError : the file cannot be read, or not be written.
    """
    from imgclf.classifier import storage

    with _changes():  # so that no weights are removed that are not in a recipe yet
        storage.store(path, run.folder, root() / WEIGHTS)


def classifier(run: Run, path: Path | None = None) -> Path:
    """Return the path of a run's `classifier.onnx`, put together again byte for byte, with verified sha256.

    Parameters
    ----------
    path : of the file to write. By default it is below `runs/restored/`, where a later call removes it after
        a day.

    Raises
    ------
    ImgclfError : it has none, its files are damaged, or `runs/restored/` is a link.
    """
    from imgclf.classifier import storage

    if not storage.is_stored(run.folder):
        raise ImgclfError(f"{run.name}: has no classifier{why_lacking(run)}; choose another run")
    restored = files.not_linked(root() / RESTORED)
    for old in restored.glob("*"):
        with suppress(OSError):
            if ID.fullmatch(old.name) and time.time() - old.stat().st_mtime > files.STALE_SECONDS:
                shutil.rmtree(old)
    path = path or files.not_linked(restored / run.id) / files.CLASSIFIER
    storage.restore(run.folder, root() / WEIGHTS, path)
    return path


def new_folder(name: str) -> Path:
    """Make a folder below `runs/` whose name begins with the time, for notebooks that belong to no run.

    Raises
    ------
    ImgclfError : it cannot be written.
    """
    with _changes():
        folder = _unused(f"{datetime.now():%Y-%m-%d %H%M} {name}")
        folder.mkdir()
        return folder


@contextmanager
def _changes(*, is_reading: bool = False) -> Iterator[None]:
    """Hold the lock for changes of the history, which last for moments.

    Parameters
    ----------
    is_reading : wait only for a moment.

    Raises
    ------
    ImgclfError : the folder cannot be written, or another process holds the lock for too long.
    """
    path = root() / files.LOCK
    with files.writable(root()):
        root().mkdir(parents=True, exist_ok=True)
        try:
            if is_reading:
                held = files.acquire(path, seconds=SILENT_SECONDS)
            else:
                reason = "another process changes the run history"
                held = files.wait_for(path, reason, silent_seconds=SILENT_SECONDS, seconds=LOCK_SECONDS)
        except Timeout as error:
            raise ImgclfError(
                f"{path}: another process holds this lock; end that process, or wait for it, and try again"
            ) from error
        try:
            yield
        finally:
            held.release()


def _folders() -> list[Path]:
    """Return the folders of runs; a link is none."""
    if not root().is_dir():
        return []
    return [
        Path(entry.path)
        for entry in os.scandir(root())
        if entry.is_dir(follow_symlinks=False)
        and entry.name not in (WEIGHTS, RESTORED)
        and not entry.name.startswith(".")
    ]


def _unused(name: str, ending: str = "") -> Path:
    """Return a path below `runs/` that does not exist yet, for a name that any file system takes."""
    name = REFUSED.sub("-", name)
    name = name.encode()[:MOST_BYTES_OF_A_NAME].decode(errors="ignore").strip()
    for number in range(1, 10_000):
        folder = root() / (f"{name}{ending}" + (f" ({number})" if number > 1 else "")).rstrip(" .")
        if not folder.exists():
            return folder
    raise ImgclfError(f"{root()}: 10,000 folders are called {name}; move some away")


def _renamed(run: Run) -> Run:
    """Add the accuracy to the name of a finished run's folder, and to its own unless a person gave it."""
    if ACCURACY not in run.metrics:
        return run
    folder = _unused(folder_name(run), f" {run.metrics[ACCURACY]:.0%}".replace("%", " %"))
    try:
        run.folder.rename(folder)
    except OSError:  # as on Windows while a program shows one of its files: the old name serves as well
        return run
    is_own = run.name != run.folder.name
    return write(replace(run, folder=folder, name=run.name if is_own else folder.name))


def _release(run: Run) -> None:
    """Release the lock of a run, and remove its file."""
    if held := _held.pop(run.id, None):
        held.release()
        with suppress(OSError):
            (run.folder / files.LOCK).unlink()


def _was_killed(run: Run) -> bool:
    """Whether no process holds the lock of a run that is not finished.

    Call it with the lock for changes: the folder of a run that is renamed meanwhile would be made again.
    """
    if run.id in _held or not (run.folder / RECORD).exists():
        return False
    try:
        files.acquire(run.folder / files.LOCK, seconds=0).release()
        return True
    except (Timeout, OSError):
        return False


def _marked_if_killed(run: Run) -> Run:
    """Return a run, as failed if its process was killed; written if the data folder can be written."""
    if run.status != RUNNING or run.id in _held:
        return run
    with suppress(OSError, ImgclfError), _changes(is_reading=True):
        run = reread(run)
        if run.status == RUNNING and _was_killed(run):
            run = replace(run, status=FAILED, error=KILLED)
            write(run)
            (run.folder / files.LOCK).unlink(missing_ok=True)
    return run


def _imported(folder: Path) -> Run | None:
    """Return the run of version 0.1.0 in a folder, and write its `run.json`; None if it is no such folder."""
    from imgclf.experiments.history import old_runs

    if (attributes := old_runs.read(folder)) is None:
        return None
    id = uuid.uuid5(uuid.NAMESPACE_OID, folder.name).hex  # the same in a folder that cannot be written
    run = Run(folder, id, folder.name, IMPORTED, **attributes)
    with suppress(OSError, ImgclfError), _changes(is_reading=True):
        return read(folder) if (folder / RECORD).exists() else write(run)
    return run


def why_lacking(run: Run) -> str:
    """Say why a run lacks files."""
    if run.status == FAILED:
        return f", since it failed ({run.error})"
    if run.kind == IMPORTED:
        return ", since version 0.1.0 kept only the executed notebooks"
    return ", since it is running" if run.status == RUNNING else ""

"""Paths of the data folder, and atomic writes: a file has its old content or the new one, never a part."""

import errno
import hashlib
import json
import math
import os
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tokenize import TokenError
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin

import numpy as np
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from imgclf import ImgclfError

# The files below proc/NAME that more than one room reads or writes.
FIXED_NETWORK, REFINED_NETWORK, CLASSIFIER = "dnn_fixed.onnx", "dnn_refined.onnx", "classifier.onnx"
SVM_HEAD, DNN_HEAD, FAMILIARITY = "svm.npz", "dnn_head.npz", "familiarity.npz"
HELD_OUT, SCORES, EVALUATION = "held_out.npz", "scores.npz", "evaluation.json"
LABEL_SCORES = "label_scores.npz"
TRIAL_RECORD = "trial.json"  # marks a folder below proc/ as one of a sweep

# What numpy raises for a damaged .npz file, as an array or as a zip archive.
DAMAGED_NPZ = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    TokenError,
)

MAX_FILE_BYTES = 2**30  # of a file that is read whole: 200 megapixels, uncompressed, have 600 MB
CHUNK_BYTES = 2**16
NOT_REGULAR = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}

STALE_SECONDS = 24 * 3600
PROJECT_FILE = "imgclf.toml"  # marks the folder of a project, and holds its parameters
OTHERS_WRITE = 0o002

# A clone has the notebooks and manifests beside the package, a wheel in it.
PACKAGE = Path(__file__).parent
CLONE = PACKAGE.parent if (PACKAGE.parent / "data_manifest").is_dir() else None

UNWRITABLE = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "no file of this size is allowed, by the file system or by ulimit -f; {remedy}",
    errno.EROFS: "the file system is read-only; {remedy}",
    errno.EACCES: "no permission to write there; {remedy}",
    errno.EPERM: "no permission to write there; {remedy}",
}


LOCK, SOFT = ".lock", ".held"
# What flock gives where a file system has no locks, or its server does not answer for them; filelock itself
# falls back in the same way after ENOSYS.
WITHOUT_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO)


def shipped(name: str) -> Path:
    """Return a file or folder that comes with imgclf, such as "notebooks", in a clone and in a wheel."""
    return (CLONE or PACKAGE) / name


def data_dir() -> Path:
    """Return the data folder: that of the project at or above the working directory, else `$IMGCLF_DATA`,
    else `~/imgclf_data`.

    Raises
    ------
    ImgclfError : see `absolute`.
    """
    return _project_above() or _data_dir_without_project()


def project_dir() -> Path | None:
    """Return the folder of the project: the nearest one with an `imgclf.toml` at or above the working
    directory, or `$IMGCLF_DATA` if it holds one; None without a project.

    Raises
    ------
    ImgclfError : see `absolute`.
    """
    if above := _project_above():
        return above
    folder = _data_dir_without_project()
    return folder if _is_project(folder) else None


def _data_dir_without_project() -> Path:
    return absolute(os.environ.get("IMGCLF_DATA") or "~/imgclf_data", source="IMGCLF_DATA")


def _project_above() -> Path | None:
    try:
        here = Path.cwd()
    except OSError:  # the working directory was deleted
        return None
    if found := next(filter(_is_project, (here, *here.parents)), None):
        return found
    logical = Path(os.environ.get("PWD", ""))  # with the links by which a shell came here
    if not logical.is_absolute() or os.path.realpath(logical) != str(here):
        return None
    found = next(filter(_is_project, logical.parents), None)
    return found.resolve() if found else None


def _is_project(folder: Path) -> bool:
    """Whether a folder holds an `imgclf.toml`. One that somebody else put into a folder where everybody may
    write, such as /tmp, does not count: the notebooks beside it would run."""
    marker = folder / PROJECT_FILE
    try:
        if not os.path.isfile(marker):
            return False
        others_write = os.name == "posix" and folder.stat().st_mode & OTHERS_WRITE
        return not others_write or marker.stat().st_uid == os.getuid()
    except OSError:
        return False


def absolute(text: str, *, source: str) -> Path:
    """Return a path as an absolute one, with `~` replaced by the home folder.

    Parameters
    ----------
    source : the variable or parameter that `text` is from, for the message.

    Raises
    ------
    ImgclfError : there is no such home folder, or the path is not UTF-8: notebooks cannot hold it.
    """
    try:
        path = Path(text).expanduser().absolute()
        if ".." in path.parts:  # so that a folder has one spelling; a link without ".." keeps its name
            path = path.resolve()
        path.as_posix().encode()
    except RuntimeError as error:
        raise ImgclfError(f"{source}={text}: there is no such home folder; give a whole path") from error
    except UnicodeEncodeError as error:
        raise ImgclfError(
            f"{source}={text}: the path is not UTF-8; rename the folder, or give another"
        ) from error
    return path


def proc_dir(dataset_name: str) -> Path:
    """Return the folder of everything computed from a data set; safe to delete."""
    return data_dir() / "proc" / dataset_name


def display_path(path: Path, *, whole: bool = False) -> str:
    """Return `path` relative to the data folder; outside of it the name, or with `whole` the full path."""
    if path.is_relative_to(data_dir()):
        return path.relative_to(data_dir()).as_posix()
    return path.as_posix() if whole else path.name


@contextmanager
def writable(path: Path, *, remedy: str = "") -> Iterator[None]:
    """Raise an OSError of the block as an ImgclfError that names `path` and the remedy.

    Parameters
    ----------
    remedy : by default, what makes the data folder writable.

    Raises
    ------
    ImgclfError : disk full, read-only, or no permission. Other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        reason = UNWRITABLE[error.errno].format(remedy=remedy or _remedy())
        raise ImgclfError(f"cannot write {path}: {reason}") from error


def _remedy() -> str:
    with suppress(ImgclfError):
        if project := project_dir():
            return f"allow writing to the project folder, {project}, or copy it to where you may write"
    return "set IMGCLF_DATA to a folder that you may write to"


def not_linked(path: Path) -> Path:
    """Return the path of a file or folder of imgclf itself, which may not exist yet.

    Raises
    ------
    ImgclfError : it is a link. In a data folder of somebody else it may lead to any file.
    """
    expected = os.path.join(os.path.realpath(path.parent), path.name)
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(expected):
        raise ImgclfError(f"{path}: is a link to elsewhere, where nothing is written or deleted; remove it")
    return path


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Write `path` atomically: to a temporary file beside it, flushed to disk, then renamed.

    A killed process leaves the old content or the new one, never a part of it.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path.parent)
        temporary = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_bytes(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a regular file; for untrusted files.

    Reading neither blocks, as it would for a named pipe, nor fills the memory, as for a link to /dev/zero.

    Raises
    ------
    ImgclfError : the file cannot be read, is no regular file, or has more than `max_bytes` bytes.
    """
    try:
        _check_readable(path, os.stat(path), max_bytes)  # before it is opened: that alone may move a device
        with open(path, "rb", buffering=0, opener=_open_without_blocking) as file:
            found = os.fstat(file.fileno())
            _check_readable(path, found, max_bytes)
            pieces, size = [file.read(found.st_size + CHUNK_BYTES) or b""], 0
            while pieces[-1]:  # a file of /proc has the size 0, another may be growing
                size += len(pieces[-1])
                _check_size(path, size, max_bytes)
                pieces.append(file.read(CHUNK_BYTES) or b"")
            return b"".join(pieces[:-1])
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ImgclfError(f"{path}: {reason}; check that it exists and that you may read it") from error


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a regular file; b"" of any other, and of one that cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb", buffering=0, opener=_open_without_blocking) as file:
            return file.read(size) or b""
    except (OSError, ValueError):
        return b""


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has none


def _check_readable(path: Path, found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = NOT_REGULAR.get(stat.S_IFMT(found.st_mode), "not a file")
        raise ImgclfError(f"{path}: {kind} instead of a regular file; move it away")
    _check_size(path, found.st_size, max_bytes)


def _check_size(path: Path, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImgclfError(f"{path}: more than {max_bytes:,} bytes; move it away, or make it smaller")


@cache
def _remove_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; done once, at its first write.

    A recent one may belong to a run in progress.
    """
    for temporary in folder.glob(".*.part"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > STALE_SECONDS:
                temporary.unlink()


def read_text(path: Path) -> str:
    """Return the content of a file as text, question marks for what is not UTF-8; empty without a file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replace_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; see `to_json`."""
    write_text(path, to_json(content, indent=2) + "\n")


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Return `content` as JSON, with null for NaN and infinity, which strict parsers refuse."""
    return json.dumps(_finite(content), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as an .npz file without pickle, atomically."""
    with replace_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file with these names, or all; no pickle is loaded, so no code is run.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is damaged, lacks one of the names, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = names or [name.removesuffix(".npy") for name in archive.namelist()]
            return {name: _read_array(archive, f"{name}.npy") for name in members}
    except FileNotFoundError:
        raise
    except DAMAGED_NPZ as error:
        raise ValueError(f"{path}: damaged") from error


def _read_array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """Return an array of an .npz file. np.load neither verifies the checksum nor refuses bytes left over."""
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError("bytes behind the array")
        return array


def read_json(
    path: Path, kinds: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object in a file, after a check of the keys that it must have; see `is_of`.

    Parameters
    ----------
    defaults : values of keys that earlier versions did not write.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is damaged, lacks one of the keys, or has a value of another type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged") from error
    if not is_of(content, dict[str, Any]):
        raise ValueError(f"{path}: no JSON object")
    content = {**(defaults or {}), **content}
    if wrong := [key for key, kind in kinds.items() if not is_of(content.get(key), kind)]:
        raise ValueError(f"{path}: {', '.join(wrong)} missing or of another type")
    return content


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value from JSON has a type such as `str`, `float | None`, `list[str]` or `dict[str, float]`.

    A float is a finite number, also an integer of up to 64 bits.
    """
    kinds = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(is_of(value, one) for one in kinds)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(is_of(item, kinds[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(is_of(item, kinds[1]) for item in value.values())
    if kind is float:
        return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)
    return kind is Any or type(value) is (type(None) if kind is None else kind)


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Lock `folder` for one run; a second run prints that it waits, and continues when the first is done."""
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = wait_for(folder / LOCK, f"another run works on {folder.name}")
    try:
        yield
    finally:
        held.release()


def wait_for(path: Path, reason: str, *, silent_seconds: float = 0, seconds: float = -1) -> BaseFileLock:
    """Return a lock on a file as `acquire` does; after `silent_seconds` print the reason for the wait.

    Raises
    ------
    Timeout, OSError : see `acquire`.
    """
    try:
        return acquire(path, seconds=silent_seconds)
    except Timeout as error:
        remedy = f" (if there is none, delete {error.lock_file})" if error.lock_file.endswith(SOFT) else ""
        print(f"{reason}; waiting for it{remedy}", flush=True)
        return acquire(path, seconds=seconds)


def acquire(path: Path, *, seconds: float) -> BaseFileLock:
    """Return a lock on a file, held until it is released or this process ends.

    On file systems without flock, as NFS and SMB often are, the lock is a file that exists as long as it is
    held. One that a killed process of this machine left does not count.

    Parameters
    ----------
    path : of the file to lock; it is made.
    seconds : to wait at most for another process; -1: as long as it takes.

    Raises
    ------
    Timeout : another process holds the lock.
    OSError : the file cannot be made.
    """
    held: BaseFileLock = FileLock(path)
    try:
        held.acquire(timeout=seconds)
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            raise
        held = SoftFileLock(path.with_name(path.name + SOFT))
        held.acquire(timeout=seconds)
    return held

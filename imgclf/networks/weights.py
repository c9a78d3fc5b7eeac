"""Weights of pretrained networks: downloaded once, verified by sha256, and loaded without running code."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import httpx

from imgclf import ImgclfError, downloads, files
from imgclf.downloads import PERMANENT, TRANSIENT, DownloadError

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A file to download, and how a whole one is recognized.

    Attributes
    ----------
    is_whole : whether the file of a path, which exists, is the complete and right one.
    expected : what the right file is, in words that follow "another file than".
    headers : of the requests; an authorization is not sent on to another server.
    max_bytes : the download ends with an error after as many bytes; 0: no limit.
    """

    url: str
    is_whole: Callable[[Path], bool]
    expected: str
    headers: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = 0


def fetch(url: str, *, progress: Progress | None = None) -> Path:
    """Download a file into `networks/` of the data folder, unless it is there; return its path.

    Parameters
    ----------
    url : ends with NAME-DIGITS.SUFFIX; DIGITS are the first hexadecimal digits of the file's sha256.
    progress : see `download`.

    Raises
    ------
    ImgclfError : see `download`; or the file that is there is another one than its name says.
    """
    name = url.rpartition("/")[2]
    path = files.data_dir() / "networks" / name
    source = Source(url, lambda part: _has_digits(part, name), "its name says")
    if not path.exists():
        with files.lock(path.parent):
            download(source, path, progress=progress)
    else:
        check(source, path)
    return path


def check(source: Source, path: Path) -> None:
    """Refuse a file that is there already, and is not the one of `source`.

    Raises
    ------
    ImgclfError : see above.
    """
    if not source.is_whole(path):
        raise ImgclfError(
            f"{path}: is another file than {source.expected}, or damaged "
            f"(its sha256 begins with {files.sha256(path)[:8]}); delete it and run again"
        )


def download(source: Source, path: Path, *, progress: Progress | None = None) -> None:
    """Download a file, unless it is there. The caller holds the lock of its folder.

    A broken or interrupted download is resumed: the partial file stays, and a range request fetches the
    rest. The file gets its name when it is complete and `source.is_whole`.

    Parameters
    ----------
    progress : called during the download with the bytes received so far and the size of the file
        (0: unknown).

    Raises
    ------
    ImgclfError : the download fails, another file came, or the file cannot be written; the message says where
        to put the file by hand.
    """
    if path.exists():  # another run may have fetched it while this one waited for the lock
        return
    tell = progress or (lambda here, whole: None)
    part = path.with_name(path.name + ".part")
    was_begun = part.exists()
    if not (was_begun and source.is_whole(part)):
        _complete(source, part, tell)
    if was_begun and not source.is_whole(part):  # the partial file may belong to another file
        part.unlink()
        _complete(source, part, tell)
    if not source.is_whole(part):
        found = files.sha256(part)[:8]
        part.unlink()
        raise ImgclfError(
            f"{source.url}: returns another file than {source.expected} (its sha256 begins with {found}), "
            f"perhaps the page of a proxy or a login; {_by_hand(source.url, path)}"
        )
    with files.writable(path):
        os.replace(part, path)


def _by_hand(address: str, path: Path) -> str:
    return f"run again on another network, or fetch {address} by other means and put it at {path}"


def _complete(source: Source, part: Path, tell: Progress) -> None:
    """Fetch the missing bytes of `part`, retried with back-off; attempts restart whenever more bytes came."""
    try:
        with downloads.client("fetches a pretrained network") as client:
            downloads.retry(
                lambda: _append(client, source, part, tell),
                attempts=downloads.ATTEMPTS,
                back_off_seconds=downloads.BACK_OFF_SECONDS,
                received=lambda: _size(part),
            )
    except DownloadError as error:
        kept = f"the {_size(part) / 1e6:.0f} MB that came are kept; " if _size(part) else ""
        target = part.with_name(part.name.removesuffix(".part"))
        raise ImgclfError(
            f"{target.name}: could not be fetched ({error.reason}); {kept}{_by_hand(source.url, target)}"
        ) from error


def _append(client: httpx.Client, source: Source, part: Path, tell: Progress) -> None:
    """Request the missing bytes of `part` once, and append them as they arrive.

    Raises
    ------
    DownloadError : not all of it came, or more.
    """
    start = _size(part)
    headers = {**source.headers, **({"Range": f"bytes={start}-"} if start else {})}
    try:
        with client.stream("GET", source.url, headers=headers) as response:
            start = _start(response, part, start)
            length = response.headers.get("content-length", "")
            whole = start + int(length) if length.isdecimal() else 0
            _write(response, part, start, tell=tell, whole=whole, max_bytes=source.max_bytes)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise downloads.as_download_error(error) from error


def _start(response: httpx.Response, part: Path, asked: int) -> int:
    """The offset of a response, bytes: `asked`, or 0 if the server returns the whole file."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT and response.headers.get(
        "content-range", ""
    ).startswith(f"bytes {asked}-"):
        return asked
    if response.status_code in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        part.unlink(missing_ok=True)  # more than the whole file is here, or the server counts otherwise
        raise DownloadError(
            "the server gave another part of the file than was asked for", TRANSIENT if asked else PERMANENT
        )
    downloads.check_status(response.status_code, response.headers.get("retry-after", ""))
    return 0


def _write(
    response: httpx.Response, part: Path, start: int, *, tell: Progress, whole: int, max_bytes: int
) -> None:
    with files.writable(part), part.open("ab" if start else "wb") as file:
        for piece in response.iter_raw():
            if max_bytes and file.tell() + len(piece) > max_bytes:
                file.truncate(0)
                raise DownloadError(f"the server sends more than {max_bytes:,} bytes")
            file.write(piece)
            tell(file.tell(), whole)
        file.flush()
        os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _has_digits(path: Path, name: str) -> bool:
    """Whether the sha256 of a file begins with the digits in `name`."""
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    return digits is not None and files.sha256(path).startswith(digits[1])


def read(path: Path) -> dict[str, "torch.Tensor"]:
    """The state dict of a `.pth` file: weights by name. No code in the file is run.

    Raises
    ------
    ImgclfError : there is no such file, or it holds anything but named weights.
    """
    import torch

    if not path.is_file():
        raise ImgclfError(f"{path}: no such file; give the path of a .pth file")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        raise ImgclfError(
            f"{path}: cannot be read: damaged, or not a file of weights alone; "
            "write it by torch.save(model.state_dict(), ...)"
        ) from error
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(value, torch.Tensor) for value in found.values())
    ):
        raise ImgclfError(
            f"{path}: does not hold the named weights of one network; "
            "write it by torch.save(model.state_dict(), ...)"
        )
    return found

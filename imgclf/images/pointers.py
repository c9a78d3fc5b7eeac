"""Pointers: small files that stand for the objects of a remote folder, as those of Git LFS do.

A remote folder has a folder of pointers below `$IMGCLF_DATA/remote`, named by its URL. It is a data set's
folder like any other: labels are its folders, and relabelling moves pointers. Only who reads the content of
an image calls this module, which reads that of the object. Elsewhere a pointer is a file like any other, so
a folder of images that somebody sends cannot make this machine fetch URLs.
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

from imgclf import ImgclfError, files
from imgclf.images import kinds, stores

FOLDER = "remote"  # below the data folder
MARK = b'{"imgclf pointer": "'  # how a pointer begins; then the sha256
IN_NAMES = quote("://", safe="")  # in the name of each folder of pointers
UNKNOWN = "-" * 64  # in place of the sha256 of a content that was not read yet
MOST_BYTES = 2**14


@dataclass(frozen=True)
class Pointer:
    """What a pointer says of its object.

    Attributes
    ----------
    url : of the remote folder.
    key : of the object, below the URL.
    listed : the version and size that the content has.
    sha256 : of the content; "" until it was read.
    start : the first bytes of the content, for an object without a suffix in its name, which is an image by
        these; None if they were not read.
    """

    url: str
    key: str
    listed: stores.Object
    sha256: str = ""
    start: bytes | None = None

    def with_start(self) -> "Pointer":
        """Return it with the first bytes of the object, which are read; as it is if that has vanished.

        Raises
        ------
        StoreError : the object cannot be read now.
        """
        if not self.listed.size:  # S3 answers 416 to a request for a part of nothing
            return replace(self, start=b"")
        try:
            return replace(self, start=stores.read(self.url, self.key, end=kinds.START_BYTES))
        except stores.StoreError:
            raise
        except ImgclfError:
            return self

    def write(self, path: Path) -> None:
        """Write it to `path`, atomically, with a time that depends on the version alone."""
        text = MARK.decode() + (self.sha256 or UNKNOWN)
        start = {} if self.start is None else {"start": self.start.hex()}
        rest = json.dumps(
            {"version": self.listed.version, "size": self.listed.size, "key": self.key, **start}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}.part")
        with files.writable(path):
            temporary.write_text(f'{text}", {rest[1:]}\n', encoding="utf-8")
            self._set_time(temporary)
            os.replace(temporary, path)

    def remember(self, path: Path, sha256: str) -> None:
        """Write the sha256 of the content into the pointer at `path`, unless another one is there now."""
        if pointer(path) != self:
            return
        with path.open("r+b") as file:
            file.seek(len(MARK))
            file.write(sha256.encode())
        self._set_time(path)

    def _set_time(self, path: Path) -> None:
        # A changed object has another time here, even if a store's own clock shows only seconds.
        state = hashlib.sha256(f"{self.listed.version} {self.listed.size}".encode()).digest()
        nanoseconds = int.from_bytes(state[:7])
        os.utime(path, ns=(nanoseconds, nanoseconds))


def folder(url: str) -> Path:
    """Return the folder of the pointers to what is at a URL."""
    return files.data_dir() / FOLDER / quote(url, safe="")


def url_of(path: Path) -> str:
    """Return the URL that a folder of pointers, or one that `path` is in, stands for; else ""."""
    parts = path.parts
    if FOLDER not in parts:  # fast, since most are not
        return ""
    named = (k for k in range(1, len(parts)) if parts[k - 1] == FOLDER and IN_NAMES in parts[k])
    if (at := next(named, 0)) and _is_data_dir(parts[: at - 1], os.environ.get("IMGCLF_DATA"), os.getcwd()):
        return unquote(parts[at])
    return ""


@lru_cache(maxsize=64)  # to find the data folder takes longer than to read a pointer
def _is_data_dir(parts: tuple[str, ...], variable: str | None, working_directory: str) -> bool:
    return Path(*parts) == files.data_dir()


def location(path: Path) -> str:
    """Return a path as messages name it: as a URL, if it is that of pointers, or of one."""
    url = url_of(path)
    return f"{url}/{path.relative_to(folder(url)).as_posix()}".removesuffix("/.") if url else str(path)


def pointer(path: Path) -> Pointer | None:
    """Return the pointer at `path`; None if there is another file, or none."""
    url = url_of(path)
    text = files.read_start(path, MOST_BYTES) if url else b""
    if not text.startswith(MARK):
        return None
    try:
        content = json.loads(text)
        listed = stores.Object(content["version"], content["size"])
        sha256 = content["imgclf pointer"]
        start = bytes.fromhex(content["start"]) if "start" in content else None
        return Pointer(url, content["key"], listed, "" if sha256 == UNKNOWN else sha256, start)
    except (ValueError, KeyError) as error:
        raise ImgclfError(f"{path}: damaged; delete it and run 01_prepare_data again") from error


def size(path: Path) -> int:
    """Return the size of a file, or of the object that it points to, bytes.

    Raises
    ------
    OSError : there is no such file.
    """
    found = pointer(path)
    return found.listed.size if found else path.stat().st_size


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, or of the object that it points to.

    Raises
    ------
    ImgclfError : see `files.read_bytes` and `stores.read`.
    """
    found = pointer(path)
    if found is None:
        content = files.read_bytes(path)
        if content.startswith(MARK):
            raise ImgclfError(
                f"{path}: stands for an image at a URL, in another data folder; set IMGCLF_DATA to it"
            )
        return content
    if found.listed.size > files.MAX_FILE_BYTES:
        size = f"{found.listed.size:,} bytes, more than {files.MAX_FILE_BYTES:,}"
        raise ImgclfError(f"{found.url}/{found.key}: {size}; make it smaller")
    return stores.read(found.url, found.key)


def read_start(path: Path) -> bytes:
    """Return the first bytes of a regular file, or of the object that it points to; b"" of any other."""
    found = pointer(path)
    if found is None:
        return files.read_start(path, kinds.START_BYTES)
    if found.start is None:
        found = found.with_start()
    return found.start or b""


def sha256(path: Path) -> str:
    """Return the sha256 of a file, or of the object that it points to, which is read if it is not known yet.

    Raises
    ------
    OSError : the file cannot be read. ImgclfError : the object cannot be.
    """
    found = pointer(path)
    if found is None:
        return files.sha256(path)
    if not found.sha256:
        read = hashlib.sha256(stores.read(found.url, found.key)).hexdigest()
        found.remember(path, read)
        return read
    return found.sha256

"""Object stores and other remote folders at a URL: listed, read and written through fsspec."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from imgclf import ImgclfError

T = TypeVar("T")
URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")  # at least two letters: "c:" is a drive
CONTAINER = re.compile(r"[^:/@]+@[^:/@]+")  # CONTAINER@ACCOUNT, in the place of a host
WITH_CONTAINER = ("abfs", "abfss", "az", "oci", "wasb", "wasbs")
WITHOUT_HOST = ("file", "local", "memory")  # a path follows, and nobody signs in
# What to install for a protocol that fsspec has no package for, where its own error does not say so plainly.
PACKAGES = {
    "s3": "'imgclf[remote]'",
    "s3a": "'imgclf[remote]'",
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
}
ETAGS = ("ETag", "etag")  # how the file systems name what identifies a content
TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
# What is wrong, and what to do, by a word in the type or the text of an error.
REASONS = (
    (
        r"credential|token.*(expired|invalid)|accesskeyid|signaturedoesnotmatch|unauthorized|forbidden|denied",
        "no access; set up the credentials of this store for its own tools, with the right to list and read",
    ),
    (
        r"slow ?down|request rate|throttl|too ?many ?requests|unavailable|busy|\b(429|503)\b",
        "the store limits the rate of requests; run again later, what was read is kept",
    ),
    (
        r"connect|timeout|timed out|resolve|unreachable|network|dns|ssl",
        "cannot be reached; check the network and the address, and run again: what was read is kept",
    ),
)


class StoreError(ImgclfError):
    """A store does not answer, or not as it should: nothing can be said of its images."""


@dataclass(frozen=True)
class Object:
    """What a store lists of an object.

    Attributes
    ----------
    version : its ETag, or where the store has none, the time of its last change.
    size : bytes.
    """

    version: str
    size: int


def is_url(text: str) -> bool:
    """Whether a text is a URL and no path."""
    return bool(URL.match(text))


def checked(url: str, *, source: str) -> str:
    """Return a URL without slashes at its end.

    Parameters
    ----------
    source : the parameter that it is from, for the message.

    Raises
    ------
    ImgclfError : it is malformed; or it holds a user name, a password or a query, which may be a key and
        would be written into results. The message does not repeat it.
    """
    if _holds_secret(url):
        raise ImgclfError(
            f"{source}: the URL holds a user name, a password or a query; leave it out, and set up the "
            "credentials of the store for its own tools, such as in environment variables"
        )
    try:
        urlsplit(url)
    except ValueError as error:
        raise ImgclfError(f"{source}: the URL is malformed; write it like s3://bucket/folder") from error
    stripped = url.rstrip("/")
    if not URL.match(stripped):
        raise ImgclfError(f"{source}={url}: the URL has no name of a bucket or folder; add it")
    return stripped


def _holds_secret(url: str) -> bool:
    """Whether a URL holds a user name, a password or a query, quoted or not."""
    # fsspec also opens chains of URLs, such as zip://images.zip::s3://bucket/folder.
    parts = ((found[1].lower(), url[found.end() :].lstrip("/")) for found in URL.finditer(url))
    return "?" in unquote(url) or any(_has_user(protocol, rest) for protocol, rest in parts)


def _has_user(protocol: str, rest: str) -> bool:
    """Whether what follows the scheme of a URL begins with a user name, as in USER:PASSWORD@BUCKET/FOLDER."""
    host = unquote(rest.partition("/")[0])
    is_container = protocol in WITH_CONTAINER and CONTAINER.fullmatch(host)
    if protocol in WITHOUT_HOST or is_container:
        return False
    # Secret keys of S3 may hold a "/", and then the "@" after them is not before the first "/". The ":" of
    # USER:SECRET is. No bucket has one in its name, so "@" is free in the names of folders and objects below
    # it. Below HOST:PORT it is refused, since the start of a password may look like a port.
    return "@" in host or (":" in host and "@" in unquote(rest))


def find(url: str) -> dict[str, Object]:
    """Return all objects below a URL by their keys, relative to it and sorted; by one listing.

    Raises
    ------
    ImgclfError : there is nothing at the URL.
    StoreError : the store cannot be listed, or lists neither ETags nor times, by which changes are seen.
    """
    system, root = _opened(url)
    try:
        listed = _tried(url, lambda: system.find(root, detail=True))
    except FileNotFoundError:
        listed = {}
    prefix = root.rstrip("/") + "/"
    objects = {
        key.removeprefix(prefix): Object(_version(url, about), int(about.get("size") or 0))
        for key, about in sorted(listed.items())
        if key.startswith(prefix) and not key.endswith("/")  # the console of S3 makes such keys for folders
    }
    if not objects:
        raise ImgclfError(
            f"{url}: no such bucket or folder, or nothing is in it; correct images_dir, or check in the "
            "tools of the store that you see images there"
        )
    return objects


def read(url: str, key: str, *, end: int | None = None) -> bytes:
    """Return the content of an object, or its first `end` bytes.

    Raises
    ------
    ImgclfError : the object is not there any more.
    StoreError : it cannot be read now.
    """
    system, root = _opened(url)
    place = f"{root.rstrip('/')}/{key}"
    ranged: dict[str, Any] = {} if end is None else {"start": 0, "end": end}
    try:
        content: bytes = _tried(f"{url}/{key}", lambda: system.cat_file(place, **ranged))
    except FileNotFoundError as error:
        raise ImgclfError(f"{url}/{key}: is not there any more; run 01_prepare_data again") from error
    return content


def write(url: str, key: str, content: bytes) -> None:
    """Write an object whole; a store shows the old content or the new one, never a part.

    Raises
    ------
    StoreError : it cannot be written.
    """
    system, root = _opened(url)
    try:
        _tried(f"{url}/{key}", lambda: system.pipe_file(f"{root.rstrip('/')}/{key}", content))
    except FileNotFoundError as error:
        raise StoreError(f"{url}: no such bucket; correct images_dir") from error


def _opened(url: str) -> tuple[Any, str]:
    return _opened_by(url, os.getpid())  # one that is forked cannot use the connections of another


@lru_cache(maxsize=16)
def _opened_by(url: str, process: int) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, one for all threads, and the path that the URL means in it."""
    protocol = url.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        system, root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(protocol, "'imgclf[remote]' and what fsspec names for it")
        raise ImgclfError(
            f"{url}: reading {protocol}:// needs a package that is not installed; pip install {package}"
        ) from error
    except ValueError as error:
        raise ImgclfError(f"{url}: {error}; write it like s3://bucket/folder") from error
    except Exception as error:  # as a client without credentials
        raise _store_error(url, error) from error
    return system, root


def _tried(url: str, work: Callable[[], T]) -> T:
    """Return what `work` returns; only FileNotFoundError passes, other errors become a StoreError."""
    try:
        return work()
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # each file system raises types of its own
        raise _store_error(url, error) from error


def _store_error(url: str, error: Exception) -> StoreError:
    text = f"{type(error).__name__}: {error}"
    reason = next((reason for words, reason in REASONS if re.search(words, text, re.IGNORECASE)), "")
    first = re.sub(r"\?\S*", "", text.splitlines()[0])[:200]  # a query may hold a signature
    return StoreError(f"{url}: {reason or 'the store failed; run again'} ({first})")


def _version(url: str, about: dict[str, Any]) -> str:
    found = next((about[name] for name in (*ETAGS, *TIMES) if about.get(name)), "")
    if not found:
        raise StoreError(
            f"{url}: this store lists neither ETags nor times, so changed images would not be seen; "
            "copy the images into a folder"
        )
    return str(found)

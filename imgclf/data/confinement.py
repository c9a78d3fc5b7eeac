"""Confinement to a data set's folder, which may be untrusted.

Paths are plain, no link leads to a file that is moved, and what is written is a regular file.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from imgclf import ImgclfError

IS_WINDOWS = os.name == "nt"
# A link is not followed, and a pipe without a writer does not block. Windows has neither flag.
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
MAX_BYTES = 2**28  # the journal is read whole; that is a million changes
MAX_BYTES_TO_COMPACT = 2**31


def is_plain(path: str) -> bool:
    """Whether a path is one or more names joined by "/", each of a file or folder below the one before it."""
    names = path.split("/")
    try:
        path.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    if IS_WINDOWS:  # there, "c:" is a drive, "\\" a separator, and "... " the same as ""
        return not set('\\:\0<>"|?*') & set(path) and all(name.rstrip(". ") for name in names)
    return "\0" not in path and not {"", ".", ".."} & set(names)


def check_no_link(folder: Path, path: str) -> None:
    """Refuse a path below `folder` to which a link leads. The last name itself may be a link.

    Raises
    ------
    ImgclfError : one of the folders above the file is a link, so the file may be outside of `folder`.
    """
    here = Path(os.path.realpath(folder))
    for name in path.split("/")[:-1]:
        here /= name
        if os.path.normcase(os.path.realpath(here)) != os.path.normcase(here):
            raise ImgclfError(
                f"{path}: {name} is a link, and images are moved within {folder} only; "
                "replace the link by the folder itself"
            )


def open_regular(path: Path, mode: int, *, max_bytes: int = MAX_BYTES) -> BinaryIO:
    """Open a file that is neither a link nor a pipe, device or folder.

    Parameters
    ----------
    mode : the flags of `os.open`, such as os.O_RDONLY.

    Raises
    ------
    ImgclfError : it is a link or no regular file, or has more than `max_bytes`.
    FileNotFoundError : there is no such file, and `mode` creates none.
    """
    refusal = ImgclfError(f"{path}: is a link or no regular file; delete it")
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise refusal
    descriptor = os.open(path, mode | SAFELY, 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):  # it has just been replaced
        os.close(descriptor)
        raise refusal
    if found.st_size > max_bytes:
        os.close(descriptor)
        raise ImgclfError(
            f"{path}: has {found.st_size / 1e6:,.0f} MB, and a list of changes at most "
            f"{max_bytes / 1e6:,.0f} MB; move it out of the folder, or shorten it: imgclf labels compact"
        )
    return os.fdopen(descriptor, "rb" if mode == os.O_RDONLY else "rb+" if mode & os.O_RDWR else "wb")

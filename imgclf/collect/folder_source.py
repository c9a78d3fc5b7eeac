"""Sources of a manifest such as "folder:dotted/1.jpg?1a2b3c4d": files below a folder that a person has named.

What follows the question mark tells apart equal paths below two folders.
"""

import hashlib
import os
from pathlib import Path
from urllib.parse import quote, unquote

from imgclf import ImgclfError, files
from imgclf.data.confinement import is_plain

SCHEME = "folder:"


def source(path: str, folder: Path) -> str:
    """The source of a file by its path below a folder."""
    return f"{SCHEME}{quote(path)}?{_mark(folder)}"


def path_of(source: str) -> str:
    """The path in a source, below its folder."""
    return unquote(source.removeprefix(SCHEME).partition("?")[0])


def _mark(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:8]


def read(source: str, folder: Path) -> bytes:
    """The content of a file by its source, below the folder that was searched.

    A manifest from elsewhere cannot name another file, neither by ".." nor by a link out of the folder.

    Raises
    ------
    ImgclfError : the file is not below the folder or of another one, or cannot be read.
    """
    relative, mark = path_of(source), source.partition("?")[2]
    if mark and mark != _mark(folder):
        raise ImgclfError(f"{source}: is not of {folder}; set search_folder to the folder where it was found")
    if not is_plain(relative):
        raise ImgclfError(f"{source}: does not stay below {folder}; correct the manifest")
    path = folder / relative
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ImgclfError(f"{source}: is a link out of {folder}; copy the file itself there")
    return files.read_bytes(path)

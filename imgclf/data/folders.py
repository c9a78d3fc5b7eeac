"""Walking folders, without what operating systems and programs leave in them."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from imgclf import parameters

# What operating systems, network storage, archives and Jupyter leave in folders of images.
SYSTEM = (
    r"\..*|__MACOSX|__pycache__|Icon\r|lost\+found|@eaDir|@Recycle|@Recently-Snapshot|#recycle|#snapshot"
    r"|\$RECYCLE\.BIN|System Volume Information|Thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini"
    r"|~\$.*"
)


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to an operating system or a program."""
    return bool(re.fullmatch(SYSTEM, name, re.IGNORECASE | re.DOTALL))


def walk(start: Path, visited: set[str], onerror: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield the files below a folder, each folder's sorted before those of its subfolders.

    Links are followed. Hidden files and folders, and those of operating systems, are left out.

    Parameters
    ----------
    visited : real paths of folders to leave out; those that are visited are added. A link back to a folder
        above would never end, and another one would list images twice.
    onerror : called for a folder that cannot be read.
    """
    for here, below, names in os.walk(start, followlinks=True, onerror=onerror):
        real = os.path.realpath(here)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if not is_system(name))
        yield from (Path(here, name) for name in sorted(names) if not is_system(name))


def nearest(folder: Path, *, also: Iterable[str] = ()) -> str:
    """Return " (did you mean …?)" if a folder beside a missing one, or a name in `also`, is called alike."""
    names = set(also)
    with suppress(OSError):
        names |= {path.name for path in folder.parent.iterdir() if path.is_dir() and "@" not in path.name}
    return parameters.nearest(folder.name, {name: name for name in sorted(names) if not is_system(name)})

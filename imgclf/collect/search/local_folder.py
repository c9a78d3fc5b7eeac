"""Search of a folder on this machine: images whose path has a word of the query. No network is needed."""

import re
from pathlib import Path

from imgclf import ImgclfError, files
from imgclf.collect import folder_source
from imgclf.collect.search.protocol import Answer, Found, Position
from imgclf.data import folders
from imgclf.data.confinement import is_plain
from imgclf.images import decoding

DEFAULT = "images/fashion_texture"  # of the data folder


class LocalFolder:
    """Search below a folder by the words in paths; see `ImageSearch`."""

    name = "folder"
    terms = "a folder of this machine: you know what its images may be used for"
    page_size, most = 1_000_000, 0
    seconds_between, requests_per_day = 0.0, 0
    commercial_use = False  # refused: it knows no licences
    is_offline = True

    def __init__(self, *, folder: str = "", commercial_use: bool = False):
        if commercial_use:
            raise ImgclfError(
                "search_service=folder: it knows no licences, so that commercial_use would leave no image; "
                "set commercial_use=False if you may use the images of the folder"
            )
        self.folder = search_folder(folder)
        if not self.folder.is_dir():
            raise ImgclfError(
                f"search_folder: there is no folder {self.folder}{folders.nearest(self.folder)}; "
                "name another one, or search the web: search_service=openverse"
            )
        self.identity = str(self.folder)
        self._paths: dict[str, list[str]] | None = None

    def ask(self, query: str, position: Position) -> Answer:
        """The images whose path has a word of the query, those with most words first, then sorted by path.

        A word of a path may be longer than that of the query: "blouse" finds "blouses".
        """
        wanted = set(_words(query))
        scored = [
            (-sum(any(word.startswith(part) for word in words) for part in wanted), path)
            for path, words in self._images().items()
        ]
        return Answer(
            tuple(
                Found(folder_source.source(path, self.folder), title=Path(path).name)
                for score, path in sorted(scored)
                if score
            ),
            None,
        )

    def _images(self) -> dict[str, list[str]]:
        """The words of each image's path; the folder is listed once."""
        if self._paths is None:
            walked = folders.walk(self.folder, set(), _refuse)
            paths = (path for path in walked if path.suffix.lower() in decoding.SUFFIXES)
            relative = (path.relative_to(self.folder).as_posix() for path in paths)
            self._paths = {path: _words(path) for path in relative if path.isprintable() and is_plain(path)}
        return self._paths


def shows(url: str, label: str) -> bool:
    """Whether the path in a source of a folder has all words of a label, or longer ones that begin so."""
    words = _words(folder_source.path_of(url))
    return all(any(word.startswith(part) for word in words) for part in _words(label))


def search_folder(folder: str = "") -> Path:
    """The folder of the parameter `search_folder`, relative to the data folder; "": the demo data set's."""
    path = Path(folder or DEFAULT)
    return files.absolute(
        str(path) if folder.startswith("~") else str(files.data_dir() / path), source="search_folder"
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _refuse(error: OSError) -> None:
    raise ImgclfError(f"search_folder: {error.filename}: {error.strerror}; make it readable") from error

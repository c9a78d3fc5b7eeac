"""A folder of images from somebody else: whatever its journal says, nothing outside is touched and no image is lost."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data import changes, scan
from imgclf.data.journal import LOCK, NAME, PENDING, Journal
from support.mutations import JSON_VALUES, TEXT, TEXTS, damaged
from support.pictures import jpeg

IMAGES = {
    path: jpeg("red", seed)
    for seed, path in enumerate(["red/1.jpg", "red/shop/2.jpg", "blue/3.jpg", "blue/1.jpg"])
}
PATHS = (*IMAGES, *["link/victim.jpg", "../victim.jpg", "red/new.jpg"] * 4, "red", "blue", "red/shop", "green", "blue/new.jpg", "link/victim.jpg", "link/new.jpg", "red/out.jpg", "out.jpg",
         "../victim.jpg", "a/../../victim.jpg", "/tmp/x.jpg", "..", ".", "./red/1.jpg", "red//1.jpg", "link", "red/1.jpg/x", "C:\\x.jpg", NAME, PENDING)  # fmt: skip


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return tmp_path / "outside"


def build(outside: Path) -> Path:
    """A folder of images, in which links lead to a folder and a file outside."""
    folder = outside / "images"
    shutil.rmtree(outside, ignore_errors=True)
    for path, content in IMAGES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (outside / "victim.jpg").write_bytes(jpeg("green"))
    (folder / "link").symlink_to(outside)
    (folder / "red" / "out.jpg").symlink_to(outside / "victim.jpg")
    return folder


def contents(folder: Path) -> list[bytes]:
    """The images, wherever they lie now."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(path.read_bytes() for path in found if path.name not in (NAME, PENDING, LOCK))


PATH = st.one_of(*[st.sampled_from(PATHS)] * 5, TEXTS)
ABOUT = {
    "undoes": st.integers(0, 3),
    "made": PATH,
    "change": st.integers(0, 4) | st.sampled_from([-1, 2**70]),
    "time": st.just("2026-01-01T00:00:00.000+00:00") | TEXTS,
}
KNOWN_PATH = st.sampled_from(PATHS)
MOVE = st.fixed_dictionaries({"action": st.just("relabel"), "path": KNOWN_PATH, "to": KNOWN_PATH})
STEP = st.fixed_dictionaries(
    {"action": st.sampled_from(sorted(changes.ACTIONS)), "path": PATH}, optional={"to": PATH, **ABOUT}
)
LINE = st.one_of(*[MOVE] * 8, STEP, STEP, JSON_VALUES).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
)
LINES = st.lists(LINE, max_size=4)
REAL = [
    b'{"action": "relabel", "path": "red/1.jpg", "to": "green/1.jpg", "made": "green", "change": 1, "time": "2026-01-01"}\n',
    b'{"action": "exclude", "path": "blue/3.jpg", "change": 2, "time": "2026-01-01"}\n'
    b'{"action": "relabel", "path": "green/1.jpg", "to": "red/1.jpg", "undoes": 1, "change": 3, "time": "2026-01-01"}\n',
]
JOURNAL = LINES.map(lambda lines: b"".join(line + b"\n" for line in lines)) | damaged(REAL, TEXT)
ANNOUNCED = st.builds(
    lambda size, count, lines: f"{size} {len(lines) + count}\n".encode() + b"".join(line + b"\n" for line in lines),
    st.sampled_from([0] * 6 + [1, -1, 10**6, 10**30]), st.sampled_from([0] * 6 + [1, -1]), LINES,
)  # fmt: skip
PENDING_CHANGE = (
    st.just(b"") | ANNOUNCED | ANNOUNCED | damaged([b"0 1\n" + REAL[0], b"200 2\n" + REAL[1]], TEXT)
)


def test_journal_and_announced_change(fuzz, outside):
    def is_harmless(inputs: dict[str, bytes]) -> None:
        folder = build(outside)
        before, victims = contents(folder), sorted(outside.iterdir())
        (folder / NAME).write_bytes(inputs["journal"])
        if inputs["pending"]:
            (folder / PENDING).write_bytes(inputs["pending"])
        try:
            opened = Annotations(scan.scan_folder("images", folder))
            for work in (
                lambda: opened.relabel([len(opened.images) - 1], "blue"),
                lambda: opened.add_label("odd"),
                opened.undo,
                opened.undo,
                opened.undo,
            ):
                try:
                    work()
                except ImgclfError:
                    continue
            assert not (folder / PENDING).exists()
            assert Journal(folder).history == opened.journal.history
        finally:
            assert contents(folder) == before
            assert sorted(outside.iterdir()) == victims and (outside / "victim.jpg").read_bytes() == jpeg(
                "green"
            )

    fuzz(st.fixed_dictionaries({"journal": JOURNAL, "pending": PENDING_CHANGE}), is_harmless)

"""A folder from somebody else, prepared to reach outside of itself: nothing outside is moved, planted, truncated or waited for."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data import changes, confinement, scan
from imgclf.data.changes import ACTIONS, Step, to_lines
from imgclf.data.journal import LOCK, NAME, PENDING, Journal

A_LINE = '{"action": "exclude", "path": "red/2.jpg", "sha256": "", "change": 1, "time": ""}\n'


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder with a file, an empty file and an empty folder, none of which may change."""
    outside = tmp_path / "outside"
    (outside / "empty").mkdir(parents=True)
    (outside / "secret.jpg").write_text("secret\nwithout a line break at its end")
    (outside / "nothing.jpg").write_text("")
    return outside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for path in ("red/2.jpg", "blue/3.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def state(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="latin-1") if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def announce(folder: Path, *steps: Step, size: int = 0) -> None:
    (folder / PENDING).write_bytes(f"{size} {len(steps)}\n".encode() + to_lines(steps))


def look(folder: Path) -> None:
    """Open the journal and lock it, as the annotator does; a refusal by a sentence is as good as no effect."""
    try:
        journal = Journal(folder)
        with journal.hold():
            pass
    except ImgclfError as error:
        assert str(error)


@pytest.mark.parametrize(
    "path",
    ["../outside/secret.jpg", "red/../../outside/secret.jpg", "red//2.jpg", "./red/2.jpg", "red/", "red/."],
)
def test_an_announced_path_that_is_not_plain_moves_nothing(folder, outside, path):
    before = state(outside)
    for step in (
        Step("relabel", path, "red/taken.jpg", change=1),
        Step("relabel", "red/2.jpg", path, change=1),
    ):
        announce(folder, step)
        look(folder)
        assert state(outside) == before and state(folder)["red/2.jpg"] == "red/2.jpg"
        assert not (folder / PENDING).exists()


def test_an_announced_absolute_path_moves_nothing(folder, outside):
    before = state(outside)
    announce(folder, Step("relabel", f"{outside}/secret.jpg", "red/taken.jpg", change=1))
    look(folder)
    announce(folder, Step("relabel", "red/2.jpg", f"{outside}/planted.jpg", change=1))
    look(folder)
    announce(folder, Step("add label", f"{outside}/planted", change=1))
    look(folder)
    assert state(outside) == before


@pytest.mark.parametrize(
    "step",
    [
        Step("relabel", "away/secret.jpg", "red/taken.jpg", change=1),
        Step("relabel", "red/2.jpg", "away/planted.jpg", change=1),
        Step("relabel", "red/2.jpg", "away/new/planted.jpg", change=1),
        Step("relabel", "red/2.jpg", "red/away/planted.jpg", change=1),
        Step("relabel", "red/2.jpg", "away/nothing.jpg", change=1),
        Step("relabel", "away/empty/gone.jpg", "red/2.jpg", made="away", change=1),
    ],
    ids=[
        "taken",
        "planted",
        "planted in a new folder",
        "link inside of a label",
        "emptied",
        "removed folder",
    ],
)
def test_an_announced_move_through_a_link_moves_nothing(folder, outside, step):
    (folder / "away").symlink_to(outside)
    (folder / "red/away").symlink_to(outside)
    before = state(outside)
    announce(folder, step)
    look(folder)
    assert state(outside) == before and (folder / "red/2.jpg").read_text() == "red/2.jpg"


def test_removing_a_label_that_is_a_link_removes_no_folder_outside(folder, outside):
    (folder / "away").symlink_to(outside)
    (folder / "train").mkdir()
    (folder / "train/away").symlink_to(outside)
    before = state(outside)
    for path in ("away", "train/away"):
        announce(folder, Step("remove label", path, change=1))
        look(folder)
        with pytest.raises(ImgclfError, match=f"{path}/: away is a link"):
            changes.apply(folder, Step("remove label", path, change=1))
    assert state(outside) == before and (folder / "away").is_symlink()


@pytest.mark.parametrize("name", [NAME, PENDING])
def test_a_journal_or_an_announcement_of_50_gb_is_refused_before_it_is_read(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(50 * 10**9)  # a sparse file
    with pytest.raises(
        ImgclfError, match=f"{name}: has 50,000 MB, and a list of changes at most 268 MB; move"
    ):
        Journal(folder)
    with pytest.raises(ImgclfError, match="has 50,000 MB"):
        scan.scan_folder("images", folder)


def test_undoing_a_prepared_change_takes_and_plants_nothing_through_a_link(folder, outside):
    (folder / "away").symlink_to(outside)
    before = state(outside)
    (folder / NAME).write_bytes(
        to_lines([Step("relabel", "away/planted.jpg", "red/2.jpg", made="away/empty", change=1)])
    )
    journal = Journal(folder)
    with journal.hold(), pytest.raises(ImgclfError, match="away is a link"):
        journal.carry_out([step.inverse() for step in journal.active[1]])
    assert state(outside) == before and (folder / "red/2.jpg").exists()


def test_a_person_who_relabels_into_or_out_of_a_linked_folder_gets_the_reason(distinct_folder, tmp_path):
    (distinct_folder / "blue").rename(tmp_path / "elsewhere")
    (distinct_folder / "blue").symlink_to(tmp_path / "elsewhere")
    annotations = Annotations(scan.scan_folder("colours", distinct_folder))
    before = state(tmp_path / "elsewhere")
    by_path = {image.path: i for i, image in enumerate(annotations.images)}
    for path, label in (("red/r00.jpg", "blue"), ("blue/b00.jpg", "red")):
        with pytest.raises(ImgclfError, match=r"blue is a link, .*; replace the link by the folder itself"):
            annotations.relabel([by_path[path]], label)
    annotations.exclude([by_path["blue/b00.jpg"]])  # moves nothing
    assert state(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("name", [NAME, PENDING, LOCK])
@pytest.mark.parametrize("target", ["secret.jpg", "new.jpg"])
def test_a_journal_announcement_or_lock_that_is_a_link_is_never_written_through(
    folder, outside, name, target
):
    before = state(outside)
    if name != PENDING:
        announce(folder, Step("relabel", "red/2.jpg", "blue/2.jpg", change=1))
    (folder / name).symlink_to(outside / target)
    with pytest.raises(ImgclfError, match=rf"{name}: is a link or no regular file; delete it"):
        journal = Journal(folder)
        with journal.hold():
            journal.carry_out([Step("relabel", "red/2.jpg", "blue/2.jpg")])
    assert state(outside) == before


@pytest.mark.parametrize("name", [NAME, PENDING, LOCK])
def test_a_journal_announcement_or_lock_that_is_a_pipe_a_device_or_a_folder_is_refused_without_waiting(
    folder, name
):
    def pipe(path: Path) -> None:
        os.mkfifo(path)

    for make in (pipe, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        make(folder / name)
        with pytest.raises(ImgclfError, match=rf"{name}: is a link or no regular file; delete it"):
            journal = Journal(folder)
            with journal.hold():
                pass
        (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()


def test_a_link_that_waits_under_the_new_name_of_an_image_is_neither_followed_nor_replaced(folder, outside):
    (folder / "blue/2.jpg").symlink_to(outside / "planted.jpg")
    before = state(outside)
    journal = Journal(folder)
    with journal.hold():
        journal.carry_out([Step("relabel", "red/2.jpg", "blue/2.jpg")])
    assert (folder / "blue/2-2.jpg").read_text() == "red/2.jpg" and (folder / "blue/2.jpg").is_symlink()
    with pytest.raises(ImgclfError, match="a file of that name has just appeared"):
        changes.apply(folder, Step("relabel", "blue/2-2.jpg", "blue/2.jpg"))  # it appeared after the check
    assert state(outside) == before and (folder / "blue/2-2.jpg").read_text() == "red/2.jpg"


def test_a_file_of_the_data_set_that_became_a_pipe_or_a_device_is_another_image_and_is_not_read(folder):
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (folder / "red/2.jpg").unlink()
        make(folder / "red/2.jpg")
        journal = Journal(folder)
        with journal.hold(), pytest.raises(ImgclfError, match="red/2.jpg: is another image now"):
            journal.carry_out([Step("exclude", "red/2.jpg", sha256="0" * 64)])


@pytest.mark.parametrize("size", [-1, 0, 5, 10**30])
def test_an_announcement_with_a_wrong_size_cuts_no_line_off_the_journal(folder, size):
    (folder / NAME).write_text(A_LINE)
    announce(folder, Step("relabel", "red/2.jpg", "blue/2.jpg", change=2), size=size)
    Journal(folder)
    assert (folder / NAME).read_text().startswith(A_LINE)


@pytest.mark.parametrize(
    "line",
    [
        '{"action": "exclude", "path": "red/\\ud800.jpg", "change": 1}',
        '{"action": "exclude", "path": "red/\\u0000.jpg", "change": 1}',
        '{"action": "exclude", "path": "2.jpg", "change": 1}',
        '{"action": "add label", "path": "red/deep/er", "change": 1}',
        '{"action": "relabel", "path": "red/2.jpg", "to": "annotations.jsonl", "change": 1}',
        '{"action": "relabel", "path": "red/2.jpg", "to": "blue/2.jpg", "made": "/tmp", "change": 1}',
        '{"action": "exclude", "path": "red/2.jpg"}',
        '{"action": "exclude", "path": "red/2.jpg", "change": -1}',
        '{"action": "include", "path": "red/2.jpg", "change": 2, "undoes": 2}',
        "[" * 100_000,
        '{"action": "exclude", "path": "red/2.jpg", "change": ' + "9" * 5000 + "}",
    ],
    ids=[
        "half a surrogate pair",
        "NUL",
        "no label",
        "deep label",
        "the journal",
        "made",
        "no number",
        "below 1",
        "undoes itself",
        "nested",
        "long",
    ],
)
def test_a_line_that_no_window_writes_is_refused_as_damaged_and_moves_nothing(folder, line):
    (folder / NAME).write_text(line + "\n")
    with pytest.raises(ImgclfError, match="line 1: .* is damaged; correct or delete the line"):
        Journal(folder)
    (folder / NAME).unlink()
    (folder / PENDING).write_text(f"0 1\n{line}\n")
    before = state(folder)
    Journal(folder)
    assert {**state(folder), PENDING: before[PENDING]} == {
        **before,
        LOCK: "",
        **({NAME: ""} if (folder / NAME).exists() else {}),
    }


@pytest.mark.parametrize(
    "path", ["C:red/2.jpg", "red\\..\\..\\2.jpg", "red/2.jpg:stream", "red/.. /2.jpg", "red/.../2.jpg"]
)
def test_on_windows_drives_backslashes_and_names_that_end_in_dots_are_no_plain_paths(path, monkeypatch):
    assert confinement.is_plain(path)
    monkeypatch.setattr(confinement, "IS_WINDOWS", True)
    assert not confinement.is_plain(path) and confinement.is_plain("red/2.jpg")


def test_a_journal_of_version_0_1_0_is_read(folder):
    steps = [
        {
            "action": "relabel",
            "path": "red/2.jpg",
            "to": "blue/2.jpg",
            "sha256": "a",
            "change": 1,
            "time": "t",
        },
        {
            "action": "relabel",
            "path": "blue/2.jpg",
            "to": "red/2.jpg",
            "sha256": "a",
            "undoes": 1,
            "change": 2,
        },
        {"action": "relabel", "path": "red/2.jpg", "to": "new/2.jpg", "made": "new", "change": 3},
        {"action": "add label", "path": "odd", "change": 4},
        {"action": "gone", "path": "new/2.jpg", "undoes": 3, "change": 5},
    ]
    (folder / NAME).write_text("".join(json.dumps(step) + "\n" for step in steps))
    assert list(Journal(folder).active) == [4]


PARTS = [
    "red",
    "blue",
    "away",
    "inner",
    "empty",
    "2.jpg",
    "secret.jpg",
    "nothing.jpg",
    "new",
    "..",
    ".",
    "",
    NAME,
]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
STEPS = st.fixed_dictionaries(
    {"action": st.sampled_from(sorted(ACTIONS)), "path": PATHS, "change": st.integers(0, 3)},
    optional={"to": PATHS, "made": PATHS, "undoes": st.integers(0, 3)},
)
FILES = st.one_of(
    st.lists(STEPS, max_size=4).map(
        lambda steps: "".join(json.dumps(step) + "\n" for step in steps).encode()
    ),
    st.binary(max_size=80),
)


@settings(max_examples=150)
@given(journal=FILES, pending=FILES, size=st.integers(-1, 200), count=st.integers(0, 4), undo=st.booleans())
def test_whatever_journal_and_announcement_hold_nothing_outside_changes(
    tmp_path_factory, journal, pending, size, count, undo
):
    outside, folder = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("images")
    (outside / "empty").mkdir()
    (outside / "secret.jpg").write_text("secret")
    (outside / "nothing.jpg").write_text("")
    (outside / "inner").symlink_to(folder)
    for label in ("red", "blue"):
        (folder / label).mkdir()
        (folder / label / "2.jpg").write_text(label)
        (folder / label / "away").symlink_to(outside)
    (folder / "away").symlink_to(outside)
    before = {path.name: path.lstat().st_mode for path in outside.iterdir()}
    (folder / NAME).write_bytes(journal)
    (folder / PENDING).write_bytes(f"{size} {count}\n".encode() + pending)
    look(folder)
    with suppress(ImgclfError):
        opened = Journal(folder)
        while undo and opened.active:
            with opened.hold():
                opened.carry_out([step.inverse() for step in reversed(list(opened.active.values())[-1])])
    assert {path.name: path.lstat().st_mode for path in outside.iterdir()} == before
    assert (outside / "secret.jpg").read_text() == "secret" and not any((outside / "empty").iterdir())

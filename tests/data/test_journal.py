"""The journal of label changes: whole after a kill at any moment, and never a way out of the folder."""

import errno
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from imgclf import ImgclfError, files
from imgclf.data import changes, journal
from imgclf.data.changes import Step
from imgclf.data.journal import LOCK, NAME, PENDING, Journal

MOVE = Step("relabel", "red/2.jpg", "blue/2.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for path in ("red/shop/1.jpg", "red/2.jpg", "blue/3.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def do(folder: Path, *steps: Step) -> None:
    opened = Journal(folder)
    with opened.hold():
        opened.carry_out(steps)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.name not in (NAME, LOCK)
    }


def test_every_change_is_a_line_with_its_time(folder):
    do(folder, MOVE)
    do(folder, Step("exclude", "blue/3.jpg", sha256=""))
    first, second = lines(folder)
    assert (
        first.items() >= {"action": "relabel", "path": "red/2.jpg", "to": "blue/2.jpg", "change": 1}.items()
    )
    assert (second["action"], second["path"], second["change"]) == ("exclude", "blue/3.jpg", 2)
    assert first["time"][:2] == "20" and first["time"][-3] == ":"  # with the offset from UTC


@pytest.mark.slow
@pytest.mark.parametrize("what", ["relabel", "undo", "add label"])
def test_a_kill_at_any_line_loses_neither_image_nor_journal_and_the_next_start_repairs(
    folder, tmp_path, what
):
    before = contents(folder)
    if what == "undo":
        do(folder, Step("relabel", "red/shop/1.jpg", "blue/shop/1.jpg"), MOVE)
    start = contents(folder)
    (tmp_path / "killed").mkdir()
    subprocess.run(
        [
            sys.executable,
            Path(__file__).parents[1] / "support" / "killed_while_relabelling.py",
            folder,
            tmp_path / "killed",
            what,
        ],
        check=True,
    )
    killed = sorted((tmp_path / "killed").iterdir())
    assert len(killed) > 40
    ends = set()
    for copy in killed:
        opened = Journal(copy)
        found = contents(copy)
        assert sorted(text for text in found.values() if text) == sorted(
            text for text in before.values() if text
        ), copy
        assert not (copy / PENDING).exists()
        is_done = bool(opened.standing) == (what != "undo")
        ends.add(is_done)
        assert is_done or found == start, copy
        while opened.standing:
            with opened.hold():
                opened.carry_out([step.inverse() for step in reversed(list(opened.standing.values())[-1])])
        assert contents(copy) == before, copy
    assert ends == {False, True}


def test_an_announcement_or_a_line_cut_off_at_any_byte_is_dropped(folder):
    do(folder, MOVE)
    start, whole = contents(folder), (folder / NAME).read_bytes()
    Journal(folder)._announce(
        [
            Step("relabel", "red/shop/1.jpg", "blue/1.jpg", change=2),
            Step("relabel", "blue/3.jpg", "red/3.jpg", change=2),
        ],
        len(whole),
    )
    announced = (folder / PENDING).read_bytes()
    for cut in range(len(announced) - 1):  # the last byte is a line break
        (folder / PENDING).write_bytes(announced[:cut])
        (folder / NAME).write_bytes(whole + whole[: min(cut, len(whole) - 2)])
        assert len(Journal(folder).standing) == 1
        assert contents(folder) == start and (folder / NAME).read_bytes() == whole, cut
    (folder / PENDING).write_bytes(announced)
    assert len(Journal(folder).standing) == 2 and len(lines(folder)) == 3


def test_a_last_line_that_an_editor_left_without_a_line_break_counts(folder):
    do(folder, MOVE)
    (folder / NAME).write_bytes((folder / NAME).read_bytes().rstrip())
    opened = Journal(folder)
    assert opened.origin("blue/2.jpg") == "red/2.jpg"
    do(folder, Step("exclude", "blue/3.jpg"))
    opened.follow()
    assert [line["change"] for line in lines(folder)] == [1, 2] and opened.last_change == 2


@pytest.mark.parametrize(
    "wanted", [[Step("add label", "README")], [MOVE, Step("relabel", "red/shop/1.jpg", "README/1.jpg")]]
)
def test_a_file_where_a_folder_is_needed_gives_a_message_and_leaves_all_as_it_was(folder, wanted):
    (folder / "README").write_text("not a folder")
    before = contents(folder)
    with pytest.raises(ImgclfError, match="README: is a file, and a folder is needed; rename it"):
        do(folder, *wanted)
    assert contents(folder) == before and not Journal(folder).standing


def test_what_could_only_partly_be_done_is_told_and_taken_back_whole(folder, monkeypatch):
    before, move = contents(folder), changes._move

    def refuse(source, target):
        if source.name == "2.jpg":
            raise PermissionError(errno.EACCES, "Permission denied")
        move(source, target)

    monkeypatch.setattr(changes, "_move", refuse)
    with pytest.raises(
        ImgclfError, match=r"no permission to write there; make it writable \(1 of 3 were changed before\)"
    ):
        do(
            folder,
            Step("relabel", "red/shop/1.jpg", "blue/1.jpg"),
            MOVE,
            Step("relabel", "blue/3.jpg", "red/3.jpg"),
        )
    assert [line["to"] for line in lines(folder)] == ["blue/1.jpg"]
    monkeypatch.undo()
    do(folder, *[step.inverse() for step in Journal(folder).standing[1]])
    assert contents(folder) == before


def test_of_an_undo_that_could_only_partly_be_done_the_rest_still_stands(folder):
    do(folder, Step("relabel", "red/shop/1.jpg", "blue/1.jpg"), MOVE)
    opened = Journal(folder)
    do(folder, opened.standing[1][1].inverse())
    opened.follow()
    assert [step.to for step in opened.standing[1]] == ["blue/1.jpg"]


def test_a_disk_that_is_full_when_the_line_is_written_leaves_all_as_it_was(folder, monkeypatch):
    before, append = contents(folder), files.append

    def full(path, text):
        append(path, text)
        if path.name == NAME:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "append", full)
    with pytest.raises(ImgclfError, match="the disk is full"):
        do(folder, Step("relabel", "red/shop/1.jpg", "green/shop/1.jpg"), MOVE)
    monkeypatch.undo()
    assert contents(folder) == before and not Journal(folder).standing


def test_a_journal_that_was_shortened_while_it_was_open_gives_a_message(folder):
    do(folder, MOVE)
    opened = Journal(folder)
    (folder / NAME).write_text("")
    with pytest.raises(ImgclfError, match="was shortened by hand; run 01_prepare_data again"):
        opened.follow()


def test_what_was_finished_before_a_kill_is_seen_by_another_window(folder):
    opened = Journal(folder)
    do(folder, MOVE)
    Journal(folder)._announce([Step("exclude", "blue/3.jpg", change=2)], (folder / NAME).stat().st_size)
    with opened.hold() as news:
        assert [step.action for step in news] == ["relabel", "exclude"]


def test_a_link_that_would_lead_nowhere_is_not_moved(folder):
    (folder / "store").mkdir()
    (folder / "store/9.jpg").write_text("stored")
    (folder / "red/shop/9.jpg").symlink_to("../../store/9.jpg")
    with pytest.raises(
        ImgclfError, match="red/shop/9.jpg: is a link that would lead nowhere from another folder"
    ):
        do(folder, Step("relabel", "red/shop/9.jpg", "blue/9.jpg"))
    do(folder, Step("relabel", "red/shop/9.jpg", "blue/shop/9.jpg"))
    assert (folder / "blue/shop/9.jpg").read_text() == "stored"


def test_the_journal_is_written_before_anybody_is_told(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    opened = Journal(folder)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ImgclfError, match="the disk is full"), opened.hold():
        opened.carry_out([MOVE])
    assert not opened.standing and contents(folder)["red/2.jpg"]
    monkeypatch.undo()
    assert not Journal(folder).standing and contents(folder)["red/2.jpg"]


def test_two_writers_wait_for_each_other(folder):
    def write(number: int) -> None:
        for _ in range(20):
            do(folder, Step("confirm", ("red/2.jpg", "blue/3.jpg")[number % 2]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["change"] for line in lines(folder)] == list(range(1, 81))


def test_a_folder_that_another_holds_for_long_gives_a_message(folder, monkeypatch):
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.1)
    with (
        FileLock(folder / LOCK),
        pytest.raises(ImgclfError, match="another window is changing labels just now; try again"),
    ):
        do(folder, MOVE)


@pytest.mark.parametrize(
    "line",
    [
        '{"action": "relabel", "path": "../x", "to": "red/x"}',
        '{"action": "relabel", "path": "red/2.jpg", "to": "/tmp/x"}',
        "no json",
        "[]",
        '{"action": "exclude", "path": "a", "change": "3"}',
        '{"action": "dance", "path": "a"}',
        '{"action": "relabel"}',
        '{"action": "exclude", "path": 3}',
        '{"unknown": 1}',
    ],
)
def test_a_damaged_line_or_one_that_leads_out_of_the_folder_is_refused(folder, line):
    (folder / NAME).write_text(line + "\n")
    with pytest.raises(
        ImgclfError, match=r"annotations.jsonl, line 1: .* is damaged; mend or delete the line"
    ):
        Journal(folder)


def test_an_announcement_that_leads_out_of_the_folder_moves_nothing(folder):
    (folder.parent / "outside.jpg").write_text("outside")
    (folder / PENDING).write_text(
        '0 1\n{"action": "relabel", "path": "../outside.jpg", "to": "red/outside.jpg", "change": 1}\n'
    )
    Journal(folder)
    assert (folder.parent / "outside.jpg").exists() and not (folder / PENDING).exists()


def test_where_an_image_came_from_is_known_until_it_is_back(folder):
    do(folder, MOVE)
    do(folder, Step("relabel", "blue/2.jpg", "green/2.jpg"))
    opened = Journal(folder)
    assert opened.origin("green/2.jpg") == "red/2.jpg" and opened.origin("blue/3.jpg") == "blue/3.jpg"
    assert opened.origins() == {"green/2.jpg": "red/2.jpg"}


def test_a_confirmation_changes_nothing_for_later_stages(folder):
    do(folder, MOVE)
    before = Journal(folder).fingerprint()
    do(folder, Step("confirm", "blue/3.jpg"))
    assert Journal(folder).fingerprint() == before != ""


def test_what_is_taken_back_is_as_if_it_had_never_been(folder):
    do(folder, MOVE)
    do(folder, Journal(folder).standing[1][0].inverse())
    assert Journal(folder).fingerprint() == ""

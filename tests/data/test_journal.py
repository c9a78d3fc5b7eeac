"""The journal of label changes: consistent after a kill at any moment, and confined to the folder."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from imgclf import ImgclfError
from imgclf.data import changes, journal
from imgclf.data.changes import Step, parse, to_lines
from imgclf.data.journal import LOCK, NAME, PENDING, Journal

MOVE = Step("relabel", "red/2.jpg", "blue/2.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for path in ("red/shop/1.jpg", "red/2.jpg", "blue/3.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def carry_out(folder: Path, *steps: Step) -> list[str]:
    opened = Journal(folder)
    with opened.hold():
        return opened.carry_out(steps)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / NAME).read_text().splitlines()]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.name not in (NAME, LOCK)
    }


def test_every_change_is_a_line_with_its_time(folder):
    carry_out(folder, MOVE)
    carry_out(folder, Step("exclude", "blue/3.jpg", sha256=""))
    first, second = lines(folder)
    assert (
        first.items() >= {"action": "relabel", "path": "red/2.jpg", "to": "blue/2.jpg", "change": 1}.items()
    )
    assert (second["action"], second["path"], second["change"]) == ("exclude", "blue/3.jpg", 2)
    assert first["time"][:2] == "20" and first["time"][-3] == ":"  # with the offset from UTC


@pytest.mark.slow
@pytest.mark.parametrize("what", ["relabel", "undo", "add label"])
def test_after_a_kill_at_any_line_the_next_start_completes_or_drops_the_change(folder, tmp_path, what):
    before = contents(folder)
    if what == "undo":
        carry_out(folder, Step("relabel", "red/shop/1.jpg", "blue/shop/1.jpg"), MOVE)
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
    assert len(killed) > 8 and int(killed[-1].name) > 40  # lines
    ends = set()
    for copy in killed:
        opened = Journal(copy)
        found = contents(copy)
        assert sorted(text for text in found.values() if text) == sorted(
            text for text in before.values() if text
        ), copy
        assert not (copy / PENDING).exists()
        is_done = bool(opened.active) == (what != "undo")
        ends.add(is_done)
        assert is_done or found == start, copy
        while opened.active:
            with opened.hold():
                opened.carry_out([step.inverse() for step in reversed(list(opened.active.values())[-1])])
        assert contents(copy) == before, copy
    assert ends == {False, True}


def test_a_pending_change_or_a_line_truncated_at_any_byte_is_dropped(folder):
    carry_out(folder, MOVE)
    start, whole = contents(folder), (folder / NAME).read_bytes()
    Journal(folder)._write_pending(
        [
            Step("relabel", "red/shop/1.jpg", "blue/1.jpg", change=2),
            Step("relabel", "blue/3.jpg", "red/3.jpg", change=2),
        ],
        len(whole),
    )
    pending = (folder / PENDING).read_bytes()
    for cut in range(len(pending) - 1):  # the last byte is a line break
        (folder / PENDING).write_bytes(pending[:cut])
        (folder / NAME).write_bytes(whole + whole[: min(cut, len(whole) - 2)])
        assert len(Journal(folder).active) == 1
        assert contents(folder) == start and (folder / NAME).read_bytes() == whole, cut
    (folder / PENDING).write_bytes(pending)
    assert len(Journal(folder).active) == 2 and len(lines(folder)) == 3


def test_a_last_line_without_a_line_break_is_read(folder):
    carry_out(folder, MOVE)
    (folder / NAME).write_bytes((folder / NAME).read_bytes().rstrip())
    opened = Journal(folder)
    assert opened.origin("blue/2.jpg") == "red/2.jpg"
    carry_out(folder, Step("exclude", "blue/3.jpg"))
    opened.follow()
    assert [line["change"] for line in lines(folder)] == [1, 2] and opened.last_change == 2


def test_a_file_where_a_folder_is_needed_is_refused_and_the_other_steps_are_applied(folder):
    (folder / "README").write_text("not a folder")
    before = contents(folder)
    reason = "README: is a file, and a folder is needed; rename it"
    with pytest.raises(ImgclfError, match=reason):
        carry_out(folder, Step("add label", "README"))
    assert contents(folder) == before and not Journal(folder).active
    (refusal,) = carry_out(folder, Step("relabel", "red/shop/1.jpg", "README/1.jpg"), MOVE)
    assert reason in refusal and [line["to"] for line in lines(folder)] == ["blue/2.jpg"]


def test_a_step_that_fails_while_it_is_applied_is_reported_and_the_others_can_be_undone(folder, monkeypatch):
    before, move = contents(folder), changes._move

    def refuse(source, target):
        if source.name == "2.jpg":
            raise PermissionError(errno.EACCES, "Permission denied")
        move(source, target)

    monkeypatch.setattr(changes, "_move", refuse)
    (refusal,) = carry_out(
        folder,
        Step("relabel", "red/shop/1.jpg", "blue/1.jpg"),
        MOVE,
        Step("relabel", "blue/3.jpg", "red/3.jpg"),
    )
    assert "blue/2.jpg: no permission to write there; make it writable" in refusal
    assert [line["to"] for line in lines(folder)] == ["blue/1.jpg", "red/3.jpg"]
    with pytest.raises(ImgclfError, match="no permission to write there"):
        carry_out(folder, MOVE)
    monkeypatch.undo()
    assert not (folder / PENDING).exists()
    carry_out(folder, *[step.inverse() for step in Journal(folder).active[1]])
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("taken", "moved_to"),
    [
        (["2.jpg"], "2-2.jpg"),
        (["2.jpg", "2-2.jpg"], "2-3.jpg"),
        (["2.JPG"], "2-2.jpg"),
        (["2.jpg.txt"], "2.jpg"),
    ],
)
def test_an_image_whose_name_is_taken_gets_the_next_free_one_and_undo_restores_the_old(
    folder, taken, moved_to
):
    for name in taken:
        (folder / "blue" / name).write_text("other")
    before = contents(folder)
    carry_out(folder, MOVE)
    assert contents(folder)[f"blue/{moved_to}"] == "red/2.jpg"
    assert Journal(folder).origins() == {f"blue/{moved_to}": "red/2.jpg"}
    carry_out(folder, Journal(folder).active[1][0].inverse())
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("name", "taken", "moved_to"),
    [
        ("Caf\u00e9.jpg", "Cafe\u0301.JPG", "Caf\u00e9-2.jpg"),
        ("stra\u00dfe.jpg", "STRASSE.jpg", "stra\u00dfe-2.jpg"),
        ("\u01c5.jpg", "\u01c6.jpg", "\u01c5-2.jpg"),
        ("noise", "NOISE", "noise-2"),
        ("." + "a" * 250, "." + "A" * 250, "." + "a" * 250 + "-2"),
        ("\u00e9" * 125 + ".jpg", "E\u0301" * 83 + ".jpg", "\u00e9" * 125 + ".jpg"),
        ("\u00e9" * 125 + ".jpg", "\u00e9" * 125 + ".JPG", "\u00e9" * 124 + "-2.jpg"),
        ("a" * 251 + ".jpg", "A" * 251 + ".jpg", "a" * 249 + "-2.jpg"),
    ],
    ids=["NFD", "sharp s", "titlecase", "no suffix", "hidden", "another name", "250 bytes", "255 bytes"],
)
def test_names_that_some_file_system_takes_for_the_same_are_kept_apart(folder, name, taken, moved_to):
    (folder / "red" / name).write_text("moved")
    (folder / "blue" / taken).write_text("other")
    carry_out(folder, Step("relabel", f"red/{name}", f"blue/{name}"))
    assert (folder / "blue" / moved_to).read_text() == "moved"
    assert (folder / "blue" / taken).read_text() == "other"


def test_two_images_of_one_name_are_both_moved_by_one_change(folder):
    (folder / "red/2.jpg").rename(folder / "red/3.JPG")
    before = contents(folder)
    carry_out(
        folder,
        Step("add label", "odd"),
        Step("relabel", "red/3.JPG", "odd/3.JPG"),
        Step("relabel", "blue/3.jpg", "odd/3.jpg"),
    )
    assert {path.name: path.read_text() for path in (folder / "odd").iterdir()} == {
        "3.JPG": "red/2.jpg",
        "3-2.jpg": "blue/3.jpg",
    }
    carry_out(folder, *[step.inverse() for step in reversed(Journal(folder).active[1])])
    assert contents(folder) == before


def test_a_name_that_an_earlier_step_of_the_change_frees_is_used(folder):
    (folder / "blue/2.jpg").write_text("blue two")
    carry_out(folder, Step("relabel", "blue/2.jpg", "green/2.jpg"), MOVE)
    assert (folder / "blue/2.jpg").read_text() == "red/2.jpg"
    assert (folder / "green/2.jpg").read_text() == "blue two"


def test_a_change_is_undone_redone_and_undone_again_in_later_sessions(folder):
    before = contents(folder)
    carry_out(folder, Step("relabel", "red/shop/1.jpg", "blue/shop/1.jpg"), Step("exclude", "blue/3.jpg"))
    after = contents(folder)
    for _ in range(2):
        carry_out(folder, *[step.inverse() for step in reversed(list(Journal(folder).active.values())[-1])])
        assert contents(folder) == before and not Journal(folder).active
        carry_out(folder, *[step.inverse() for step in reversed(list(Journal(folder).undone.values())[-1])])
        assert contents(folder) == after and not Journal(folder).undone
    assert Journal(folder).excluded() == {"blue/3.jpg": ""}
    assert Journal(folder).origins() == {"blue/shop/1.jpg": "red/shop/1.jpg"}


def test_two_undos_are_redone_in_reverse_order_and_a_new_change_ends_that(folder):
    carry_out(folder, MOVE)
    carry_out(folder, Step("exclude", "blue/3.jpg"))
    for _ in range(2):
        carry_out(folder, list(Journal(folder).active.values())[-1][0].inverse())
    carry_out(folder, list(Journal(folder).undone.values())[-1][0].inverse())
    opened = Journal(folder)
    assert [steps[0].action for steps in opened.active.values()] == ["relabel"] and len(opened.undone) == 1
    carry_out(folder, Step("confirm", "blue/3.jpg"))
    assert not Journal(folder).undone


def test_after_a_partial_undo_the_other_steps_are_still_active(folder):
    carry_out(folder, Step("relabel", "red/shop/1.jpg", "blue/1.jpg"), MOVE)
    opened = Journal(folder)
    carry_out(folder, opened.active[1][1].inverse())
    opened.follow()
    assert [step.to for step in opened.active[1]] == ["blue/1.jpg"]


def test_a_full_disk_at_the_journal_line_rolls_the_change_back(folder, monkeypatch):
    before, append = contents(folder), journal._append

    def full(path, content):
        append(path, content)
        if path.name == NAME:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal, "_append", full)
    with pytest.raises(ImgclfError, match="the disk is full"):
        carry_out(folder, Step("relabel", "red/shop/1.jpg", "green/shop/1.jpg"), MOVE)
    monkeypatch.undo()
    assert contents(folder) == before and not Journal(folder).active


def test_a_journal_that_is_shortened_while_open_raises_an_error(folder):
    carry_out(folder, MOVE)
    opened = Journal(folder)
    (folder / NAME).write_text("")
    with pytest.raises(
        ImgclfError, match="was compacted or shortened by another program; run 01_prepare_data again"
    ):
        opened.follow()


def test_a_change_recovered_after_a_kill_is_seen_by_another_process(folder):
    opened = Journal(folder)
    carry_out(folder, MOVE)
    Journal(folder)._write_pending([Step("exclude", "blue/3.jpg", change=2)], (folder / NAME).stat().st_size)
    with opened.hold() as news:
        assert [step.action for step in news] == ["relabel", "exclude"]


def test_a_relative_link_that_would_break_is_not_moved(folder):
    (folder / "store").mkdir()
    (folder / "store/9.jpg").write_text("stored")
    (folder / "red/shop/9.jpg").symlink_to("../../store/9.jpg")
    with pytest.raises(
        ImgclfError, match="red/shop/9.jpg: is a relative link that would break in another folder"
    ):
        carry_out(folder, Step("relabel", "red/shop/9.jpg", "blue/9.jpg"))
    carry_out(folder, Step("relabel", "red/shop/9.jpg", "blue/shop/9.jpg"))
    assert (folder / "blue/shop/9.jpg").read_text() == "stored"


def test_a_change_is_active_only_when_its_line_is_on_disk(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    opened = Journal(folder)
    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(ImgclfError, match="the disk is full"), opened.hold():
        opened.carry_out([MOVE])
    assert not opened.active and contents(folder)["red/2.jpg"]
    monkeypatch.undo()
    assert not Journal(folder).active and contents(folder)["red/2.jpg"]


def test_two_writers_wait_for_each_other(folder):
    def write(number: int) -> None:
        for _ in range(20):
            carry_out(folder, Step("confirm", ("red/2.jpg", "blue/3.jpg")[number % 2]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["change"] for line in lines(folder)] == list(range(1, 81))


def test_a_folder_locked_for_too_long_raises_an_error(folder, monkeypatch):
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.1)
    with (
        FileLock(folder / LOCK),
        pytest.raises(ImgclfError, match="another window is changing labels just now; try again"),
    ):
        carry_out(folder, MOVE)


@pytest.mark.parametrize(
    "line",
    [
        '{"action": "relabel", "path": "../x", "to": "red/x"}',
        '{"action": "relabel", "path": "red/2.jpg", "to": "/tmp/x"}',
        "no json",
        "[]",
        '{"action": "exclude", "path": "a", "change": "3"}',
        '{"action": "dance", "path": "a"}',
        '{"action": "gone", "path": "a"}',
        '{"action": "unconfirm", "path": "a"}',
        '{"action": "remove label", "path": "a", "undoes": 0}',
        '{"action": "relabel"}',
        '{"action": "exclude", "path": 3}',
        '{"unknown": 1}',
        '{"action": "confirm", "path": "a/b", "change": 1},{"action": "confirm", "path": "a/b", "change": 2}',
        '{"action": "confirm", "path": "a/b",\n"change": 1}',
        '{"action": "confirm", "path": "a/b", "change": 1},{"action": "confirm",\n"path": "a/b", "change": 2}',
        '{"action": "confirm", "path": "a/b", "change": true}',
        '{"action": "compacted", "path": "a/b/c.jpg", "change": 1}',
    ],
)
def test_a_damaged_line_or_a_path_outside_of_the_folder_is_refused(folder, line):
    (folder / NAME).write_text(line + "\n")
    with pytest.raises(
        ImgclfError, match=r"annotations.jsonl, line 1: .* is damaged; correct or delete the line"
    ):
        Journal(folder)


def test_a_pending_change_with_a_path_outside_of_the_folder_moves_nothing(folder):
    (folder.parent / "outside.jpg").write_text("outside")
    (folder / PENDING).write_text(
        '0 1\n{"action": "relabel", "path": "../outside.jpg", "to": "red/outside.jpg", "change": 1}\n'
    )
    Journal(folder)
    assert (folder.parent / "outside.jpg").exists() and not (folder / PENDING).exists()


def test_origin_is_the_path_before_the_first_relabelling(folder):
    carry_out(folder, MOVE)
    carry_out(folder, Step("relabel", "blue/2.jpg", "green/2.jpg"))
    opened = Journal(folder)
    assert opened.origin("green/2.jpg") == "red/2.jpg" and opened.origin("blue/3.jpg") == "blue/3.jpg"
    assert opened.origins() == {"green/2.jpg": "red/2.jpg"}


def test_a_confirmation_does_not_change_the_fingerprint(folder):
    carry_out(folder, MOVE)
    before = Journal(folder).fingerprint()
    carry_out(folder, Step("confirm", "blue/3.jpg"))
    assert Journal(folder).fingerprint() == before != ""


def test_undo_restores_the_previous_fingerprint(folder):
    carry_out(folder, MOVE)
    carry_out(folder, Journal(folder).active[1][0].inverse())
    assert Journal(folder).fingerprint() == ""


NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1),
    st.binary(min_size=1).map(os.fsdecode),  # bytes that are not UTF-8
    st.sampled_from(["...", "..a", ".hidden", " ", "-", "\n", "\\", '"', "e\u0301", "\u2028", "\udc80.jpg"]),
).filter(lambda name: not set("\0/") & set(name) and name not in (".", ".."))


@given(st.lists(NAMES, min_size=2, max_size=4), st.lists(NAMES, min_size=2, max_size=4), NAMES)
def test_what_is_written_can_be_read_for_every_name_that_a_file_system_allows(source, target, label):
    steps = [
        Step("relabel", "/".join(source), "/".join(target), sha256="a", made=target[0], change=1),
        Step("exclude", "/".join(target), change=2),
        Step("add label", label, undoes=2, change=3),
    ]
    whole = to_lines(steps)
    assert [parse(line) for line in whole.splitlines()] == steps and whole.count(b"\n") == 3
    whole.decode()  # UTF-8
    assert journal._parse_pending(b"0 3\n" + whole) == (0, steps)


def test_a_file_whose_name_is_not_utf8_is_moved_and_its_line_is_read(folder):
    source = os.fsdecode(b"red/caf\xe9\n.jpg")
    (folder / source).write_text("Latin-1")
    carry_out(folder, Step("relabel", source, source.replace("red", "blue")))
    assert Journal(folder).origins() == {source.replace("red", "blue"): source}
    carry_out(folder, Journal(folder).active[1][0].inverse())
    assert (folder / source).read_text() == "Latin-1"

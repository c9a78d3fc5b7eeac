"""A compacted journal: everything that is known of the images stays, and its changes can no longer be undone."""

import os
import random
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgclf import ImgclfError, cli, files
from imgclf.annotation.annotations import Annotations
from imgclf.data import compaction, layout
from imgclf.data.changes import Step, parse_all
from imgclf.data.dataset import Dataset, Image
from imgclf.data.journal import NAME, Journal

COMPACTED = "there is no change left to undo; those before were compacted"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three labels with four files each, of the same names."""
    for label in ("red", "green", "blue"):
        for number in range(4):
            path = tmp_path / "images" / label / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{label} {number}")
    return tmp_path / "images"


def opened(folder: Path) -> Annotations:
    """The annotations after a scan."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.jpg"))
    journal = Journal(folder)
    excluded = journal.excluded()
    images = tuple(
        Image(path, path.partition("/")[0], files.sha256(folder / path), path, 8, 8, excluded="excluded by hand" * (path in excluded))
        for path in paths
    )  # fmt: skip
    return Annotations(
        Dataset("own", folder, images, last_change=journal.last_change, journal_state=journal.fingerprint(), layout=layout.find(folder))
    )  # fmt: skip


def exclude_thrice(notes: Annotations) -> None:
    """Make three changes of one image, of which the last one says all."""
    notes.exclude([0])
    notes.include([0])
    notes.exclude([0])


def known(notes: Annotations) -> dict[str, object]:
    """Everything that is known of the images, but what can be undone."""
    every, journal = range(len(notes.images)), notes.journal
    return {
        "images": list(notes.images),
        "labels": notes.labels,
        "counts": notes.label_counts(),
        "reviewed": ([notes.is_reviewed(i) for i in every], notes.count_reviewed()),
        "changed": [(notes.is_changed(i), notes.is_changed(i, date.today())) for i in every],
        "latest change": [steps[-1].change if (steps := notes.history(i)) else 0 for i in every],
        "relabelled": [any(step.action == "relabel" for step in notes.history(i)) for i in every],
        "journal": (journal.origins(), journal.excluded(), journal.fingerprint(), journal.last_change),
    }


def change(notes: Annotations, draws: random.Random) -> None:
    """Make a change that is drawn at random; one that is not possible is left out."""
    some = draws.sample(range(len(notes.images)), draws.randint(1, 4))
    work = draws.choice(
        [
            lambda: notes.relabel(some, draws.choice(notes.labels)),
            lambda: notes.relabel(some, draws.choice(notes.labels)),
            lambda: notes.exclude(some),
            lambda: notes.include(some),
            lambda: notes.confirm(some),
            lambda: notes.add_label(f"new {draws.randint(1, 9)}", some),
            lambda: notes.rename_label(draws.choice(notes.labels), f"renamed {draws.randint(1, 9)}"),
            lambda: notes.rename_label(draws.choice(notes.labels), draws.choice(notes.labels)),
            notes.undo,
            notes.redo,
        ]
    )
    try:
        work()
    except ImgclfError:
        return


@pytest.mark.parametrize("seed", range(12))
def test_everything_but_undo_stays_whatever_was_done(folder, seed):
    draws, notes = random.Random(seed), opened(folder)
    for _ in range(30):
        change(notes, draws)
    before = known(opened(folder))
    found = compaction.compact(folder)
    assert found.helps and found.changes == len(notes.journal.active)
    assert (folder / NAME).read_bytes().count(b"\n") == found.after
    after = opened(folder)
    assert known(after) == before
    with pytest.raises(ImgclfError, match=COMPACTED):
        after.undo()
    with pytest.raises(ImgclfError, match="no change left to redo"):
        after.redo()
    # Later changes are undone as ever, and compacted in their turn.
    after.add_label("last", [1])
    assert known(opened(folder)) != before
    assert after.journal.active
    while after.journal.active:
        after.undo()
    assert known(opened(folder)) == {**before, "journal": (*before["journal"][:3], after.journal.last_change)}
    change(after, draws)
    change(after, draws)
    later = known(opened(folder))
    compaction.compact(folder)
    assert known(opened(folder)) == later


def test_an_image_that_was_changed_three_times_has_one_line(folder):
    notes = opened(folder)
    for work in (notes.exclude, notes.include, notes.exclude):
        work(range(12))
    found = compaction.compact(folder)
    assert str(found) == (
        "36 lines become 13; 3 changes can no longer be undone, and no undone change be made again"
    )
    mark, *steps = parse_all((folder / NAME).read_bytes().splitlines())
    assert (mark.action, mark.change, {step.change for step in steps}) == ("compacted", 3, {3})
    assert str(compaction.compact(folder)) == "13 lines are as few as can be"


def test_a_journal_that_would_not_get_shorter_keeps_its_undo(folder):
    opened(folder).confirm([0])
    assert not compaction.compact(folder).helps
    opened(folder).undo()


def test_an_image_replaced_by_hand_does_not_inherit_the_reviews_of_the_other(folder):
    notes = opened(folder)
    exclude_thrice(notes)
    (folder / notes.images[0].path).write_text("another image")
    before = known(opened(folder))
    assert compaction.compact(folder).helps
    assert known(opened(folder)) == before and before["reviewed"][1] == 0


def test_a_write_that_fails_leaves_the_journal_as_it_was(folder, monkeypatch):
    notes = opened(folder)
    exclude_thrice(notes)
    before = (folder / NAME).read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(ImgclfError, match="the disk is full"):
        compaction.compact(folder)
    monkeypatch.undo()
    assert (folder / NAME).read_bytes() == before
    opened(folder).undo()


def test_a_journal_that_is_too_long_to_open_is_compacted(folder, monkeypatch):
    notes = opened(folder)
    exclude_thrice(notes)
    before, size = known(opened(folder)), (folder / NAME).stat().st_size
    monkeypatch.setitem(Journal.__init__.__kwdefaults__, "max_bytes", size - 1)
    with pytest.raises(ImgclfError, match="move it out of the folder, or shorten it: imgclf labels compact"):
        Journal(folder)
    compaction.compact(folder)
    assert known(opened(folder)) == before


def test_an_annotator_that_is_open_meanwhile_refuses_changes(folder):
    notes = opened(folder)
    exclude_thrice(notes)
    compaction.compact(folder)
    reason = "annotations.jsonl: was compacted or shortened by another program; run 01_prepare_data again"
    with pytest.raises(ImgclfError, match=reason):
        notes.relabel([0], "red")
    with pytest.raises(ImgclfError, match=reason):
        notes.sync()
    assert opened(folder).label_counts() == notes.label_counts()


def test_images_scanned_before_folded_changes_are_refused(folder):
    earlier = opened(folder)
    later = opened(folder)
    exclude_thrice(later)
    later.relabel([0], "red")
    compaction.compact(folder)
    with pytest.raises(ImgclfError, match="was compacted after its images were scanned; run 01_prepare_data"):
        Annotations(earlier.dataset)


def test_a_change_of_a_later_session_follows_the_compacted_ones(folder):
    notes = opened(folder)
    exclude_thrice(notes)
    compaction.compact(folder)
    opened(folder).relabel([0], "red")
    journal = Journal(folder)
    assert (journal.compacted, list(journal.active)) == (3, [4])


def test_the_command_says_what_it_does_and_a_dry_run_does_nothing(folder):
    notes = opened(folder)
    exclude_thrice(notes)
    before = (folder / NAME).read_bytes()
    arguments = ["labels", "compact", "-p", f"images_dir={folder}"]
    dry = CliRunner().invoke(cli.main, [*arguments, "--dry-run"])
    assert dry.stdout.splitlines()[0].startswith("3 lines become 2; 3 changes can no longer be undone")
    assert dry.stdout.splitlines()[1] == "nothing was changed, since this is a dry run"
    assert (folder / NAME).read_bytes() == before
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 0 and done.stdout.splitlines() == dry.stdout.splitlines()[:1]
    assert (folder / NAME).read_bytes() != before


def test_all_lines_of_a_journal_are_decoded_at_once(folder, monkeypatch):
    opened(folder).confirm(range(12))
    calls, decode = [], compaction.changes.json.loads
    monkeypatch.setattr(
        compaction.changes.json,
        "loads",
        lambda *given, **options: (calls.append(1), decode(*given, **options))[1],
    )
    assert len(Journal(folder).history) == 12 and len(calls) == 1


def test_a_large_change_and_its_undo_are_read_without_a_look_at_each_pair_of_steps(folder, monkeypatch):
    count, looks, path_after = 300, [], Step.path_after.fget
    moves = [Step("relabel", f"red/{i}.jpg", f"blue/{i}.jpg", change=1) for i in range(count)]
    undone = [
        Step("relabel", f"blue/{i}.jpg", f"red/{i}.jpg", undoes=1, change=2) for i in reversed(range(count))
    ]
    redone = [Step("relabel", f"red/{i}.jpg", f"blue/{i}.jpg", undoes=2, change=3) for i in range(count)]
    (folder / NAME).write_bytes(compaction.changes.to_lines([*moves, *undone, *redone]))
    monkeypatch.setattr(Step, "path_after", property(lambda step: (looks.append(1), path_after(step))[1]))
    journal = Journal(folder)
    assert len(journal.active[3]) == count and list(journal.active) == [3] and len(journal.undone) == 0
    assert len(looks) < 20 * count
    before = len(looks)
    journal._made_for([step.inverse() for step in journal.active[3]])
    assert len(looks) - before < 5 * count

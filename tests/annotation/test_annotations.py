"""Corrected labels: every state change, on real files, without a browser."""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.consequences import consequences
from imgclf.data import changes, dataset, previous_split, scan, split
from imgclf.data.changes import Step, to_lines
from imgclf.data.journal import LOCK, NAME, PENDING
from imgclf.images import decoding
from support.pictures import picture


@pytest.fixture
def annotations(colour_folder) -> Annotations:
    (colour_folder / "unlabelled").mkdir()
    (colour_folder / "blue" / "11.jpg").rename(colour_folder / "unlabelled" / "x.jpg")
    return open_folder(colour_folder)


def open_folder(folder: Path) -> Annotations:
    return Annotations(scan.scan_folder("colours", folder))


def position(annotations: Annotations, path: str) -> int:
    return [image.path for image in annotations.images].index(path)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files and folders except the journal and its lock."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else b""
        for name, path in found.items()
        if name not in (NAME, LOCK)
    }


def test_relabelling_moves_the_file_and_changes_the_label_counts(annotations):
    i = position(annotations, "red/03.jpg")
    content = (annotations.dataset.folder / "red/03.jpg").read_bytes()
    (annotations.dataset.folder / "blue/03.jpg").unlink()
    assert str(annotations.relabel([i], "blue")) == "blue/03.jpg: label set to 'blue'"
    assert not (annotations.dataset.folder / "red/03.jpg").exists()
    assert (annotations.dataset.folder / "blue/03.jpg").read_bytes() == content
    assert (annotations.images[i].path, annotations.images[i].label) == ("blue/03.jpg", "blue")
    assert (
        annotations.label_counts()["red"] == 11 and annotations.is_changed(i) and annotations.is_reviewed(i)
    )


def test_relabelling_never_overwrites_a_file_but_moves_the_image_under_a_new_name(annotations):
    before = contents(annotations.dataset.folder)
    chosen = [position(annotations, f"red/{i:02d}.jpg") for i in range(4)]
    (annotations.dataset.folder / "blue/02.jpg").rename(annotations.dataset.folder / "blue/other.jpg")
    assert str(annotations.relabel(chosen, "blue")) == (
        "4 images: label set to 'blue'; 3 of them under a new name, since a file had theirs"
    )
    assert [annotations.images[i].path for i in chosen] == [
        "blue/00-2.jpg",
        "blue/01-2.jpg",
        "blue/02.jpg",
        "blue/03-2.jpg",
    ]
    assert str(annotations.undo()) == "undone: red/03.jpg is 'red' again and 3 more"
    (annotations.dataset.folder / "blue/other.jpg").rename(annotations.dataset.folder / "blue/02.jpg")
    assert contents(annotations.dataset.folder) == before
    assert [annotations.images[i].path for i in chosen] == [f"red/{i:02d}.jpg" for i in range(4)]


def test_one_image_that_cannot_be_moved_does_not_stop_the_others(annotations):
    folder = annotations.dataset.folder
    chosen = [position(annotations, f"red/{i:02d}.jpg") for i in range(3)]
    (folder / "red/00.jpg").unlink()
    shutil.copy(folder / "red/05.jpg", folder / "red/01.jpg")
    assert str(annotations.relabel(chosen, "green")) == (
        "green/02-2.jpg: label set to 'green'; under a new name, since a file had the old one; "
        "not done: red/00.jpg: no longer exists; run 01_prepare_data again to see the present images and 1 more"
    )
    with pytest.raises(ImgclfError, match="no longer exists; .*; red/01.jpg: is another image now"):
        annotations.relabel(chosen[:2], "green")


def test_two_selected_files_with_the_same_name_both_get_the_label(annotations):
    before = contents(annotations.dataset.folder)
    chosen = [position(annotations, "red/03.jpg"), position(annotations, "blue/03.jpg")]
    assert str(annotations.add_label("odd", chosen)) == (
        "added label 'odd'; 2 images: label set to 'odd'; 1 of them under a new name, since a file had theirs"
    )
    assert [annotations.images[i].path for i in chosen] == ["odd/03.jpg", "odd/03-2.jpg"]
    assert str(annotations.undo()) == "undone: blue/03.jpg is 'blue' again and 1 more; new label odd"
    assert contents(annotations.dataset.folder) == before and "odd" not in annotations.labels


def test_relabelling_to_the_current_label_is_a_confirmation(annotations):
    i = position(annotations, "red/03.jpg")
    annotations.relabel([i], "red")
    assert annotations.is_reviewed(i) and not annotations.is_changed(i) and annotations.count_reviewed() == 1


def test_relabelling_keeps_the_subfolder_and_undo_removes_it(annotations):
    folder = annotations.dataset.folder
    (folder / "red/shop").mkdir()
    (folder / "red/03.jpg").rename(folder / "red/shop/03.jpg")
    annotations, before = open_folder(folder), contents(folder)
    annotations.relabel([position(annotations, "red/shop/03.jpg")], "blue")
    assert (folder / "blue/shop/03.jpg").exists() and annotations.images[
        position(annotations, "blue/shop/03.jpg")
    ].group == "shop"
    annotations.undo()
    assert contents(folder) == before


def test_excluded_images_keep_their_files_and_are_skipped_by_later_stages(annotations):
    i = position(annotations, "red/03.jpg")
    annotations.exclude([i])
    assert (annotations.dataset.folder / "red/03.jpg").exists() and annotations.label_counts()["red"] == 11
    found = scan.scan_folder("colours", annotations.dataset.folder)
    assert [(image.path, image.excluded) for image in found.excluded] == [("red/03.jpg", dataset.BY_HAND)]
    assert "red/03.jpg" not in {image.path for image in found.images}
    annotations.include([i])
    assert not scan.scan_folder("colours", annotations.dataset.folder).excluded


def test_an_excluded_image_stays_excluded_when_its_file_is_moved_by_hand(annotations):
    annotations.exclude([position(annotations, "red/03.jpg")])
    (annotations.dataset.folder / "red/03.jpg").rename(annotations.dataset.folder / "blue/new.jpg")
    assert [image.path for image in open_folder(annotations.dataset.folder).current_dataset().excluded] == [
        "blue/new.jpg"
    ]


def test_undoing_a_merge_restores_the_order_of_the_labels(annotations):
    before = list(annotations.labels)
    for label, other in [("blue", "red"), ("green", "blue")]:
        annotations.rename_label(label, other)
        annotations.undo()
        assert annotations.labels == before
    annotations.rename_label("green", "olive")
    assert annotations.labels == ["blue", "olive", "red"]
    annotations.undo()
    assert annotations.labels == before


def test_a_new_label_that_exists_is_assigned(annotations):
    i = position(annotations, "red/03.jpg")
    assert "label set to 'blue'" in str(annotations.add_label(" blue ", [i]))
    assert annotations.images[i].label == "blue" and annotations.labels == ["blue", "green", "red"]


@pytest.mark.parametrize("undo_before_opening", [True, False])
def test_undo_after_a_new_scan_includes_the_image_again(annotations, undo_before_opening):
    folder = annotations.dataset.folder
    annotations.exclude([0])
    scanned = scan.scan_folder("colours", folder)
    if undo_before_opening:
        annotations.undo()
        again = Annotations(scanned)
    else:
        again = Annotations(scanned)
        again.undo()
    assert not again.is_excluded(0) and again.images[0].excluded == ""
    assert scan.scan_folder("colours", folder).files[0].excluded == ""


def test_an_image_that_replaces_an_excluded_one_is_not_excluded(annotations):
    annotations.exclude([position(annotations, "red/03.jpg")])
    shutil.copy(annotations.dataset.folder / "unlabelled/x.jpg", annotations.dataset.folder / "red/03.jpg")
    assert not [
        image for image in open_folder(annotations.dataset.folder).images if image.excluded == dataset.BY_HAND
    ]


def test_the_label_of_an_image_can_be_set_and_removed(annotations):
    i = position(annotations, "unlabelled/x.jpg")
    assert annotations.images[i].excluded == dataset.NO_LABEL
    annotations.relabel([i], "blue")
    assert not annotations.images[i].excluded and annotations.label_counts()["unlabelled"] == 0
    annotations.relabel([i], "unlabelled")
    assert (
        annotations.images[i].excluded == dataset.NO_LABEL and annotations.label_counts()["unlabelled"] == 1
    )


def test_undo_works_in_a_later_session_and_reverts_a_whole_selection(annotations):
    before = contents(annotations.dataset.folder)
    annotations.add_label("odd")
    annotations.relabel([position(annotations, f"red/{i:02d}.jpg") for i in range(5)], "odd")
    annotations.exclude([position(annotations, "odd/02.jpg")])
    later = open_folder(annotations.dataset.folder)
    assert str(later.undo()) == "undone: exclusion of odd/02.jpg"
    assert str(later.undo()) == "undone: red/04.jpg is 'red' again and 4 more"
    assert str(later.undo()) == "undone: new label odd" and later.labels == ["blue", "green", "red"]
    assert contents(annotations.dataset.folder) == before
    with pytest.raises(ImgclfError, match="^there is no change left to undo$"):
        later.undo()


def test_undo_skips_a_change_to_an_image_that_is_gone(annotations):
    annotations.exclude([position(annotations, "green/01.jpg")])
    annotations.relabel([position(annotations, "unlabelled/x.jpg")], "red")
    (annotations.dataset.folder / "red/x.jpg").unlink()
    assert str(annotations.undo()) == "cannot be undone, since the file is gone or was replaced: red/x.jpg"
    assert str(annotations.undo()) == "undone: exclusion of green/01.jpg"


def test_undo_gives_an_image_a_new_name_while_another_file_has_its_old_one(annotations):
    folder = annotations.dataset.folder
    annotations.relabel([position(annotations, "unlabelled/x.jpg")], "red")
    shutil.copy(folder / "red/x.jpg", folder / "unlabelled/X.JPG")
    assert str(annotations.undo()) == "undone: unlabelled/x-2.jpg is 'unlabelled' again"
    assert (
        sorted(os.listdir(folder / "unlabelled")) == ["X.JPG", "x-2.jpg"] and not annotations.journal.active
    )


def test_redo_makes_the_undone_changes_again_until_there_is_a_new_one(annotations):
    folder, start = annotations.dataset.folder, contents(annotations.dataset.folder)
    states = [start]
    annotations.relabel([position(annotations, f"red/{i:02d}.jpg") for i in range(5)], "blue")
    states.append(contents(folder))
    annotations.add_label("odd", [position(annotations, "unlabelled/x.jpg")])
    states.append(contents(folder))
    annotations.exclude([0, 1])
    later = open_folder(folder)
    while later.journal.active:
        later.undo()
    assert contents(folder) == start and not any(map(later.is_excluded, range(len(later.images))))
    assert str(later.redo()) == "redone: blue/00-2.jpg is 'blue' again and 4 more"
    assert contents(folder) == states[1]
    assert str(later.redo()) == "redone: odd/x.jpg is 'odd' again; new label odd"
    assert contents(folder) == states[2] and later.labels == ["blue", "green", "red", "odd"]
    assert str(later.redo()) == "redone: exclusion of blue/00.jpg and 1 more"
    assert later.is_excluded(position(later, "blue/00.jpg"))
    with pytest.raises(ImgclfError, match="^there is no change left to redo$"):
        later.redo()
    later.undo()
    later.confirm([5])
    with pytest.raises(ImgclfError, match="^there is no change left to redo$"):
        later.redo()
    assert open_folder(folder).images == later.images


def test_redo_of_a_change_to_an_image_that_is_gone_is_refused(annotations):
    annotations.relabel([position(annotations, "unlabelled/x.jpg")], "red")
    annotations.undo()
    (annotations.dataset.folder / "unlabelled/x.jpg").unlink()
    with pytest.raises(ImgclfError, match=r"^unlabelled/x.jpg: no longer exists"):
        annotations.redo()


@pytest.mark.parametrize(
    "steps",
    [
        [
            Step("relabel", "blue/x.jpg", "green/x.jpg", change=1),
            Step("relabel", "green/x.jpg", "red/x.jpg", change=2),
            Step("relabel", "green/x.jpg", "blue/x.jpg", undoes=1, change=3),
        ],
        [
            Step("exclude", "red/x.jpg", change=1),
            Step("include", "red/x.jpg", undoes=1, change=2),
            Step("gone", "red/x.jpg", undoes=2, change=3),
        ],
        [Step("gone", "red/x.jpg", undoes=2, change=3), Step("gone", "red/x.jpg", undoes=3, change=4)],
    ],
    ids=["an earlier step undone first", "an undo that is gone", "gone twice"],
)
def test_a_journal_whose_undos_are_in_a_wrong_order_is_read_and_undone(colour_folder, steps):
    content = decoding.jpeg(picture((90, 90, 200), 50))
    (colour_folder / "red/x.jpg").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (colour_folder / NAME).write_bytes(to_lines(replace(step, sha256=sha256) for step in steps))
    opened = open_folder(colour_folder)
    assert opened.count_reviewed() <= 1 and opened.current_dataset().labels
    for work in [opened.undo] * 3 + [opened.redo] * 3:
        with suppress(ImgclfError):
            work()
    opened.confirm([0])
    assert opened.is_reviewed(0) and open_folder(colour_folder).is_reviewed(0)


def test_a_label_is_renamed_in_its_place_by_one_change(annotations):
    folder, before = annotations.dataset.folder, contents(annotations.dataset.folder)
    (folder / "green/shop").mkdir()
    (folder / "green/03.jpg").rename(folder / "green/shop/03.jpg")
    before, annotations = contents(folder), open_folder(folder)
    other = open_folder(folder)
    assert str(annotations.rename_label("green", " olive ")) == "12 images: renamed 'green' to 'olive'"
    assert annotations.labels == ["blue", "olive", "red"] and not (folder / "green").exists()
    assert (folder / "olive/shop/03.jpg").exists() and annotations.label_counts()["olive"] == 12
    other.sync()
    assert other.labels == annotations.labels and other.images == annotations.images
    assert annotations.count_reviewed() == 0  # nobody looked at the images
    annotations.undo()
    assert annotations.labels == ["blue", "green", "red"] and contents(folder) == before
    annotations.redo()
    assert annotations.labels == ["blue", "olive", "red"] and not (folder / "green").exists()


@pytest.mark.parametrize("how", ["a link", "replaced", "a pipe"])
def test_renaming_a_label_whose_images_are_all_refused_creates_and_removes_nothing(colour_folder, how):
    label = colour_folder / "spots"
    label.mkdir()
    if how == "a pipe":
        os.mkfifo(label / "x.jpg")
    else:
        (label / "x.jpg").write_bytes(decoding.jpeg(picture((9, 9, 9), 50)))
    opened = open_folder(colour_folder)
    if how == "a link":
        label.rename(colour_folder.parent / "outside")
        label.symlink_to(colour_folder.parent / "outside")
    elif how == "replaced":
        (label / "x.jpg").write_bytes(b"another")
    before = contents(colour_folder)
    for name in ("dots", "red"):
        with pytest.raises(ImgclfError, match="x.jpg"):
            opened.rename_label("spots", name)
    with pytest.raises(ImgclfError, match="x.jpg"):
        opened.add_label("dots", [position(opened, "spots/x.jpg")])
    assert contents(colour_folder) == before and "spots" in opened.labels and "dots" not in opened.labels
    assert not opened.journal.active


def test_a_label_is_kept_if_no_image_can_be_moved_when_it_is_renamed(colour_folder, monkeypatch):
    opened = open_folder(colour_folder)
    before = contents(colour_folder)

    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(changes, "_move", fail)
        with pytest.raises(ImgclfError, match="dots/00.jpg: no permission to write there"):
            opened.rename_label("red", "dots")
    assert contents(colour_folder) == before and not (colour_folder / "dots").exists()
    assert not (colour_folder / PENDING).exists() and "red" in open_folder(colour_folder).labels
    opened.rename_label("red", "dots")
    assert (colour_folder / "dots").is_dir() and not (colour_folder / "red").exists()


def test_renaming_a_label_to_another_merges_the_two_and_undo_parts_them(annotations):
    folder, before = annotations.dataset.folder, contents(annotations.dataset.folder)
    assert str(annotations.rename_label("green", "red")) == (
        "12 images: merged 'green' into 'red'; 12 of them under a new name, since a file had theirs"
    )
    assert annotations.labels == ["blue", "red"] and annotations.label_counts()["red"] == 24
    annotations.undo()
    assert contents(folder) == before and sorted(annotations.labels) == ["blue", "green", "red"]


@pytest.mark.parametrize(
    ("label", "name", "message"),
    [
        ("green", "Green", "the label 'green' exists already"),
        ("green", "green", "the label 'green' exists already"),
        ("green", "RED", "the label 'red' exists already"),
        ("green", "a/b", "has a slash"),
        ("green", "", "is empty"),
        ("unlabelled", "odd", "'unlabelled' is not a label; select an image that has the label"),
    ],
)
def test_a_name_to_which_a_label_cannot_be_renamed_is_refused(annotations, label, name, message):
    before = contents(annotations.dataset.folder)
    with pytest.raises(ImgclfError, match=message):
        annotations.rename_label(label, name)
    assert contents(annotations.dataset.folder) == before


def test_a_new_label_comes_last_also_in_other_windows_and_later_sessions(annotations):
    other = open_folder(annotations.dataset.folder)
    annotations.add_label("violet")
    annotations.add_label("amber")
    expected = ["blue", "green", "red", "violet", "amber"]
    other.sync()
    assert annotations.labels == other.labels == open_folder(annotations.dataset.folder).labels == expected
    annotations.undo()
    assert annotations.labels == expected[:-1]
    annotations.redo()
    assert annotations.labels == expected


# Every name that Linux allows and the scan lists: of one or more bytes, without NUL and "/", not hidden.
FILE_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.sampled_from([*"\\\n\t\"'", "a\\b", "a\rb", '","to":"x', " a ", "-rf", "\u2028", "\x85", "\x1b[2J"]),
    st.sampled_from(["e\u0301", "\u00e9", "\U0001f600", "%s{}", "con", "a.", "&lt;b"]),
).filter(lambda name: not name.startswith(".") and len(os.fsencode(name)) < 200)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=FILE_NAMES, group=st.none() | FILE_NAMES)
def test_an_image_of_any_name_is_relabelled_read_again_and_undone(tmp_path_factory, name, group):
    folder = tmp_path_factory.mktemp("names") / "images"
    path = Path("red", *filter(None, [group]), f"{name}.jpg")
    for place in (path, Path("blue/1.jpg")):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(decoding.jpeg(picture((90, 90, 90), seed=len(str(place)))))
    before, annotations = contents(folder), open_folder(folder)
    i = position(annotations, path.as_posix())
    annotations.relabel([i], "blue")
    annotations.exclude([i])
    moved = Path("blue", *path.parts[1:]).as_posix()
    later = open_folder(folder)
    assert (later.images[1 - i].path, (folder / moved).is_file()) == ("blue/1.jpg", True) or len(
        later.images
    ) == 2
    assert {image.path for image in later.images} == {"blue/1.jpg", moved}
    assert [image.path for image in later.images if image.excluded] == [moved]
    assert later.journal.origins() == {moved: path.as_posix()}
    dataset.write(later.dataset)
    assert dataset.read("colours") == later.dataset
    later.undo()
    later.undo()
    assert contents(folder) == before


def test_a_file_name_with_a_backslash_neither_locks_the_data_set_nor_is_lost(colour_folder):
    (colour_folder / "red/03.jpg").rename(colour_folder / "red" / "red\\03.jpg")  # a zip archive from Windows
    annotations = open_folder(colour_folder)
    annotations.relabel([position(annotations, "red/red\\03.jpg")], "blue")
    again = open_folder(colour_folder)
    assert again.is_changed(position(again, "blue/red\\03.jpg"))
    again.undo()
    assert (colour_folder / "red" / "red\\03.jpg").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        (".hidden", "begins with a dot"),
        ("a/b", "has a slash"),
        ("Red", "the label 'red' exists already; use it, or choose another name"),
        ("unlabelled", "is the folder of images without a label"),
        ("unfamiliar", "is the folder of images of other things"),
        ("x\0", "control character"),
        ("..", "begins with a dot"),
    ],
)
def test_an_invalid_label_name_is_refused(annotations, name, message):
    before = contents(annotations.dataset.folder)
    with pytest.raises(ImgclfError, match=message):
        annotations.add_label(name)
    assert contents(annotations.dataset.folder) == before


def test_an_unknown_label_is_refused(annotations):
    with pytest.raises(ImgclfError, match="^the label 'odd' does not exist; add it first$"):
        annotations.relabel([0], "odd")


def test_an_image_that_another_window_has_just_changed_is_not_changed(annotations):
    other = open_folder(annotations.dataset.folder)
    i = position(annotations, "unlabelled/x.jpg")
    other.relabel([i], "red")
    with pytest.raises(
        ImgclfError, match=r"^red/x.jpg: another window has just changed this image; check it and try again$"
    ):
        annotations.relabel([i], "blue")
    assert annotations.images == other.images
    annotations.relabel([i], "blue")
    assert other.sync() == (i,) and other.images[i].path == "blue/x.jpg"


def test_sync_adds_the_labels_of_another_window(annotations):
    other = open_folder(annotations.dataset.folder)
    other.add_label("odd")
    annotations.sync()
    assert annotations.labels == ["blue", "green", "red", "odd"]


def test_excluding_a_moved_or_replaced_image_is_refused(annotations):
    folder = annotations.dataset.folder
    (folder / "red/03.jpg").rename(folder / "elsewhere.jpg")
    shutil.copy(folder / "red/05.jpg", folder / "red/04.jpg")
    for path in ("red/03.jpg", "red/04.jpg"):
        with pytest.raises(
            ImgclfError,
            match=rf"^{path}: (no longer exists|is another image now); run 01_prepare_data again",
        ):
            annotations.exclude([position(annotations, path)])
    assert not annotations.journal.active


def test_undo_restores_the_exclusion_reasons_of_the_scan(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "red/copy.jpg")
    (colour_folder / "red/bad.jpg").write_bytes(b"not an image")
    annotations = open_folder(colour_folder)
    reasons = [image.excluded for image in annotations.images]
    a, copy, bad = (position(annotations, f"red/{name}.jpg") for name in ("00", "copy", "bad"))
    annotations.exclude([a])
    annotations.exclude([a, copy, bad])
    assert [annotations.images[i].excluded for i in (a, copy, bad)] == [dataset.BY_HAND] * 3
    annotations.undo()
    assert annotations.images[a].excluded == dataset.BY_HAND and [
        annotations.images[i].excluded for i in (copy, bad)
    ] == [reasons[copy], reasons[bad]]
    annotations.undo()
    assert [image.excluded for image in annotations.images] == reasons


def test_the_copy_of_an_excluded_image_is_not_excluded(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "blue/same.jpg")
    annotations = open_folder(colour_folder)
    annotations.exclude([position(annotations, "red/03.jpg")])
    (colour_folder / "red/03.jpg").rename(colour_folder / "red/moved.jpg")
    assert not [
        image
        for image in open_folder(colour_folder).images
        if image.path == "blue/same.jpg" and image.excluded
    ]


def test_an_excluded_image_can_be_included_after_its_file_was_moved(annotations):
    folder = annotations.dataset.folder
    annotations.exclude([position(annotations, "red/03.jpg")])
    (folder / "red/03.jpg").rename(folder / "blue/new.jpg")
    annotations = open_folder(folder)
    annotations.include([position(annotations, "blue/new.jpg")])
    assert not open_folder(folder).current_dataset().excluded


def test_older_changes_can_be_undone_after_an_image_was_replaced(annotations):
    folder = annotations.dataset.folder
    annotations.exclude([position(annotations, "green/01.jpg")])
    annotations.confirm([position(annotations, "red/03.jpg")])
    annotations.exclude([position(annotations, "red/03.jpg")])
    shutil.copy(folder / "red/05.jpg", folder / "red/03.jpg")
    assert [str(annotations.undo()) for _ in range(3)] == [
        "undone: exclusion of red/03.jpg",
        "undone: confirmation of red/03.jpg",
        "undone: exclusion of green/01.jpg",
    ]


def test_changes_since_an_older_scan_are_applied_on_opening(annotations):
    i, j = position(annotations, "unlabelled/x.jpg"), position(annotations, "red/03.jpg")
    annotations.add_label("odd")
    annotations.relabel([i], "odd")
    annotations.exclude([j])
    again = Annotations(annotations.dataset)
    assert again.images == annotations.images and again.labels == annotations.labels
    again.undo()
    assert Annotations(annotations.dataset).images[j].excluded == ""


def test_undo_shows_a_change_of_another_window_before_reverting_it(annotations):
    other = open_folder(annotations.dataset.folder)
    other.relabel([position(annotations, "unlabelled/x.jpg")], "red")
    with pytest.raises(
        ImgclfError,
        match="^another window has just made a change; check it, and undo again to revert that change$",
    ):
        annotations.undo()
    assert str(annotations.undo()) == "undone: unlabelled/x.jpg is 'unlabelled' again"


def test_redo_shows_an_undo_of_another_window_before_it_makes_the_change_again(annotations):
    i, other = position(annotations, "unlabelled/x.jpg"), open_folder(annotations.dataset.folder)
    annotations.relabel([i], "red")
    other.sync()
    other.undo()
    with pytest.raises(ImgclfError, match="^another window has just made a change; check it, and try again$"):
        annotations.redo()
    assert annotations.images[i].path == "unlabelled/x.jpg"
    assert str(annotations.redo()) == "redone: red/x.jpg is 'red' again"


def test_a_label_that_another_window_removed_is_refused(annotations):
    other = open_folder(annotations.dataset.folder)
    other.add_label("odd")
    annotations.sync()
    other.undo()
    with pytest.raises(ImgclfError, match="^the label 'odd' does not exist; add it first$"):
        annotations.relabel([0], "odd")


def test_an_image_that_replaces_a_reviewed_one_is_not_reviewed(annotations):
    i = position(annotations, "red/03.jpg")
    annotations.confirm([i])
    shutil.copy(annotations.dataset.folder / "unlabelled/x.jpg", annotations.dataset.folder / "red/03.jpg")
    fresh = open_folder(annotations.dataset.folder)
    assert (
        annotations.is_reviewed(i)
        and not fresh.is_reviewed(position(fresh, "red/03.jpg"))
        and fresh.count_reviewed() == 0
    )


def test_a_file_name_that_is_not_utf8_is_not_confused_with_another(colour_folder):
    (colour_folder / "red/a?.jpg").write_bytes((colour_folder / "red/00.jpg").read_bytes())
    (Path(os.fsdecode(os.fsencode(colour_folder / "red") + b"/a\xff.jpg"))).write_bytes(
        (colour_folder / "red/01.jpg").read_bytes()
    )
    (Path(os.fsdecode(os.fsencode(colour_folder / "red") + b"/n\xff.txt"))).write_text("")
    Path(os.fsdecode(os.fsencode(colour_folder) + b"/l\xff")).mkdir()
    annotations = open_folder(colour_folder)
    dataset.write(annotations.dataset)
    odd = next(i for i, image in enumerate(annotations.images) if "not UTF-8" in image.excluded)
    with pytest.raises(
        ImgclfError,
        match=r"^red/a\?.jpg: the name is not UTF-8; rename it; until then it cannot be changed here$",
    ):
        annotations.relabel([odd], "blue")
    assert annotations.labels == ["blue", "green", "red"]


def test_opening_a_folder_that_is_gone_is_refused(annotations):
    annotations.dataset.folder.rename(annotations.dataset.folder.with_name("gone"))
    with pytest.raises(ImgclfError, match="the folder no longer exists"):
        Annotations(annotations.dataset)


def test_later_stages_refuse_a_list_of_images_that_is_older_than_the_labels(annotations):
    dataset.write(annotations.dataset)
    annotations.confirm([0])
    annotations.relabel([position(annotations, "unlabelled/x.jpg")], "red")
    with pytest.raises(
        ImgclfError,
        match="^labels of colours were changed after 01_prepare_data scanned its images; run 01_prepare_data again$",
    ):
        dataset.read("colours")
    assert "1 image changed since 01_prepare_data ran. Run 01_prepare_data" in consequences(
        annotations, previous_split.PreviousSplit({})
    )
    annotations.undo()
    assert (
        dataset.read("colours") == annotations.dataset
        and consequences(annotations, previous_split.PreviousSplit({})) == ""
    )
    annotations.exclude([0])
    dataset.write(scan.scan_folder("colours", annotations.dataset.folder))
    assert consequences(annotations, previous_split.PreviousSplit({})) == ""  # 01 has run again
    annotations.relabel([position(annotations, "unlabelled/x.jpg")], "red")  # the exclusion was scanned
    assert "1 image changed since 01_prepare_data ran." in consequences(
        annotations, previous_split.PreviousSplit({})
    )


def test_is_changed_ignores_confirmations_undone_changes_and_other_days(annotations):
    i, today = position(annotations, "unlabelled/x.jpg"), date.today()
    annotations.confirm([i])
    assert not annotations.is_changed(i, today)
    annotations.relabel([i], "red")
    assert annotations.is_changed(i, today) and not annotations.is_changed(i, today - timedelta(days=1))
    annotations.undo()
    assert not annotations.is_changed(i) and annotations.is_reviewed(i)


def test_observers_are_notified_of_every_change(annotations):
    notified = []
    annotations.observers.append(notified.append)
    i = position(annotations, "unlabelled/x.jpg")
    annotations.relabel([i], "red")
    annotations.undo()
    assert notified == [(i,), (i,)]


def test_duplicates_are_updated_when_labels_change(colour_folder):
    shutil.copy(colour_folder / "red/03.jpg", colour_folder / "blue/copy.jpg")
    annotations = open_folder(colour_folder)
    assert not annotations.current_dataset().excluded
    annotations.relabel([position(annotations, "blue/copy.jpg")], "red")
    assert annotations.current_dataset().excluded == open_folder(colour_folder).dataset.excluded
    assert [image.excluded for image in annotations.current_dataset().excluded] == ["duplicate of red/03.jpg"]


def test_the_current_data_set_equals_a_new_scan(annotations):
    annotations.add_label("odd")
    annotations.relabel(
        [position(annotations, "red/03.jpg"), position(annotations, "unlabelled/x.jpg")], "odd"
    )
    annotations.exclude([position(annotations, "green/01.jpg")])
    fresh = scan.scan_folder("colours", annotations.dataset.folder)
    assert sorted(annotations.current_dataset().files, key=lambda image: image.path) == sorted(
        fresh.files, key=lambda image: image.path
    )
    assert {(i.path, i in split.split(fresh).train) for i in fresh.images} == {
        (i.path, i in split.split(annotations.current_dataset()).train) for i in fresh.images
    }


class Annotating(RuleBasedStateMachine):
    """Two windows on one folder, and a person who moves files by hand."""

    LABELS = ("blue", "green", "odd", "red", "unlabelled")
    positions = st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True)
    windows = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "images"
        for i in range(12):
            path = (
                self.folder / self.LABELS[i % 2] / f"{i % 5}" / f"{i % 4}.jpg"
            )  # equal names in several groups
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(decoding.jpeg(picture((120, 120, 120), seed=i)))
        self.before, self.bytes = (
            contents(self.folder),
            sorted(path.read_bytes() for path in self.folder.rglob("*.jpg")),
        )
        self.annotations = [open_folder(self.folder), open_folder(self.folder)]
        self.moved_by_hand = False

    def attempt(self, work, *arguments) -> None:
        try:
            work(*arguments)
        except ImgclfError as error:
            assert str(error)

    @rule(window=windows, positions=positions, label=st.sampled_from(LABELS))
    def relabel(self, window, positions, label):
        self.attempt(self.annotations[window].relabel, positions, label)

    @rule(window=windows, positions=positions)
    def exclude(self, window, positions):
        self.attempt(self.annotations[window].exclude, positions)

    @rule(window=windows, positions=positions)
    def include(self, window, positions):
        self.attempt(self.annotations[window].include, positions)

    @rule(window=windows, positions=positions)
    def confirm(self, window, positions):
        self.attempt(self.annotations[window].confirm, positions)

    @rule(window=windows)
    def add_label(self, window):
        self.attempt(self.annotations[window].add_label, "odd")

    @rule(window=windows)
    def undo(self, window):
        self.attempt(self.annotations[window].undo)

    @rule(window=windows)
    def redo(self, window):
        self.attempt(self.annotations[window].redo)

    @rule(window=windows, label=st.sampled_from(LABELS), name=st.sampled_from([*LABELS, "new"]))
    def rename_label(self, window, label, name):
        self.attempt(self.annotations[window].rename_label, label, name)

    @rule(window=windows)
    def reopen(self, window):
        self.annotations[window] = open_folder(self.folder)

    @rule(number=st.integers(0, 11))
    def move_by_hand(self, number):
        path = sorted(self.folder.rglob("*.jpg"))[number]
        path.rename(path.with_name(f"by hand {len(path.name)} {number} {path.name}"))
        self.moved_by_hand = True

    @precondition(lambda self: not self.moved_by_hand)
    @rule()
    def undo_everything(self):
        annotations = open_folder(self.folder)
        while annotations.journal.active:
            annotations.undo()
        assert contents(self.folder) == self.before

    @invariant()
    def no_image_is_lost_or_duplicated(self):
        assert sorted(path.read_bytes() for path in self.folder.rglob("*.jpg")) == self.bytes

    @invariant()
    def every_window_shows_what_is_on_disk(self):
        if self.moved_by_hand:
            return
        fresh = {
            (image.path, image.label, image.sha256, image.excluded)
            for image in scan.scan_folder("colours", self.folder).files
        }
        for annotations in self.annotations:
            annotations.sync()
            assert {
                (image.path, image.label, image.sha256, image.excluded) for image in annotations.images
            } == fresh

    def teardown(self) -> None:
        if not self.moved_by_hand:
            self.undo_everything()
        self.temporary.cleanup()


TestTwoHundredRandomOperations = pytest.mark.slow(Annotating.TestCase)
TestTwoHundredRandomOperations.settings = settings(
    max_examples=4, stateful_step_count=200, deadline=None, suppress_health_check=list(HealthCheck)
)

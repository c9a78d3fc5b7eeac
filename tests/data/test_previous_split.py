import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset, previous_split, scan, split
from imgclf.data.dataset import Dataset, Image


def fruit():
    """Sixteen images of two labels that exist only in name."""
    paths = [f"{label}/{i}.jpg" for label in "ab" for i in range(8)]
    images = [Image(path, path[0], hashlib.sha256(path.encode()).hexdigest(), "", 10, 10) for path in paths]
    return Dataset("fruit", Path("a folder without a list of test images"), tuple(images))


def test_previous_split_is_by_content_and_reports_images_that_moved():
    before = fruit()
    parts = split.split(before, train_fraction=0.5, seed=3)
    split.write(before, parts)
    previous = previous_split.read(before.name)
    assert (previous.train_fraction, previous.split_by, previous.seed) == (0.5, "image", 3)
    assert len(previous.subset_of) == 16
    assert str(previous.changes(before, previous.repeat(before))) == "no image changed its set"
    relabelled = replace(
        before,
        files=tuple(
            replace(i, path="b/x" + i.path[2:], label="b")
            if i.path in ("a/1.jpg", "a/2.jpg", "a/3.jpg")
            else i
            for i in before.files
        ),
    )
    after, subset_of = previous.repeat(relabelled), previous.subset_of
    moved = previous.changes(relabelled, after)
    assert set(moved.to_test) == {i.path for i in after.test if subset_of[i.sha256] == "train"}
    assert set(moved.to_train) == {i.path for i in after.train if subset_of[i.sha256] == "test"}
    assert moved.to_test or moved.to_train


def test_without_a_split_the_previous_one_is_empty():
    assert previous_split.read("fruit").subset_of == {}


@pytest.fixture
def colours(colour_folder):
    """The colours after 01, and the paths of their test images."""
    found = scan.scan_folder("colours", colour_folder)
    parts = split.split(found)
    dataset.write(found)
    split.write(found, parts)
    return found, [image.path for image in parts.test], [image.path for image in parts.train]


def changes(found):
    """What 01 prints about the split when it runs again."""
    before, again = previous_split.read("colours"), scan.scan_folder("colours", found.folder)
    return str(before.changes(again, split.split(again)))


def test_test_images_that_were_deleted_since_the_last_run_are_counted_and_named(colours):
    found, tests, _ = colours
    for path in tests[:4]:
        (found.folder / path).unlink()
    assert (
        f"CAREFUL: 4 of the 9 test images of the last split are not in it any more: {tests[0]} (gone), "
        f"{tests[1]} (gone), {tests[2]} (gone) and 1 more; without images that the classifier mistook, "
        "the test accuracy is too high"
    ) in changes(found).splitlines()


def test_a_split_that_is_read_says_which_test_images_the_one_before_had(colours):
    found, tests, _ = colours
    (found.folder / tests[0]).unlink()
    before, again = previous_split.read("colours"), scan.scan_folder("colours", found.folder)
    parts = split.split(again)
    split.write(again, parts, lost_test=before.changes(again, parts).lost_test)
    assert (
        f"CAREFUL: 1 test images of the split before are not in this one: {tests[0]} (gone); without "
        "images that the classifier mistook, the test accuracy is too high"
    ) in split.read(again).caution()
    split.write(again, parts)
    assert "split before" not in split.read(again).caution()


def test_training_images_that_were_deleted_are_counted_without_alarm(colours):
    found, _, trained = colours
    (found.folder / trained[0]).unlink()
    text = changes(found)
    assert f"\n1 of the 27 training images of the last split are not in it any more: {trained[0]}" in text
    assert "CAREFUL" not in text


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda found, path: (found.folder / path).write_bytes(b"\xff\xd8 no picture"), "gone"),
        (lambda found, path: exclude(found, path), "excluded by hand"),
        (lambda found, path: move(found, path, "unlabelled"), "no label yet"),
    ],
    ids=["replaced by other content", "excluded by hand", "without a label"],
)
def test_a_test_image_that_is_there_but_not_used_is_named_with_the_reason(colours, harm, reason):
    found, tests, _ = colours
    harm(found, tests[0])
    assert f"1 of the 9 test images of the last split are not in it any more: {tests[0]} ({reason});" in (
        changes(found)
    )


def exclude(found, path):
    notes = Annotations(found)
    notes.exclude([[image.path for image in notes.images].index(path)])


def move(found, path, label):
    (found.folder / label).mkdir(exist_ok=True)
    (found.folder / path).rename(found.folder / label / Path(path).name.replace(".", "-moved."))


def test_relabelled_and_moved_test_images_are_not_gone(colours):
    found, tests, _ = colours
    assert tests[1].startswith("blue/")
    notes = Annotations(found)
    notes.relabel([[image.path for image in notes.images].index(tests[0])], "green")
    move(found, tests[1], "red")
    assert "any more" not in changes(found)

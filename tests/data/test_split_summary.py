"""What is said about a split to a reader who knows neither the notebooks nor the folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from imgclf.data import split, split_summary
from imgclf.data.dataset import IGNORED, LEFT_OUT, Dataset, DuplicatePair, Image
from imgclf.data.layout import Layout


def dataset(folder: Path, *paths: str) -> Dataset:
    """A data set of images that exist only in name, at LABEL/[GROUP/]FILE."""
    images = (
        Image(path, path.split("/")[0], f"{k:064x}", "", 9, 9, group="/".join(path.split("/")[1:-1]))
        for k, path in enumerate(paths)
    )
    return Dataset("fruit", folder, tuple(images))


def many(label: str, group: str = "") -> list[str]:
    return [f"{label}/{group}{k:02d}.jpg" for k in range(40)]


@pytest.fixture
def fruit(tmp_path: Path) -> Dataset:
    return dataset(tmp_path, *many("apple"), *many("pear"))


def test_a_split_by_content_is_described(fruit):
    assert split_summary.text(fruit, split.split(fruit, seed=3)).splitlines() == [
        "60 images train, 20 test, in 2 labels.",
        "The split is by the content of the files, 75% of the images of each label to train (seed 3).",
        "Near-duplicates stay in one set (0 pairs).",
    ]


def test_a_list_of_test_images_is_named(fruit):
    (fruit.folder / "dedicated_test.tsv").write_text("apple/00.jpg\npear/00.jpg\n")
    text = split_summary.text(fruit, split.split(fruit))
    assert "The test images are those of a list (dedicatedTestImages.tsv or dedicated_test.tsv).\n" in text


def test_folders_of_test_images_are_named(tmp_path):
    found = dataset(tmp_path, *(f"{side}/{path}" for side in ("train", "test") for path in many("apple")))
    given = replace(found, layout=Layout(sets=("train", "test"), test=("test",)))
    parts = split.Split(found.files[:40], found.files[40:], {i.path: i.path for i in found.files})
    assert "The test images are those in the folder test.\n" in split_summary.text(given, parts)


@pytest.mark.parametrize(
    ("split_by", "said"), [("group", "stay in one set"), ("image", "are divided between the sets")]
)
def test_groups_are_described(split_by, said, tmp_path):
    paths = [path for label in ("apple", "pear") for group in "abcd" for path in many(label, f"{group}/")]
    found = dataset(tmp_path, *paths)
    text = split_summary.text(found, split.split(found, split_by=split_by))
    assert f"The images of a group (a folder below the labels, 4 groups) {said}." in text


class TestDuplicates:
    def test_exact_copies_are_counted(self, fruit):
        first, *others = fruit.files
        found = replace(fruit, files=(replace(first, excluded="duplicate of apple/01.jpg"), *others))
        assert "Exact copies of other images are left out (1)." in split_summary.text(
            found, split.split(found)
        )

    def test_near_duplicates_in_one_set_are_counted(self, fruit):
        found = replace(fruit, duplicates=(DuplicatePair(*fruit.files[:2]),))
        assert "Near-duplicates stay in one set (1 pairs)." in split_summary.text(found, split.split(found))

    def test_near_duplicates_that_are_left_out_are_counted(self, fruit):
        first, *others = fruit.files
        excluded = replace(first, excluded="near-duplicate of apple/01.jpg")
        found = replace(fruit, files=(excluded, *others), near_duplicates=LEFT_OUT)
        assert "Near-duplicates are left out (1)." in split_summary.text(found, split.split(found))

    def test_that_nobody_looked_for_near_duplicates_is_said(self, fruit):
        found = replace(fruit, near_duplicates=IGNORED)
        assert "Near-duplicates were not looked for; " in split_summary.text(found, split.split(found))


def test_what_is_doubtful_comes_last(tmp_path):
    found = dataset(tmp_path, *many("apple"), "pear/1.jpg", "pear/2.jpg")
    last = split_summary.text(found, split.split(found)).splitlines()[-1]
    assert last.startswith("CAREFUL: few images of pear (1 train, 1 test)")

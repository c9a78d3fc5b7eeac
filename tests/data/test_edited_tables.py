"""An `images.tsv` that was edited is refused: what it says must be what a scan of the folder says."""

import pytest

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data import dataset, scan, split


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("red/00.jpg\tred", "red/00.jpg\tblue", "red/00.jpg: label 'blue' and group '' are not those of its"),
        ("red/00.jpg\tred", "red/01.jpg\tred", "an image is in two rows"),
        ("red/00.jpg\tred", "../00.jpg\t..", r"\.\./00.jpg is in no label folder"),
        ("red/00.jpg\tred", "/red/00.jpg\t", "/red/00.jpg is in no label folder"),
        ("red/00.jpg\tred", "00.jpg\t00.jpg", "00.jpg is in no label folder"),
        (
            "red/shop/0.jpg\tred",
            "red/shop/0.jpg\tshop",
            "red/shop/0.jpg: label 'shop' and group 'shop' are not those of",
        ),
        ("\tshop\t", "\tanother\t", "red/shop/0.jpg: label 'red' and group 'another' are not those of"),
    ],
    ids=["label", "twice", "above the folder", "absolute", "no folder", "group as label", "group"],
)
def test_an_edited_row_is_refused_with_the_image_and_the_notebook_to_run(colour_folder, old, new, fault):
    (colour_folder / "red" / "shop").mkdir()
    (colour_folder / "red" / "11.jpg").rename(colour_folder / "red" / "shop" / "0.jpg")
    table = dataset.write(scan.scan_folder("colours", colour_folder))
    assert len(dataset.read("colours").images) == 36
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    with pytest.raises(ImgclfError, match=rf"images\.tsv: {fault}.*; run 01_prepare_data again$"):
        dataset.read("colours")


@pytest.mark.parametrize(
    "reason",
    [
        "excluded by hand",
        "no label yet",
        "blurred",
        "duplicate of red/01.jpg",
        "near-duplicate of red/01.jpg",
    ],
)
def test_a_test_image_that_is_excluded_in_both_tables_is_noticed(colour_folder, reason):
    found = scan.scan_folder("colours", colour_folder)
    parts = split.split(found)
    images, rows = dataset.write(found), split.write(found, parts)
    path = parts.test[0].path
    lines = images.read_text().splitlines()
    changed = [line.rpartition("\t")[0] + f"{reason}\t" if line.startswith(path) else line for line in lines]
    images.write_text("\n".join(changed) + "\n")
    rows.write_text("".join(line for line in rows.read_text().splitlines(True) if not line.startswith(path)))
    edited = dataset.read("colours")
    assert [image.path for image in edited.excluded + edited.unlabelled] == [path]
    with pytest.raises(
        ImgclfError,
        match=f"^images.tsv of colours: {path} is excluded as '{reason}', which is not so; run 01_prepare_data",
    ):
        split.read(edited)


def test_images_that_a_scan_excludes_are_accepted(colour_folder):
    (colour_folder / "red" / "copy.jpg").write_bytes((colour_folder / "red" / "00.jpg").read_bytes())
    (colour_folder / "red" / "broken.jpg").write_bytes(b"no picture")
    (colour_folder / "unlabelled").mkdir()
    (colour_folder / "blue" / "00.jpg").rename(colour_folder / "unlabelled" / "b.jpg")
    Annotations(scan.scan_folder("colours", colour_folder)).exclude([0])
    found = scan.scan_folder("colours", colour_folder)
    dataset.write(found)
    split.write(found, split.split(found))
    assert len(found.excluded) == 3 and len(found.unlabelled) == 1
    assert len(split.read(dataset.read("colours")).cluster) == 34

"""An `images.tsv` that was edited is refused: what it says must be what a scan of the folder says."""

import pytest

from imgclf import ImgclfError
from imgclf.data import dataset, scan


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

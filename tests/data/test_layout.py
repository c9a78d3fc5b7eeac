"""Layouts as people have them: label folders at the top, or train, val and test around them."""

import re
from pathlib import Path

import pytest

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.collect import manifest
from imgclf.data import dataset, layout, scan, split
from imgclf.experiments import sweep
from imgclf.images import decoding
from support.pictures import picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photographs").mkdir()
    return tmp_path / "photographs"


def put(folder, *paths):
    """Write different JPEGs."""
    for path in paths:
        number = sum(1 for _ in folder.rglob("*.jpg"))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(decoding.jpeg(picture((120, 120, 120), number)))


def images(*folders, count=2):
    return [f"{folder}/{i}.jpg" for folder in folders for i in range(count)]


def scan_fruit(folder):
    return scan.scan_folder("fruit", folder)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "val"),
        ("train", "test"),
        ("Train", "VALID"),
        ("training", "validation"),
        ("TRAIN", "Test"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train", "test1"),
        ("train_images", "dev"),
    ],
)
def test_training_and_test_folders_with_the_same_label_folders_are_the_split(folder, train, test):
    put(folder, *images(f"{train}/hat", f"{train}/pants"), f"{test}/hat/0.jpg", f"{test}/pants/shop/0.jpg")
    found = scan_fruit(folder)
    parts = split.split(found)
    assert found.labels == ["hat", "pants"]
    assert {image.path for image in parts.test} == {f"{test}/hat/0.jpg", f"{test}/pants/shop/0.jpg"}
    assert {image.path for image in parts.train} == {*images(f"{train}/hat", f"{train}/pants")}
    assert {image.group for image in found.images} == {"", "shop"}
    assert found.cautions().startswith(
        f"the label folders are in {train}/ and {test}/: test images are those in "
        f"{test}/, training images those in {train}/"
    )


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["Hat", "hat", "pants"], "'Hat' and 'hat'"),
        (["dress", "dress "], "'dress' and 'dress '"),
        (["gr\u00fcn", "gru\u0308n"], "'gru\u0308n' and 'gr\u00fcn'"),
        (["STRASSE", "stra\u00dfe"], "'STRASSE' and 'stra\u00dfe'"),
    ],
)
def test_labels_that_are_written_almost_alike_are_named(folder, labels, named):
    put(folder, *images(*labels))
    assert f"CAREFUL: the labels {named} are written almost alike" in scan_fruit(folder).notes()


def test_folders_that_each_label_has_are_said_to_be_groups(folder):
    put(folder, *images("fold1/hat", "fold1/pants", "fold2/hat", "fold2/pants"))
    assert (
        "the label folders fold1/ and fold2/ hold the same folders hat/ and pants/: these are read as groups"
        in scan_fruit(folder).notes()
    )
    put(folder, "fold2/3.jpg")
    assert "are read as groups" not in scan_fruit(folder).notes()


def test_test_images_are_those_of_test_and_val_is_trained_on(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b", "test/a", "test/b"))
    parts = split.split(scan_fruit(folder))
    assert {image.path.partition("/")[0] for image in parts.test} == {"test"}
    assert {image.path.partition("/")[0] for image in parts.train} == {"train", "val"}


def test_a_list_of_test_images_overrides_the_folders(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b"))
    (folder / "dedicated_test.tsv").write_text("train/a/0.jpg\ntrain/b/0.jpg\n")
    assert {image.path for image in split.split(scan_fruit(folder)).test} == {
        "train/a/0.jpg",
        "train/b/0.jpg",
    }


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (
            ["train/a/0", "train/b/0", "val/a/0"],
            "train/ and val/ look like .*, but val/ has no folder b; correct ",
        ),
        (["train/a/0", "val/a/0", "val/b/0"], "but train/ has no folder b"),
        (
            ["test/a/0", "test/b/0", "val/a/0", "val/b/0"],
            "val/ and test/ look like .*, but there is no folder train/",
        ),
        (["train/Hat/0", "train/b/0", "test/hat/0", "test/b/0"], "but train/ has no folder hat"),
        (["train/a/0", "train/b/0", "test/0", "test/1"], "but test/ has no label folders"),
        (["train/0", "test1/0"], "train/ and test1/ look like .*, but train/ has no label folders"),
        (
            ["train/a/0", "train/b/0", "test/a/0", "test/b/0", "single_prediction/0"],
            r"but single_prediction/ is beside them",
        ),
        (["seg_train/seg_train/a/0", "seg_test/seg_test/a/0", "seg_pred/0"], r"but seg_pred/ is beside them"),
        (["seg_train/seg_train/a/0", "seg_test/seg_test/a/0"], r"but seg_train/ has no folder seg_test"),
    ],
    ids=[
        "missing",
        "more",
        "no training images",
        "capitals",
        "flat test folder",
        "flat",
        "a third folder",
        "a third folder and wrappers",
        "wrappers",
    ],
)
def test_sets_with_different_label_folders_are_refused_with_the_reason(folder, paths, reason):
    put(folder, *(f"{path}.jpg" for path in paths))
    with pytest.raises(ImgclfError, match=reason):
        scan_fruit(folder)


@pytest.mark.parametrize(
    "labels",
    [
        ["train", "bus", "car"],
        ["valid", "invalid"],
        ["test strip", "train station"],
        ["train", "trainers"],
        ["training"],
    ],
)
def test_labels_that_sound_like_sets_are_labels(folder, labels):
    put(folder, *images(*labels))
    assert scan_fruit(folder).labels == sorted(labels)


def test_groups_in_a_label_named_train_are_groups(folder):
    put(folder, *images("train/day 1", "bus/day 1", "bus/day 2"))
    found = scan_fruit(folder)
    assert found.labels == ["bus", "train"] and {i.group for i in found.images} == {"day 1", "day 2"}


@pytest.mark.parametrize(
    ("paths", "inner", "what"),
    [
        (images("fruit/hat", "fruit/pants"), "fruit", "its folders are the labels (hat, pants)"),
        (images("a/fruit/hat", "a/fruit/pants"), "a/fruit", "its folders are the labels (hat, pants)"),
        (
            images(*(f"fruit/{set}/{label}" for set in ("train", "val") for label in ("hat", "pants"))),
            "fruit",
            "its folders are the sets (train, val)",
        ),
        (images("train/hat", "train/pants"), "train", "its folders are the labels (hat, pants)"),
    ],
    ids=["one", "two", "around sets", "train alone"],
)
def test_folder_around_the_label_folders_is_named_in_the_remedy(folder, paths, inner, what):
    put(folder, *paths, "__MACOSX/fruit/hat/._0.jpg")
    with pytest.raises(
        ImgclfError,
        match=re.escape(f"has images; if {what}, set images_dir={folder / inner}; if not, add a"),
    ):
        dataset.check(scan_fruit(folder))
    dataset.check(scan_fruit(folder / inner), labelled=False)


def test_data_set_without_any_usable_image_names_what_is_there(folder):
    for name in ("hat/1.xyz", "hat/2.xyz", "shoes/1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    with pytest.raises(
        ImgclfError,
        match=re.escape("no usable images (hat (2 .xyz), shoes (1 without suffix)); put the images"),
    ):
        dataset.check(scan_fruit(folder))


def test_a_single_label_folder_is_no_folder_around_labels(folder):
    put(folder, *images("hat"))
    with pytest.raises(
        ImgclfError, match=r"only the label 'hat' has images; add a folder for at least one more"
    ):
        dataset.check(scan_fruit(folder))


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir",
        "$RECYCLE.BIN",
        "__MACOSX",
        ".ipynb_checkpoints",
        "System Volume Information",
        "#recycle",
        "@Recycle",
        "lost+found",
        ".Trash-1000",
    ],
)
def test_folders_of_operating_systems_are_no_labels_and_hold_no_images(folder, name):
    put(folder, *images("hat", "pants"), *images(name, f"hat/{name}", "hat/._x"), "hat/._0.jpg", "._0.jpg")
    for file in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / "hat" / file).write_bytes(b"\0")
    found = scan_fruit(folder)
    assert found.labels == ["hat", "pants"] and len(found.files) == 4 and found.other_files == ()
    assert found.layout.folders == ("hat", "pants")
    notes = Annotations(found)
    assert notes.labels == ["hat", "pants"]
    with pytest.raises(
        ImgclfError, match="is a folder of the operating system|begins with a dot|cannot name"
    ):
        notes.add_label(name)


def test_system_folders_beside_training_and_test_folders_are_ignored(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b", "__MACOSX/train", "train/@eaDir"))
    assert scan_fruit(folder).labels == ["a", "b"]


def test_relabelled_images_stay_in_their_set_and_new_labels_are_in_every_set(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b"), "unlabelled/0.jpg")
    notes = Annotations(scan_fruit(folder))
    position = {image.path: i for i, image in enumerate(notes.images)}
    notes.add_label("new")
    notes.relabel([position["val/a/1.jpg"]], "new")
    notes.relabel([position["unlabelled/0.jpg"]], "new")
    assert notes.labels == ["a", "b", "new"]
    assert (folder / "val/new/1.jpg").exists() and (folder / "train/new/0.jpg").exists()
    found = scan_fruit(folder)
    assert found.labels == ["a", "b", "new"] and not found.unlabelled
    assert {i.path for i in split.split(found).test} == {"val/new/1.jpg", *images("val/b"), "val/a/0.jpg"}
    undone = [str(notes.undo()) for _ in range(3)]
    assert undone[1] == "undone: val/a/1.jpg is 'a' again"
    assert notes.labels == ["a", "b"] and not (folder / "train/new").exists()
    assert {i.path for i in scan_fruit(folder).unlabelled} == {"unlabelled/0.jpg"}


def test_an_image_that_loses_its_label_keeps_its_set(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b"), "val/a/x.jpg")
    for path, label in [("val/a/x.jpg", "unlabelled"), ("val/unlabelled/x.jpg", "b")]:
        notes = Annotations(scan_fruit(folder))
        notes.relabel([[image.path for image in notes.images].index(path)], label)
    assert (folder / "val/b/x.jpg").exists()


def test_images_in_no_label_folder_are_counted(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b"), "train/loose.jpg", "top.jpg")
    assert scan_fruit(folder).other_files == ("top.jpg", "train/loose.jpg")
    assert scan_fruit(folder).other_files_note().startswith("not scanned: 2 x in no label folder; ")


def test_layout_is_stored_with_the_images(folder):
    put(folder, *images("train/a", "train/b", "val/a", "val/b"))
    dataset.write(scan_fruit(folder))
    assert dataset.read("fruit").layout == layout.find(folder)


def test_a_label_with_a_leading_underscore_is_a_label(folder):
    put(folder, *images("_none", "hat", count=4))
    found = scan_fruit(folder)
    dataset.write(found)
    assert dataset.read("fruit").labels == ["_none", "hat"] == Annotations(found).labels
    assert split.split(found).counts().index.tolist() == ["_none", "hat"]


def test_missing_folder_and_folder_without_label_folders_are_named(folder):
    with pytest.raises(ImgclfError, match="no such folder; correct images_dir or dataset_name, or run 00"):
        layout.find(Path(folder / "gone"))
    (folder / "__MACOSX").mkdir()
    with pytest.raises(
        ImgclfError, match="no label folders in it; put the images of each label into a folder"
    ):
        layout.find(folder)


@pytest.mark.parametrize("left", [".DS_Store", "notes.txt", "clip.mp4", "below/notes.txt"])
def test_a_set_without_the_folder_of_a_label_without_images_is_read(folder, left):
    put(folder, *images("train/hat", "train/pants", "test/hat", "test/pants", "train/dotted", "test/dotted"))
    (folder / "train/dotted" / left).parent.mkdir(exist_ok=True)
    (folder / "train/dotted" / left).write_text("left behind")
    opened = Annotations(scan_fruit(folder))
    opened.rename_label("dotted", "spots")
    assert (folder / "train/dotted").is_dir() and not (folder / "test/dotted").exists()
    found = scan_fruit(folder)
    assert found.labels == ["hat", "pants", "spots"] and found.layout.sets == ("train", "test")


def test_an_unlabelled_image_of_a_label_named_like_a_set_gets_into_the_set(folder):
    put(folder, *images("train/train", "train/bus", "test/train", "test/bus"), "unlabelled/x.jpg")
    found = scan_fruit(folder)
    assert found.layout.relabelled("unlabelled/x.jpg", "train") == "train/train/x.jpg"
    assert found.layout.relabelled("unlabelled/x.jpg", "bus") == "train/bus/x.jpg"
    assert found.layout.relabelled("test/bus/0.jpg", "train") == "test/train/0.jpg"
    opened = Annotations(found)
    opened.relabel([[image.path for image in opened.images].index("unlabelled/x.jpg")], "train")
    assert "train" in {image.label for image in scan_fruit(folder).images if image.path.endswith("x.jpg")}


def test_listed_images_in_sets_are_found_with_and_without_the_name_of_their_set(folder):
    put(folder, *images("train/a", "train/b"), "val/a/val0.jpg", "val/a/1.jpg", "val/b/9.jpg")
    listed = ["a\tval0.jpg", "train/b/0.jpg", "B/9.jpg", "a/1.jpg", "a/none.jpg"]
    (folder / "dedicatedTestImages.tsv").write_text("\n".join(listed))
    parts = split.split(scan_fruit(folder))
    assert {image.path for image in parts.test} == {"val/a/val0.jpg", "train/b/0.jpg", "val/b/9.jpg"}
    assert parts.not_found == ("a/1.jpg (it may mean train/a/1.jpg or val/a/1.jpg)", "a/none.jpg")


@pytest.mark.parametrize(
    ("typed", "meant"), [("frut", " (did you mean fruit?)"), ("Fruit", " (did you mean fruit?)"), ("car", "")]
)
def test_a_mistyped_data_set_is_answered_with_the_nearest_folder(data_dir, typed, meant):
    for name in ("fruit", "clothing", ".frut"):
        (data_dir / "images" / name).mkdir(parents=True)
    for name in ("fruit", "fruit@seed=1"):
        (data_dir / "proc" / name).mkdir(parents=True)
    with pytest.raises(ImgclfError, match=rf"{typed}: no such folder{re.escape(meant)}; correct images_dir"):
        layout.find(dataset.images_folder(typed))
    with pytest.raises(ImgclfError, match=rf"images\.tsv\){re.escape(meant)}; run 01_prepare_data first"):
        dataset.read(typed)
    with pytest.raises(ImgclfError, match=rf"/{typed}{re.escape(meant)}; correct the name"):
        manifest.entries_of(typed)
    with pytest.raises(ImgclfError, match=rf"no images of {typed} yet{re.escape(meant)}; run 00_get_images"):
        sweep.run(typed, "", "seed: 1, 2")


def test_a_mistyped_manifest_is_answered_with_its_name():
    with pytest.raises(
        ImgclfError, match=r"fashon_texture \(did you mean fashion_texture\?\); correct the name"
    ):
        manifest.entries_of("fashon_texture")


def test_images_of_other_things_are_no_label_and_in_neither_set(folder):
    put(folder, *images("hat", "pants", count=4), "unfamiliar/toys/0.jpg", "unfamiliar/1.jpg")
    found = scan_fruit(folder)
    assert found.labels == found.layout.labels == ["hat", "pants"] and len(found.files) == 8
    parts = split.split(found)
    assert {image.label for image in (*parts.train, *parts.test)} == {"hat", "pants"}
    assert len(Annotations(found).images) == 8
    paths = layout.other_things(folder, found.layout)
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "unfamiliar/1.jpg",
        "unfamiliar/toys/0.jpg",
    ]
    assert "2 images in unfamiliar/ are of other things: no label, and in no training" in found.notes()


def test_images_of_other_things_may_be_beside_or_in_training_and_test_folders(folder):
    put(folder, *images("train/hat", "train/pants", "test/hat", "test/pants"))
    put(folder, "unfamiliar/0.jpg", "test/unfamiliar/1.jpg")
    found = scan_fruit(folder)
    assert found.layout.sets == ("train", "test") and found.labels == ["hat", "pants"]
    assert len(layout.other_things(folder, found.layout)) == 2 and len(found.images) == 8


def test_images_of_other_things_change_their_own_state_only_whatever_the_case_of_the_folder(folder):
    put(folder, *images("hat", "pants", count=4))
    before = layout.images_state(folder)
    assert layout.other_things_state(folder) == ""
    put(folder, "Unfamiliar/1.jpg")
    one = layout.other_things_state(folder)
    put(folder, "Unfamiliar/2.jpg")
    assert len({"", one, layout.other_things_state(folder)}) == 3
    assert layout.find(folder).labels == ["hat", "pants"]
    assert layout.images_state(folder) == before


def test_a_label_unfamiliar_of_an_earlier_version_stays_one_until_01_runs_again(folder, data_dir):
    put(folder, *images("hat", "unfamiliar"))
    found = scan_fruit(folder)
    assert "If unfamiliar is a label, rename the folder" in found.notes()
    old = layout.Layout(("hat", "unfamiliar"))
    assert layout.other_things(folder, old) == [] and old.labels == ["hat", "unfamiliar"]

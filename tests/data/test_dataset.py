import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from imgclf import ImgclfError
from imgclf.data import dataset, layout, sampling, scan, scan_cache, split
from imgclf.data.dataset import Dataset, Image
from imgclf.images import decoding
from support.pictures import COLOURS, picture, rotated


def put(folder, path, *, seed=0, side=64, quality=95):
    """Write a JPEG at `path`; the same seed makes the same picture at every size."""
    pixels = cv2.resize(
        picture((120, 120, 120), seed, width=64, height=64), (side, side), interpolation=cv2.INTER_CUBIC
    )
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(decoding.jpeg(pixels, quality=quality))


def scan_fruit(folder, **settings):
    return scan.scan_folder("fruit", folder, **settings)


def excluded(scanned):
    return {image.path: image.excluded for image in scanned.excluded}


def test_folder_is_the_label_and_labels_are_sorted(colour_folder):
    found = scan_fruit(colour_folder)
    assert found.labels == sorted(COLOURS) == ["blue", "green", "red"]
    assert all(image.path.startswith(image.label + "/") for image in found.files)
    assert str(found) == "fruit: 36 images in 3 labels, 0 excluded"


def test_image_is_described_by_its_content(tmp_path):
    put(tmp_path, "a/0.jpg", side=48)
    (found,) = scan_fruit(tmp_path).files
    assert (found.path, found.label, found.width, found.height) == ("a/0.jpg", "a", 48, 48)
    assert (
        found.sha256 == hashlib.sha256((tmp_path / "a" / "0.jpg").read_bytes()).hexdigest()
        and len(found.dhash) == 64
    )


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photograph_has_its_size_upright_and_the_hash_of_its_small_copy(tmp_path, orientation):
    pixels = cv2.resize(picture((120, 120, 120), 0), (2001, 1501), interpolation=cv2.INTER_CUBIC)
    upright = decoding.upright(pixels, orientation)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "large.jpg").write_bytes(rotated(orientation, "JPEG", upright, quality=90))
    (tmp_path / "a" / "small.jpg").write_bytes(decoding.jpeg(decoding.shrink(upright, 400)))
    found = scan_fruit(tmp_path)
    large, small = found.files
    assert (large.width, large.height) == ((2001, 1501) if orientation == 1 else (1501, 2001))
    assert [(pair.kept, pair.other) for pair in found.duplicates] == [(large, small)]
    assert abs(large.sharpness - small.sharpness) < 0.1


def test_hidden_files_are_ignored(tmp_path):
    for i, path in enumerate(["a/0.jpg", "a/.1.jpg", "a/.2/2.jpg", ".3/3.jpg"]):
        put(tmp_path, path, seed=i)
    assert [image.path for image in scan_fruit(tmp_path).files] == ["a/0.jpg"]


def test_unlabelled_images_are_listed_and_used_by_no_later_stage(tmp_path):
    for i, path in enumerate(["a/0.jpg", "unlabelled/1.jpg", "unlabelled/2.jpg"]):
        put(tmp_path, path, seed=i)
    found = scan_fruit(tmp_path)
    assert (
        [image.path for image in found.images] == ["a/0.jpg"] and found.labels == ["a"] and not found.excluded
    )
    assert [image.path for image in found.unlabelled] == ["unlabelled/1.jpg", "unlabelled/2.jpg"]
    first, second = str(found).split("\n")
    assert first.endswith("1 images in 1 label, 0 excluded, 2 unlabelled")
    assert second == (
        "only the label 'a' has images; add a folder for at least one more label, "
        "or import labels from a file: imgclf labels import FILE --add-labels"
    )


def test_folders_between_label_and_file_are_the_group(tmp_path):
    for i, path in enumerate(["a/0.jpg", "a/shoot one/1.jpg", "a/shoot one/day 2/2.jpg"]):
        put(tmp_path, path, seed=i)
    assert [image.group for image in scan_fruit(tmp_path).files] == ["", "shoot one", "shoot one/day 2"]


def test_files_with_other_suffixes_are_counted_and_not_scanned(tmp_path):
    put(tmp_path, "a/0.jpg")
    assert (
        scan_fruit(tmp_path).other_files_note()
        == "every file lies in a label folder and is an image by its suffix or content"
    )
    for name in ("1.txt", "2.TXT", "3.pdf", "4"):
        (tmp_path / "a" / name).write_text("")
    assert scan_fruit(tmp_path).other_files == ("a/1.txt", "a/2.TXT", "a/3.pdf", "a/4")
    assert (
        scan_fruit(tmp_path)
        .other_files_note()
        .startswith(
            "not scanned: 2 x .txt, 1 x .pdf (a PDF), 1 x no suffix; images lie in a label folder and end in one of .jpg,"
        )
    )


def test_copies_within_a_label_are_excluded_and_near_duplicates_stay(tmp_path):
    put(tmp_path, "a/small.jpg", side=64)
    put(tmp_path, "a/large.jpg", side=256)
    shutil.copy(tmp_path / "a" / "large.jpg", tmp_path / "a" / "same.jpg")
    found = scan_fruit(tmp_path)
    assert excluded(found) == {"a/same.jpg": "duplicate of a/large.jpg"}
    assert [(pair.kept.path, pair.other.path, pair.kind) for pair in found.duplicates] == [
        ("a/large.jpg", "a/same.jpg", "exact"),
        ("a/large.jpg", "a/small.jpg", "near"),
    ]


def test_images_without_a_label_are_compared_with_each_other_and_with_the_others(tmp_path):
    put(tmp_path, "a/small.jpg", side=64)
    put(tmp_path, "unlabelled/large.jpg", side=256)
    put(tmp_path, "unlabelled/other.jpg", seed=1)
    for copy, of in (("copy.jpg", "other.jpg"), ("copy of small.jpg", "../a/small.jpg")):
        shutil.copy(tmp_path / "unlabelled" / of, tmp_path / "unlabelled" / copy)
    found = scan_fruit(tmp_path)
    assert excluded(found) == {"unlabelled/other.jpg": "duplicate of unlabelled/copy.jpg"}
    assert [image.path for image in found.images] == ["a/small.jpg"]
    assert [(pair.kept.path, pair.other.path, pair.kind, pair.disagree) for pair in found.duplicates] == [
        ("a/small.jpg", "unlabelled/large.jpg", "near", False),
        ("a/small.jpg", "unlabelled/copy of small.jpg", "exact", False),
        ("unlabelled/large.jpg", "unlabelled/copy of small.jpg", "near", False),
        ("unlabelled/copy.jpg", "unlabelled/other.jpg", "exact", False),
    ]
    left_out = scan_fruit(tmp_path, near_duplicates="left out")
    assert excluded(left_out) == excluded(found) | {
        "unlabelled/copy of small.jpg": "near-duplicate of unlabelled/large.jpg"
    }


def test_images_without_a_label_move_no_other_to_the_other_side_of_the_split(tmp_path):
    for i in range(24):
        put(tmp_path, f"{'ab'[i % 2]}/{i}.jpg", seed=i)
    before = split.split(scan_fruit(tmp_path))
    for i in range(24):
        put(tmp_path, f"unlabelled/{i}.jpg", seed=i, side=128)
    found = scan_fruit(tmp_path)
    assert len(found.duplicates) >= 24 and split.split(found).test == before.test


def test_ignored_near_duplicates_are_not_looked_for(tmp_path):
    put(tmp_path, "a/small.jpg", side=64)
    put(tmp_path, "a/large.jpg", side=256)
    found = scan_fruit(tmp_path, near_duplicates="ignored")
    assert (found.duplicates, found.excluded) == ((), ())


@pytest.mark.parametrize("width", [1, 60], ids=["a scratch", "a gate"])
def test_frames_of_a_fixed_camera_are_all_used_and_in_both_sets(tmp_path, width):
    rng = np.random.default_rng(0)
    still = cv2.resize(picture((120, 120, 120), 0), (320, 240), interpolation=cv2.INTER_CUBIC)
    changed = cv2.line(still.copy(), (100, 100), (160, 110), (250, 250, 250), width)
    for label, view in (("closed", still), ("open", changed)):
        (tmp_path / label).mkdir()
        for i in range(16):
            frame = view * rng.uniform(0.95, 1.05) + rng.normal(0, 4, view.shape)
            (tmp_path / label / f"{i}.jpg").write_bytes(decoding.jpeg(frame.clip(0, 255).astype(np.uint8)))
    found = scan_fruit(tmp_path)
    assert len(found.images) == 32 and len(found.duplicates) in (30, 31)
    parts = split.split(found)
    assert parts.counts().to_dict("index") == {
        label: {"train": 12, "test": 4} for label in ("closed", "open")
    }
    assert parts.divided == ("closed", "open")
    split.write(found, parts)
    assert split.read(found).division() == parts.division() != ""


def test_labels_without_a_usable_image_are_named_with_what_lies_in_them(tmp_path):
    put(tmp_path, "hat/0.jpg")
    for path in ("shoes/0.xyz", "shoes/1.xyz", "shoes/2.jpg", "coats/0", "scarves/day 1/0.XYZ"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"no image")
    for empty in ("bags", "unlabelled", "@eaDir"):
        (tmp_path / empty).mkdir()
    found = scan_fruit(tmp_path)
    assert found.notes().splitlines()[-1] == (
        "CAREFUL: the classifier will not know: bags (empty), coats (1 without suffix), scarves (1 .xyz), "
        "shoes (2 .xyz, 1 .jpg)"
    )
    dataset.write(found)
    assert dataset.read("fruit", str(tmp_path)).unusable_labels() == found.unusable_labels()
    with pytest.raises(
        ImgclfError, match=r"only the label 'hat' has images, bags \(empty\), coats .* has none; add"
    ):
        dataset.check(found)


def test_labels_that_lose_a_quarter_of_their_images_are_named(tmp_path):
    for i in range(3):
        put(tmp_path, f"a/{i}.jpg", seed=i)
        put(tmp_path, f"b/{i}.jpg", seed=10 + i)
    put(tmp_path, "a/small.jpg", side=32)
    assert scan_fruit(tmp_path).losses() == ""
    assert scan_fruit(tmp_path, near_duplicates="left out").losses() == (
        "CAREFUL: left out are 1 of the 4 images of a (1 as near-duplicates); "
        "near_duplicates=together keeps near-duplicates"
    )
    shutil.copy(tmp_path / "b/0.jpg", tmp_path / "b/copy.jpg")
    (tmp_path / "b/empty.jpg").touch()
    assert scan_fruit(tmp_path).notes().splitlines()[-1] == (
        "CAREFUL: left out are 2 of the 5 images of b (1 as copies, 1 unreadable)"
    )


def test_smaller_near_duplicates_within_a_label_are_left_out_on_request(tmp_path):
    put(tmp_path, "a/small.jpg", side=64)
    put(tmp_path, "a/large.jpg", side=256)
    shutil.copy(tmp_path / "a" / "large.jpg", tmp_path / "a" / "same.jpg")
    put(tmp_path, "a/other.jpg", seed=1)
    found = scan_fruit(tmp_path, near_duplicates="left out")
    assert excluded(found) == {
        "a/small.jpg": "near-duplicate of a/large.jpg",
        "a/same.jpg": "duplicate of a/large.jpg",
    }
    assert [(pair.kept.path, pair.other.path, pair.is_exact) for pair in found.duplicates] == [
        ("a/large.jpg", "a/same.jpg", True),
        ("a/large.jpg", "a/small.jpg", False),
    ]


def test_duplicates_with_two_labels_disagree_and_neither_is_excluded(tmp_path):
    put(tmp_path, "a/0.jpg")
    put(tmp_path, "b/0.jpg")
    found = scan_fruit(tmp_path)
    assert [pair.disagree for pair in found.duplicates] == [True] and found.excluded == ()


def test_duplicates_within_a_label_are_excluded_although_another_label_has_one_too(tmp_path):
    for path, side in [("a/0.jpg", 128), ("b/1.jpg", 128), ("b/2.jpg", 128), ("b/3.jpg", 64)]:
        put(tmp_path, path, side=side)
    assert excluded(scan_fruit(tmp_path, near_duplicates="left out")) == {
        "b/2.jpg": "duplicate of b/1.jpg",
        "b/3.jpg": "near-duplicate of b/1.jpg",
    }


def test_sharp_pictures_and_their_small_copies_are_near_duplicates(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(6):
        sharp = (
            np.random.default_rng(i)
            .integers(0, 2, (16, 16, 1))
            .repeat(22, 0)
            .repeat(22, 1)
            .repeat(3, 2)
            .astype(np.uint8)
            * 255
        )
        small = cv2.resize(sharp, (176, 176), interpolation=cv2.INTER_AREA)
        (tmp_path / "a" / f"{i}.jpg").write_bytes(decoding.jpeg(sharp))
        (tmp_path / "a" / f"{i} small.png").write_bytes(cv2.imencode(".png", small)[1].tobytes())
    assert excluded(scan_fruit(tmp_path, near_duplicates="left out")) == {
        f"a/{i} small.png": f"near-duplicate of a/{i}.jpg" for i in range(6)
    }


def test_progress_counts_every_image(colour_folder):
    seen = []
    scan.scan_folder("fruit", colour_folder, progress=seen.append)
    assert seen == list(range(1, 37))


def test_second_scan_decodes_only_new_content(colour_folder, monkeypatch):
    first = scan_fruit(colour_folder)
    dataset.write(first)
    put(colour_folder, "red/new.jpg", seed=999)
    (colour_folder / "red" / "00.jpg").rename(colour_folder / "green" / "moved.jpg")
    decoded, decode = [], decoding.decode_with_size
    monkeypatch.setattr(
        decoding,
        "decode_with_size",
        lambda encoded, name, **options: decoded.append(name) or decode(encoded, name, **options),
    )
    second = scan_fruit(colour_folder)
    assert decoded == ["new.jpg"]
    moved = {image.path: image for image in second.files}["green/moved.jpg"]
    assert (moved.dhash, moved.width, moved.label) == (first.files[24].dhash, 64, "green")


def test_scan_of_an_earlier_version_is_no_cache_and_can_be_read(colour_folder):
    """Its hashes differ in a few bits, and it measured no sharpness."""
    table = dataset.write(scan_fruit(colour_folder))
    rows = [line.rsplit("\t", 3)[0] for line in table.read_text().splitlines()]
    assert len(scan_cache.read("fruit")) == 36 and rows[0].endswith("excluded\tdepth")
    table.write_text("\n".join(rows) + "\n")
    assert scan_cache.read("fruit") == {} and len(dataset.read("fruit").images) == 36
    assert {image.sharpness for image in dataset.read("fruit").images} == {dataset.NOT_MEASURED}


def test_images_of_more_than_8_bits_are_counted_by_how_they_were_scaled(tmp_path):
    put(tmp_path, "a/0.jpg")
    assert scan_fruit(tmp_path).depth_note() == "all images have 8 bits a channel"
    ramp = np.linspace(0, 1, 4096).reshape(64, 64)
    for name, samples in {
        "1.png": (4095 * ramp).astype(np.uint16),
        "2.png": (3000 * ramp[::-1]).astype(np.uint16),
        "3.png": (65535 * ramp.T).astype(np.uint16),
        "4.tif": (ramp - 0.5).astype(np.float32),
    }.items():
        PillowImage.fromarray(samples).save(tmp_path / "a" / name)
    found = scan_fruit(tmp_path)
    dataset.write(found)
    expected = (
        "4 images have samples of more than 8 bits, and are scaled to 8: "
        "2 from 12 bits, 1 from 16 bits, 1 by their own range"
    )
    assert found.depth_note() == dataset.read("fruit").depth_note() == expected
    assert scan_fruit(tmp_path).depth_note() == expected  # from the cache


def test_file_without_suffix_is_an_image_by_its_content(tmp_path):
    put(tmp_path, "a/0.jpg")
    (tmp_path / "a" / "0.jpg").rename(tmp_path / "a" / "IMG_0001")
    put(tmp_path, "a/1.jfif", seed=1)
    (tmp_path / "a" / "README").write_text("where the images are from")
    found = scan_fruit(tmp_path)
    assert [image.path for image in found.images] == ["a/1.jfif", "a/IMG_0001"]
    assert found.other_files == ("a/README",)


def test_kind_of_files_that_are_not_read_is_named(tmp_path):
    put(tmp_path, "a/0.jpg")
    for i in range(3):
        (tmp_path / "a" / f"DSC_{i}.NEF").write_bytes(b"MM\0*")
    assert (
        scan_fruit(tmp_path)
        .other_files_note()
        .startswith("not scanned: 3 x .nef (a raw photograph of a camera); images lie in ")
    )


def test_second_scan_still_lists_unreadable_images(tmp_path):
    put(tmp_path, "a/0.jpg")
    (tmp_path / "a" / "1.jpg").write_bytes(b"no image")
    first = scan_fruit(tmp_path)
    dataset.write(first)
    assert (
        excluded(scan_fruit(tmp_path))
        == excluded(first)
        == {"a/1.jpg": "not an image that can be read; replace or delete it"}
    )


def test_duplicate_is_included_again_when_the_other_is_deleted(tmp_path):
    put(tmp_path, "a/0.jpg")
    put(tmp_path, "a/1.jpg")
    dataset.write(scan_fruit(tmp_path))
    (tmp_path / "a" / "0.jpg").unlink()
    assert [image.path for image in scan_fruit(tmp_path).images] == ["a/1.jpg"]


def test_reason_is_complete_although_the_name_has_a_colon(tmp_path):
    put(tmp_path, "a/0.jpg")
    (tmp_path / "a" / "one: two.jpg").touch()
    assert excluded(scan_fruit(tmp_path)) == {"a/one: two.jpg": "the file is empty; replace or delete it"}


@pytest.mark.parametrize("near_duplicates", ["together", "left out", "ignored"])
def test_images_table_round_trip(colour_folder, near_duplicates):
    found = scan_fruit(colour_folder, near_duplicates=near_duplicates)
    assert (
        dataset.write(found).read_text().splitlines()[0]
        == "path\tlabel\tsha256\tdhash\twidth\theight\tgroup\texcluded\tdepth\tshadows\thighlights\tsharpness"
    )
    assert dataset.read("fruit", str(colour_folder)) == found


@pytest.mark.parametrize(
    "name", ["a\tb", 'a "quoted" name', '"', "a\nb", "a\rb", "a\r\nb", " a ", "größer 图片", "a\u2028b\x85c"]
)
def test_images_table_round_trip_of_odd_names(name):
    found = Dataset(
        "fruit",
        dataset.images_folder("fruit"),
        tuple(
            Image(f"{name}/{name}/{name}{i}.jpg", name, "0", "0", 1, 2, group=name, excluded=name)
            for i in range(2)
        ),
    )
    dataset.write(found)
    assert dataset.read("fruit") == found


def test_reading_without_a_table_names_the_notebook():
    with pytest.raises(
        ImgclfError, match=r"no list of the images of fruit yet \(.*images.tsv\); run 01_prepare_data first"
    ):
        dataset.read("fruit")


@pytest.mark.parametrize(
    "content",
    [
        b"path\tlabel\na/0.jpg\ta\n",
        b"\xff\xfe",
        b"path\tlabel\tsha256\na\rb\tc\td\n",
        b"path\tlabel\tsha256\tdhash\twidth\theight\nx\ta\t0\t0\twide\t1\n",
    ],
    ids=["columns", "bytes", "carriage return", "number"],
)
def test_damaged_table_is_named_with_the_remedy(tmp_path, content):
    table = dataset.write(Dataset("fruit", tmp_path, ()))
    table.write_bytes(content)
    with pytest.raises(ImgclfError, match=r"images.tsv: damaged; delete it and run 01_prepare_data again"):
        dataset.read("fruit")


@pytest.mark.parametrize(
    ("key", "value"),
    [("folder", 3), ("origins", []), ("origins", {"a": 1}), ("twins", [[1, 2]]), ("other_files", [None])],
)
def test_metadata_of_another_type_are_named_with_the_remedy(tmp_path, key, value):
    path = dataset.write(Dataset("fruit", tmp_path, ())).with_name("images.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ImgclfError, match=r"images.json: missing or damaged; run 01_prepare_data again"):
        dataset.read("fruit")


def test_images_folder_is_below_the_data_folder_unless_given(data_dir, tmp_path):
    assert dataset.images_folder("fruit") == data_dir / "images" / "fruit"
    assert dataset.images_folder("fruit", str(tmp_path)) == tmp_path
    assert dataset.images_folder("fruit", "~/fruit") == Path("~/fruit").expanduser()


def test_sample_is_evenly_spaced_in_each_label(colour_folder):
    chosen = sampling.sample(scan_fruit(colour_folder).images, per_label=3)
    assert [image.path for image in chosen][:4] == [
        "blue/00.jpg",
        "blue/04.jpg",
        "blue/08.jpg",
        "green/00.jpg",
    ]
    assert len(sampling.sample(scan_fruit(colour_folder).images, per_label=50)) == 36


def test_fingerprint_depends_on_contents_and_labels_and_not_on_names(tmp_path):
    one, moved, relabelled = (
        Image("a/1.jpg", "a", "0", "", 1, 1),
        Image("a/g/2.jpg", "a", "0", "", 1, 1, "g"),
        Image("b/1.jpg", "b", "0", "", 1, 1),
    )
    assert dataset.fingerprint([one]) == dataset.fingerprint([moved]) != dataset.fingerprint([relabelled])


def test_thumbnail_is_downscaled_and_keeps_its_aspect_ratio(tmp_path):
    put(tmp_path, "a/0.jpg", side=900)
    assert scan_fruit(tmp_path).thumbnail("a/0.jpg", side=100).shape == (100, 100, 3)
    assert scan_fruit(tmp_path).thumbnail("a/0.jpg", side=2000).dtype == np.uint8


def test_an_image_beside_the_label_folders_is_counted_and_not_scanned(tmp_path):
    put(tmp_path, "a/0.jpg")
    put(tmp_path, "1.jpg")
    found = scan_fruit(tmp_path)
    assert [image.path for image in found.files] == ["a/0.jpg"]
    assert found.other_files_note().startswith("not scanned: 1 x in no label folder; ")


def test_a_data_set_is_read_from_its_folder_and_refuses_another(tmp_path):
    put(tmp_path / "mine", "a/0.jpg")
    dataset.write(scan.scan_folder("fruit", tmp_path / "mine"))
    assert (
        dataset.read("fruit").folder
        == dataset.read("fruit", str(tmp_path / "mine")).folder
        == tmp_path / "mine"
    )
    with pytest.raises(
        ImgclfError,
        match=r"images_dir=.*other: fruit was scanned in .*mine; run 01_prepare_data again",
    ):
        dataset.read("fruit", str(tmp_path / "other"))


def test_a_data_set_in_the_data_folder_can_move_with_it(data_dir, tmp_path, monkeypatch):
    put(data_dir / "images" / "fruit", "a/0.jpg")
    dataset.write(scan.scan_folder("fruit", dataset.images_folder("fruit")))
    monkeypatch.setenv("IMGCLF_DATA", str(data_dir.rename(tmp_path / "moved")))
    assert dataset.read("fruit").file(dataset.read("fruit").images[0]).exists()


@pytest.mark.parametrize(("count", "chosen", "first"), [(2, 12, 6), (20, 60, 3), (200, 60, 1)])
def test_a_sample_of_many_labels_has_fewer_images_of_each(count, chosen, first):
    images = [Image(f"{k:03d}/{i}.jpg", f"{k:03d}", "", "", 1, 1) for k in range(count) for i in range(6)]
    found = [each.label for each in sampling.sample(images, per_label=6)]
    assert len(found) == chosen and found.count("000") == first


def test_copies_under_two_labels_are_named(tmp_path):
    for i in range(4):
        for label in ("hat", "dress", "shoe"):
            (tmp_path / label).mkdir(exist_ok=True)
            pixels = np.random.default_rng([i, len(label)]).integers(0, 256, (40, 40, 3), np.uint8)
            (tmp_path / label / f"{i}.jpg").write_bytes(decoding.jpeg(pixels))
    assert scan_fruit(tmp_path).disagreements() == ""
    for i in range(2):
        shutil.copy(tmp_path / "dress" / f"{i}.jpg", tmp_path / "hat" / f"copy{i}.jpg")
    shutil.copy(tmp_path / "shoe" / "0.jpg", tmp_path / "hat" / "shoe.jpg")
    sentence = "CAREFUL: the same images are under two labels, of which one is wrong: "
    assert scan_fruit(tmp_path).disagreements() == sentence + "2 in dress and in hat, 1 in hat and in shoe"
    assert sentence in scan_fruit(tmp_path).cautions()


def test_images_without_a_suffix_are_counted_in_a_label_folder_and_beside_it(tmp_path):
    put(tmp_path, "a/0.jpg")
    put(tmp_path, "b/1.jpg", seed=1)
    for name in ("a/IMG_0001", "IMG_0002"):
        shutil.copy(tmp_path / "b/1.jpg", tmp_path / name)
    for name in ("LICENSE", "a/LICENSE", ".hidden.jpg"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "c.jpg").mkdir()
    found = scan_fruit(tmp_path)
    assert found.other_files == ("IMG_0002", "a/LICENSE")
    assert [image.path for image in found.files] == ["a/0.jpg", "a/IMG_0001", "b/1.jpg"]
    assert scan.count_images(tmp_path) == 3
    assert found.other_files_note().endswith("; without a suffix, the content decides")


def test_a_scan_looks_for_the_layout_once(tmp_path, monkeypatch):
    put(tmp_path, "a/0.jpg")
    looked, find = [], layout.find
    monkeypatch.setattr(layout, "find", lambda folder: looked.append(folder) or find(folder))
    scan_fruit(tmp_path)
    assert looked == [tmp_path]


@pytest.mark.parametrize(
    ("before", "after"), [(b"a/0.jpg", b"a/\xed.jpg"), (b"\t\t", b"\t"), (b"\t\t", b"\t\t\t")]
)
def test_damaged_table_is_refused_by_the_next_scan(tmp_path, before, after):
    put(tmp_path, "a/0.jpg")
    table = dataset.write(scan_fruit(tmp_path))
    table.write_bytes(table.read_bytes().replace(before, after, 1))
    with pytest.raises(ImgclfError, match=r"images\.tsv: damaged; delete it and run 01_prepare_data again"):
        scan_fruit(tmp_path)

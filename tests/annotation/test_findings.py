import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from imgclf.annotation import findings
from imgclf.data import dataset, scan
from imgclf.data.dataset import Image
from imgclf.features import Features
from imgclf.images import decoding
from support.pictures import picture


def put(folder, path, seed, *, side=200, change=lambda pixels: pixels):
    """Write a JPEG of blotches that no other seed has."""
    pixels = cv2.resize(picture((120, 120, 120), seed), (side, side), interpolation=cv2.INTER_NEAREST)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(decoding.jpeg(change(pixels)))


@pytest.fixture
def folder(data_dir, tmp_path):
    """Two labels of 12 sharp, bright images without copies."""
    for i in range(24):
        put(tmp_path / "own", f"{'ab'[i % 2]}/{i:02d}.jpg", i)
    return tmp_path / "own"


def found(folder, features=None):
    """The findings about a folder, by kind."""
    return {f.kind: f for f in findings.find(scan.scan_folder("own", folder), features)}


def test_nothing_is_found_in_a_clean_data_set(folder):
    assert found(folder) == {}


def test_copies_under_different_labels_are_one_group_each(folder):
    shutil.copy(folder / "a" / "00.jpg", folder / "b" / "copy.jpg")
    put(folder, "b/small.jpg", 2, side=120)
    (finding,) = found(folder).values()
    assert finding.kind == "several labels for one picture" and finding.text.startswith(
        "2 pictures are there"
    )
    assert finding.groups == (("a/00.jpg", "b/copy.jpg"), ("a/02.jpg", "b/small.jpg"))
    assert finding.images == ("a/00.jpg", "b/copy.jpg", "a/02.jpg", "b/small.jpg")


def test_near_duplicates_of_one_label_are_grouped_the_largest_group_first(folder):
    for side in (120, 140):
        put(folder, f"b/three {side}.jpg", 3, side=side)
    put(folder, "a/two.jpg", 0, side=120)
    (finding,) = found(folder).values()
    assert finding.kind == "near-duplicates"
    assert finding.groups == (("b/03.jpg", "b/three 120.jpg", "b/three 140.jpg"), ("a/00.jpg", "a/two.jpg"))


def test_images_of_40_pixels_are_too_small(folder):
    put(folder, "a/tiny.jpg", 100, side=40)
    put(folder, "a/small.jpg", 101, side=99)
    put(folder, "a/enough.jpg", 102, side=100)
    assert found(folder)["too small"].images == ("a/tiny.jpg", "a/small.jpg")


def darkened(pixels):
    return (pixels * 0.3).astype(np.uint8)


def brightened(pixels):
    return (210 + pixels * 0.18).astype(np.uint8)


def paled(pixels):
    return (110 + pixels * 0.1).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("too dark", darkened),
        ("too bright", brightened),
        ("low contrast", paled),
        ("blurred", lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 3)),
        ("blurred", lambda pixels: cv2.GaussianBlur(darkened(pixels) * 2 + 60, (0, 0), 3)),
    ],
    ids=["dark", "bright", "pale", "blurred", "blurred and hazy"],
)
def test_a_picture_that_shows_little_is_found_with_or_without_a_label(folder, kind, change):
    put(folder, "a/bad.jpg", 100, change=change)
    put(folder, "unlabelled/bad.jpg", 101, change=change)
    (finding,) = found(folder).values()
    assert finding.kind == kind and set(finding.images) == {"a/bad.jpg", "unlabelled/bad.jpg"}


def test_the_most_blurred_image_comes_first_also_when_the_scan_is_read_from_disk(folder):
    for sigma in (2, 3):
        put(
            folder,
            f"a/{sigma}.jpg",
            100 + sigma,
            change=lambda pixels, s=sigma: cv2.GaussianBlur(pixels, (0, 0), s),
        )
    dataset.write(scan.scan_folder("own", folder))
    (finding,) = findings.find(dataset.read("own", str(folder)))
    assert finding.images == ("a/3.jpg", "a/2.jpg")


def test_a_small_object_on_white_and_a_picture_of_an_old_scan_are_not_blurred(folder):
    white = np.full((200, 200, 3), 255, np.uint8)
    put(folder, "a/object.jpg", 0, change=lambda _: cv2.circle(white, (100, 100), 20, (40, 40, 40), -1))
    assert found(folder) == {}
    scanned = scan.scan_folder("own", folder)
    old = tuple(Image(i.path, i.label, i.sha256, i.dhash, i.width, i.height) for i in scanned.files)
    assert findings.find(replace(scanned, files=old)) == []


def test_what_most_images_have_is_said_to_be_usual(folder):
    for path in sorted(folder.rglob("*.jpg")):
        path.write_bytes(decoding.jpeg(darkened(decoding.read(path))))
    (finding,) = found(folder).values()
    assert finding.text.startswith("24 images almost black") and "if those to be predicted" in finding.text


def test_labels_with_fewer_than_ten_images_are_listed_with_their_images(folder):
    put(folder, "none_of_these/0.jpg", 300)
    for i in range(3):
        put(folder, f"rare/{i}.jpg", 200 + i)
    (finding,) = found(folder).values()
    assert finding.kind == "too few images" and "rare (3) has fewer than 10 images" in finding.text
    assert finding.images == ("rare/0.jpg", "rare/1.jpg", "rare/2.jpg")


def described(folder, *, seed=0):
    """Features in which the images of a label point in one direction, and the data set."""
    scanned, random = scan.scan_folder("own", folder), np.random.default_rng(seed)
    direction = {"a": np.eye(8)[0], "b": np.eye(8)[1]}
    images = scanned.images + scanned.unlabelled
    matrix = np.stack([direction[image.label] + random.normal(0, 0.1, 8) for image in images])
    return scanned, Features(matrix.astype(np.float32), images)


def test_an_image_far_from_all_others_is_an_outlier_and_one_among_another_label_is_mislabelled(folder):
    for i in range(24, 60):
        put(folder, f"{'ab'[i % 2]}/{i:02d}.jpg", i)
    scanned, features = described(folder)
    features.matrix[0] = np.eye(8)[5]
    features.matrix[7] = features.matrix[-1]
    kinds = {f.kind: f.images for f in findings.find(scanned, features)}
    assert kinds["outliers"][0] == features.images[0].path
    assert kinds["label disagrees with neighbours"][0] == features.images[7].path


@pytest.mark.parametrize("most", [1000, 100])
def test_neighbours_are_the_nearest_of_those_that_are_compared(most, monkeypatch):
    monkeypatch.setattr(findings, "MOST_COMPARED", most)
    monkeypatch.setattr(findings, "CHUNK", 70)
    matrix = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    matrix[9] = matrix[12]  # the same features: neither is its own neighbour
    distances, indices = findings._nearest(matrix)
    vectors = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(expected, np.inf)
    expected[:, [i for i in range(300) if i % -(-300 // most)]] = np.inf
    np.testing.assert_allclose(distances, np.sort(expected)[:, : findings.NEIGHBOURS], atol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, 1), distances, atol=1e-3)


def test_an_outlier_is_found_among_many_images_too(folder, monkeypatch):
    for i in range(24, 60):
        put(folder, f"{'ab'[i % 2]}/{i:02d}.jpg", i)
    scanned, features = described(folder)
    features.matrix[1] = np.eye(8)[5]
    monkeypatch.setattr(findings, "MOST_COMPARED", 40)
    kinds = {f.kind: f.images for f in findings.find(scanned, features)}
    assert kinds["outliers"][0] == features.images[1].path

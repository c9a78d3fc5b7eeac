"""The demo set: its entries, and that its images are identical to the bit everywhere."""

import os
import subprocess
import sys
from collections import Counter
from hashlib import sha256

import cv2
import numpy as np
import pytest

from imgclf.collect import demo
from imgclf.collect.demo.catalogue import ODD_ENTRIES
from support.project import ROOT

MANIFEST = ROOT / "data_manifest" / "fashion_texture.tsv"
SAMPLE = ["demo:dotted/007", "demo:leopard/050", "demo:striped/191"]


@pytest.fixture(scope="module")
def listed() -> dict[str, tuple[str, str]]:
    """Label and sha256 of each source in the manifest."""
    lines = MANIFEST.read_bytes().decode().removesuffix("\n").split("\n")
    assert lines[0] == "label\tsource\tsha256\tfile_name"
    return {source: (label, digest) for label, source, digest, _ in (line.split("\t") for line in lines[1:])}


def test_file_names_are_unique_over_all_labels():
    names = [line.split("\t")[3] for line in MANIFEST.read_text().splitlines()[1:]]
    assert len(set(names)) == len(names) > 400


@pytest.fixture(scope="module")
def sample() -> dict[str, list[np.ndarray]]:
    """Twelve images of each label."""
    images = {}
    for label in ("dotted", "leopard", "striped"):
        bodies = [demo.response(f"demo:{label}/{number:03d}").body for number in range(1, 13)]
        images[label] = [decoded(body) for body in bodies]
    return images


def decoded(body: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)


def digest_of(source: str) -> str:
    return sha256(demo.response(source).body).hexdigest()


def odd(state: str) -> list[str]:
    return [entry.source for entry in ODD_ENTRIES if entry.state == state]


def test_manifest_lists_all_sources_in_order(listed):
    assert demo.sources() == [(label, source) for source, (label, _) in listed.items()]


def test_garments_are_as_many_as_in_the_tutorial():
    intact = [label for label, source in demo.sources() if source.split("/")[1].isdigit()]
    assert Counter(intact) == {"dotted": 125, "leopard": 112, "striped": 191}


@pytest.mark.parametrize("source", SAMPLE)
def test_an_image_has_the_sha256_of_the_manifest(source, listed):
    response = demo.response(source)
    assert (response.status, response.content_type) == (200, "image/jpeg")
    assert sha256(response.body).hexdigest() == listed[source][1]


def test_the_mask_of_a_garment_leaves_out_the_figure_and_what_is_in_front():
    source = "demo:dotted/007"  # a person in a vest, with a bag in front of its right side
    mask, image = demo.garment_mask(source), decoded(demo.response(source).body)
    assert mask.shape == image.shape[:2] and mask.dtype == np.float32
    height, width = mask.shape
    places = {
        "vest": (0.6, 0.42),
        "bag": (0.8, 0.65),
        "face": (0.05, 0.5),
        "arm": (0.5, 0.2),
        "wall": (0.1, 0.1),
    }
    covered = {name: mask[int(y * height), int(x * width)] for name, (y, x) in places.items()}
    assert covered == {"vest": 1, "bag": 0, "face": 0, "arm": 0, "wall": 0}
    assert 0.2 < mask.mean() < 0.22


def test_each_listed_image_has_a_mask_of_its_size(sample):
    for label, images in sample.items():
        for number, image in enumerate(images[:3], start=1):
            mask = demo.garment_mask(f"demo:{label}/{number:03d}")
            assert mask.shape == image.shape[:2] and mask.min() >= 0 and 0.02 < mask.mean() < 1


def test_sides_are_400_to_1000_pixels(sample):
    sides = [side for images in sample.values() for image in images for side in image.shape[:2]]
    assert min(sides) >= 400 and max(sides) <= 1000


def test_unknown_and_missing_sources_have_status_404():
    sources = ["demo:dotted/999", "demo:plaid/001", "", *odd("missing")]
    assert [demo.response(source).status for source in sources] == [404] * 5


def test_a_removed_image_returns_a_web_page():
    (source,) = odd("removed")
    response = demo.response(source)
    assert (response.status, response.content_type) == (200, "text/html")
    assert response.body.startswith(b"<!DOCTYPE html>")


def test_a_truncated_jpeg_has_no_end_marker(listed):
    (source,) = odd("truncated")
    body = demo.response(source).body
    assert body.startswith(b"\xff\xd8") and not body.endswith(b"\xff\xd9")
    assert sha256(body).hexdigest() != listed[source][1]


def test_a_replaced_image_is_complete_but_has_another_sha256(listed):
    (source,) = odd("replaced")
    response = demo.response(source)
    assert response.status == 200 and response.body.endswith(b"\xff\xd9")
    assert sha256(response.body).hexdigest() != listed[source][1]


def test_duplicates_have_the_sha256_of_their_original(listed):
    duplicates = [entry for entry in ODD_ENTRIES if entry.state == "duplicate"]
    assert len(duplicates) == 2
    for duplicate in duplicates:
        assert listed[duplicate.source] == listed[duplicate.original]


def test_near_duplicates_differ_in_bytes_but_little_in_pixels():
    for entry in [entry for entry in ODD_ENTRIES if entry.state in ("downsized", "recompressed")]:
        near, original = demo.response(entry.source).body, demo.response(entry.original).body
        assert near != original
        small = [
            cv2.resize(decoded(body), (32, 32), interpolation=cv2.INTER_AREA).astype(int)
            for body in (near, original)
        ]
        assert abs(small[0] - small[1]).mean() < 4


def test_images_do_not_depend_on_the_vector_unit(listed):
    code = (
        "import sys, hashlib; from imgclf.collect import demo\n"
        "for source in sys.argv[1:]: print(hashlib.sha256(demo.response(source).body).hexdigest())"
    )
    plain = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,AVX",
        "OPENCV_IPP": "disabled",
        "JSIMD_FORCENONE": "1",
        "OMP_NUM_THREADS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *SAMPLE],
        env=os.environ | plain,
        capture_output=True,
        text=True,
    )
    assert result.stdout.split() == [listed[source][1] for source in SAMPLE], result.stderr


def test_mean_colour_does_not_predict_the_label(sample):
    means = {
        label: np.array([image.mean(axis=(0, 1)) for image in images]) for label, images in sample.items()
    }
    centres = np.array([colours[::2].mean(axis=0) for colours in means.values()])
    guesses = [abs(colours[1::2, None] - centres).sum(axis=2).argmin(axis=1) for colours in means.values()]
    right = [guess == number for number, guess in enumerate(guesses)]
    assert np.mean(right) < 0.65

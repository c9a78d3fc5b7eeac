"""The demo set: what it holds, and that its pictures come out the same everywhere."""

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


def test_no_two_names_are_alike_so_that_every_image_can_be_relabelled():
    names = [line.split("\t")[3] for line in MANIFEST.read_text().splitlines()[1:]]
    assert len(set(names)) == len(names) > 400


@pytest.fixture(scope="module")
def sample() -> dict[str, list[np.ndarray]]:
    """Twelve pictures of each label."""
    pictures = {}
    for label in ("dotted", "leopard", "striped"):
        bodies = [demo.answer(f"demo:{label}/{number:03d}").body for number in range(1, 13)]
        pictures[label] = [decoded(body) for body in bodies]
    return pictures


def decoded(body: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)


def digest_of(source: str) -> str:
    return sha256(demo.answer(source).body).hexdigest()


def broken(fate: str) -> list[str]:
    return [entry.source for entry in ODD_ENTRIES if entry.fate == fate]


def test_manifest_lists_all_sources_in_order(listed):
    assert demo.sources() == [(label, source) for source, (label, _) in listed.items()]


def test_garments_are_as_many_as_in_the_tutorial():
    whole = [label for label, source in demo.sources() if source.split("/")[1].isdigit()]
    assert Counter(whole) == {"dotted": 125, "leopard": 112, "striped": 191}


@pytest.mark.parametrize("source", SAMPLE)
def test_a_picture_has_the_hash_that_the_manifest_lists(source, listed):
    answer = demo.answer(source)
    assert (answer.status, answer.content_type) == (200, "image/jpeg")
    assert sha256(answer.body).hexdigest() == listed[source][1]


def test_sides_are_400_to_1000_pixels(sample):
    sides = [side for images in sample.values() for image in images for side in image.shape[:2]]
    assert min(sides) >= 400 and max(sides) <= 1000


def test_unknown_and_gone_sources_are_not_found():
    sources = ["demo:dotted/999", "demo:plaid/001", "", *broken("gone")]
    assert [demo.answer(source).status for source in sources] == [404] * 5


def test_a_removed_photo_answers_with_a_page():
    (source,) = broken("page")
    answer = demo.answer(source)
    assert (answer.status, answer.content_type) == (200, "text/html")
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_a_cut_jpeg_has_no_end(listed):
    (source,) = broken("cut")
    body = demo.answer(source).body
    assert body.startswith(b"\xff\xd8") and not body.endswith(b"\xff\xd9")
    assert sha256(body).hexdigest() != listed[source][1]


def test_a_replaced_picture_is_whole_but_differs_from_the_list(listed):
    (source,) = broken("replaced")
    answer = demo.answer(source)
    assert answer.status == 200 and answer.body.endswith(b"\xff\xd9")
    assert sha256(answer.body).hexdigest() != listed[source][1]


def test_copies_have_the_hash_of_their_original(listed):
    copies = [entry for entry in ODD_ENTRIES if entry.fate == "copied"]
    assert len(copies) == 2
    for copy in copies:
        assert listed[copy.source] == listed[copy.original]


def test_near_copies_differ_in_bytes_but_look_alike():
    for entry in [entry for entry in ODD_ENTRIES if entry.fate in ("downsized", "recompressed")]:
        near, original = demo.answer(entry.source).body, demo.answer(entry.original).body
        assert near != original
        small = [
            cv2.resize(decoded(body), (32, 32), interpolation=cv2.INTER_AREA).astype(int)
            for body in (near, original)
        ]
        assert abs(small[0] - small[1]).mean() < 4


def test_hashes_do_not_depend_on_the_vector_unit(listed):
    code = (
        "import sys, hashlib; from imgclf.collect import demo\n"
        "for source in sys.argv[1:]: print(hashlib.sha256(demo.answer(source).body).hexdigest())"
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


def test_mean_colour_does_not_tell_the_label(sample):
    means = {
        label: np.array([image.mean(axis=(0, 1)) for image in images]) for label, images in sample.items()
    }
    centres = np.array([colours[::2].mean(axis=0) for colours in means.values()])
    guesses = [abs(colours[1::2, None] - centres).sum(axis=2).argmin(axis=1) for colours in means.values()]
    right = [guess == number for number, guess in enumerate(guesses)]
    assert np.mean(right) < 0.65

"""Loading image files: in order, ahead in threads, and what cannot be read is returned with its reason."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.images import decoding, loading
from imgclf.images.loading import Skipped, Source
from imgclf.images.preprocessing import Preprocessing
from support.pictures import COLOURS, picture

SIZE = Preprocessing(16)


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """More JPEGs than are decoded ahead."""
    paths = [tmp_path / f"{i:03d}.jpg" for i in range(2 * loading.PREFETCH + 3)]
    for i, path in enumerate(paths):
        path.write_bytes(decoding.jpeg(picture(COLOURS["red"], seed=i)))
    return paths


def test_images_come_in_order(many):
    expected = [SIZE.apply(path.read_bytes()) for path in many]
    np.testing.assert_array_equal(np.stack(list(loading.load(map(Source, many), SIZE))), np.stack(expected))


def test_an_unreadable_image_is_returned_in_its_place_with_its_reason(many):
    many[5].write_bytes(b"no image")
    many[60].unlink()
    loaded = list(loading.load(map(Source, many), SIZE))
    skipped = {i: image for i, image in enumerate(loaded) if isinstance(image, Skipped)}
    assert list(skipped) == [5, 60] and len(loaded) == len(many)
    assert "not an image" in skipped[5].reason and skipped[5].path == str(many[5])
    assert loading.skipped_note(list(skipped.values())).startswith("2 images could not be read; 005.jpg: ")


def test_files_are_opened_only_a_little_ahead(many):
    opened = []

    def watched():
        for path in many:
            opened.append(path)
            yield Source(path)

    next(loading.load(watched(), SIZE))
    assert len(opened) == loading.PREFETCH + 1


def test_all_images_at_once_or_the_first_reason(many, tmp_path):
    assert loading.load_all(many[:3], SIZE).shape == (3, 16, 16, 3)
    with pytest.raises(
        ImgclfError, match="none of the 1 images could be read; the first: .*gone.jpg: No such file"
    ):
        loading.load_all([tmp_path / "gone.jpg"], SIZE)
    with pytest.raises(ImgclfError, match="no images were given"):
        loading.load_all([], SIZE)


def test_to_stop_early_waits_for_no_image():
    ends, begun = threading.Event(), []

    def slow(number: int) -> int:
        begun.append(number)
        if number:
            ends.wait(60)
        return number

    images = loading.in_parallel(slow, range(100))
    assert next(images) == 0
    began = time.monotonic()
    images.close()
    assert time.monotonic() - began < 20
    ends.set()
    assert len(begun) < 40


def test_files_that_are_still_there_are_returned_and_without_any_the_remedy_is_named(many):
    many[0].unlink()
    assert loading.existing(many) == many[1:]
    with pytest.raises(ImgclfError, match="none of the 1 images is there any more; restore them, or run 01_"):
        loading.existing(many[:1])

"""Thumbnails are made in the background, the latest request first, and the cache stays within its size."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing

import numpy as np
import pytest
from PIL import Image as PillowImage

from imgclf.images import decoding, thumbnails
from imgclf.images.thumbnails import Thumbnails
from support.pictures import corners, encoded, picture, rotated


@pytest.fixture
def pairs(colour_folder):
    """36 images: (key, path), in the order of their paths."""
    return [
        (f"key of {path.stem} {path.parent.name}", path.relative_to(colour_folder).as_posix())
        for path in sorted(colour_folder.glob("*/*.jpg"))
    ]


@pytest.fixture
def thumbs(colour_folder):
    with closing(Thumbnails(colour_folder, 32)) as thumbs:
        yield thumbs


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "imgclf-thumbnails"]


def is_idle(thumbs, seconds=10.0):
    """Whether nothing is left to do, after waiting for it."""
    end = time.monotonic() + seconds
    while (thumbs._queue or thumbs._in_progress) and time.monotonic() < end:
        time.sleep(0.005)
    return not thumbs._queue and not thumbs._in_progress


def test_thumbnails_have_at_most_the_requested_side_and_keep_their_aspect_ratio(thumbs, pairs):
    found = thumbs.ready(pairs, seconds=20)
    assert list(found) == [key for key, _ in pairs]
    assert {decoding.decode(encoded).shape for encoded in found.values()} == {(24, 32, 3)}


AS_TRAINED = {
    "12 bits in 16": lambda: encoded(corners()[:, :, 0].astype(np.uint16) * 16, "PNG"),
    "floating point below 0": lambda: encoded(corners()[:, :, 0].astype(np.float32) - 100, "TIFF"),
    "transparent": lambda: encoded(PillowImage.fromarray(corners()).convert("RGBA"), "WEBP", lossless=True),
    "CMYK": lambda: encoded(PillowImage.fromarray(corners()).convert("CMYK"), "JPEG"),
    "rotated": lambda: rotated(6, "JPEG", corners()),
    "HEIC": lambda: encoded(corners(), "HEIF", quality=95),
}


@pytest.mark.parametrize("kind", AS_TRAINED)
def test_thumbnail_shows_the_pixels_that_training_reads_as_a_jpeg(tmp_path, kind):
    if kind == "HEIC":
        pytest.importorskip("pillow_heif").register_heif_opener()
    (tmp_path / "image").write_bytes(AS_TRAINED[kind]())
    trained = decoding.shrink(decoding.read(tmp_path / "image", side=96), 96)
    with closing(Thumbnails(tmp_path, 96)) as thumbs:
        (shown,) = thumbs.ready([("key", "image")], seconds=20).values()
    assert decoding.header(shown).format is decoding.JPEG
    difference = decoding.decode(shown).astype(int)[8::16, 8::16] - trained[8::16, 8::16]
    assert np.abs(difference).max() <= 12


def test_thumbnail_of_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with closing(Thumbnails(tmp_path, 48)) as thumbs:
        assert thumbs.ready([("key", "pipe.jpg")], seconds=20) == {"key": b""}


def test_prepared_thumbnails_are_ready_without_a_wait(thumbs, pairs):
    thumbs.prepare(pairs)
    assert is_idle(thumbs)
    assert len(thumbs.ready(pairs, seconds=0)) == 36


def test_ready_without_a_wait_returns_what_is_cached_and_enqueues_the_rest(thumbs, pairs):
    assert thumbs.ready(pairs[:1], seconds=20)
    assert next(iter(thumbs.ready(pairs[:9], seconds=0))) == pairs[0][0]
    assert is_idle(thumbs)
    assert len(thumbs.ready(pairs[:9], seconds=0)) == 9


def test_a_thumbnail_stays_cached_when_its_image_is_relabelled(thumbs, pairs, colour_folder):
    key, path = pairs[0]
    before = thumbs.ready([(key, path)], seconds=20)
    (colour_folder / path).rename(colour_folder / "red" / "moved.jpg")
    assert thumbs.ready([(key, "red/moved.jpg")], seconds=0) == before


def test_a_file_that_cannot_be_decoded_is_cached_as_no_bytes(thumbs, colour_folder):
    (colour_folder / "red" / "broken one.jpg").write_bytes(b"not an image")
    assert thumbs.ready([("broken", "red/broken one.jpg")], seconds=20) == {"broken": b""}
    assert thumbs.ready([("broken", "red/broken one.jpg")], seconds=0) == {"broken": b""}


def test_a_missing_file_is_tried_again_under_another_path(thumbs, pairs, colour_folder):
    key, path = pairs[0]
    (colour_folder / path).rename(colour_folder / "green" / "moved.jpg")
    assert thumbs.ready([(key, path)], seconds=20) == {key: b""}
    assert decoding.decode(thumbs.ready([(key, "green/moved.jpg")], seconds=20)[key]).shape == (24, 32, 3)


def test_an_image_that_moves_while_its_old_path_is_read_still_gets_a_thumbnail(colour_folder, pairs):
    (key, path), other = pairs[0], pairs[1][1]
    thumbs = Thumbnails(colour_folder, 32)
    thumbs._in_progress[key] = "red/was here.jpg"  # a thread is reading it
    thumbs._queue[key] = path
    thumbs._store(key, "red/was here.jpg", None)
    assert key not in thumbs._cache
    with closing(thumbs):
        assert thumbs.ready([(key, other)], seconds=20)[key]


def test_the_latest_request_comes_first_and_stale_ones_are_dropped(colour_folder, pairs):
    thumbs = Thumbnails(colour_folder, 32, most=12)
    with closing(thumbs), thumbs._changed:  # no thread can take from the queue meanwhile
        for start in range(0, 36, 4):
            thumbs.prepare(pairs[start : start + 4])
        assert list(thumbs._queue) == [key for key, _ in [*pairs[32:36], *pairs[28:30]]]


def test_a_repeated_request_moves_to_the_front_with_its_new_path(colour_folder, pairs):
    thumbs = Thumbnails(colour_folder, 32)
    with closing(thumbs), thumbs._changed:
        thumbs.prepare(pairs[:3])
        thumbs.prepare([(pairs[2][0], "elsewhere.jpg")])
        assert list(thumbs._queue.items()) == [(pairs[2][0], "elsewhere.jpg"), *pairs[:2]]


def test_the_least_recently_used_thumbnails_are_dropped(colour_folder, pairs):
    with closing(Thumbnails(colour_folder, 32, most=10)) as thumbs:
        for start in range(0, 36, 4):
            assert len(thumbs.ready([pairs[0], *pairs[start : start + 4]], seconds=20)) >= 4
        assert len(thumbs._cache) == 10
        assert pairs[0][0] in thumbs._cache  # used all the time
        assert pairs[4][0] not in thumbs._cache


def test_closing_ends_the_threads_and_starts_no_new_ones(colour_folder, pairs):
    others = set(workers())  # of earlier tests, which end by themselves
    thumbs = Thumbnails(colour_folder, 32)
    thumbs.ready(pairs[:2], seconds=20)
    assert set(workers()) - others
    thumbs.close()
    assert not set(workers()) - others
    assert thumbs.ready(pairs, seconds=20).keys() == {key for key, _ in pairs[:2]}
    assert not set(workers()) - others


def test_idle_threads_end_and_hold_no_reference(colour_folder, pairs, monkeypatch):
    monkeypatch.setattr(thumbnails, "IDLE_SECONDS", 0.05)
    thumbs = Thumbnails(colour_folder, 32)
    thumbs.ready(pairs[:4], seconds=20)
    for thread in set(workers()):
        thread.join(11)
    assert thumbs.ready(pairs[4:8], seconds=20)  # new ones begin
    for thread in workers():
        thread.join(10)
    alive = weakref.ref(thumbs)
    del thumbs
    gc.collect()
    assert alive() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_error_shows_as_a_broken_image_and_stops_no_other(thumbs, pairs, colour_folder):
    thumbs.ready(pairs[:1], seconds=20)
    bad = [(f"bad {i}", object()) for i in range(6)]  # paths of a wrong type: an error in our code
    found = {}
    for _ in range(100):
        found |= thumbs.ready([*bad, *pairs], seconds=0.1)
    assert {found[key] for key, _ in bad} == {b""}
    assert all(found[key] for key, _ in pairs)


def test_threads_neither_start_on_import_nor_keep_the_process_alive(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.jpg").write_bytes(decoding.jpeg(picture((200, 40, 40), i, width=1600, height=1200)))
    code = (
        "import sys, threading; from pathlib import Path; from imgclf.images.thumbnails import Thumbnails; before = threading.active_count()\n"
        "Thumbnails(Path(sys.argv[1]), 100).prepare([(str(i), f'{i}.jpg') for i in range(40)]); print(before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("1\n", "")

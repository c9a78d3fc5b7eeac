"""Thumbnails are made in the background, the newest wish first, and memory stays flat."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing

import pytest

from imgclf.images import decoding, thumbnails
from imgclf.images.thumbnails import Thumbnails
from support.pictures import picture


@pytest.fixture
def pairs(colour_folder):
    """36 images: (key, path), in the order of their paths."""
    return [
        (f"key of {path.stem} {path.parent.name}", path.relative_to(colour_folder).as_posix())
        for path in sorted(colour_folder.glob("*/*.jpg"))
    ]


@pytest.fixture
def thumbs(colour_folder):
    with closing(Thumbnails(colour_folder, 32)) as made:
        yield made


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "imgclf-thumbnails"]


def is_idle(thumbs, seconds=10.0):
    """Whether nothing is left to do, after waiting for it."""
    end = time.monotonic() + seconds
    while (thumbs._waiting or thumbs._doing) and time.monotonic() < end:
        time.sleep(0.005)
    return not thumbs._waiting and not thumbs._doing


def test_pictures_have_at_most_the_side_asked_for_and_keep_their_shape(thumbs, pairs):
    found = thumbs.ready(pairs, seconds=20)
    assert list(found) == [key for key, _ in pairs]
    assert {decoding.decode(encoded).shape for encoded in found.values()} == {(24, 32, 3)}


def test_what_was_prepared_is_there_without_waiting(thumbs, pairs):
    thumbs.prepare(pairs)
    assert is_idle(thumbs)
    assert len(thumbs.ready(pairs, seconds=0)) == 36


def test_without_waiting_only_what_is_there_is_given_and_the_rest_is_begun(thumbs, pairs):
    assert thumbs.ready(pairs[:1], seconds=20)
    assert list(thumbs.ready(pairs[:9], seconds=0))[0] == pairs[0][0]
    assert is_idle(thumbs)
    assert len(thumbs.ready(pairs[:9], seconds=0)) == 9


def test_a_picture_survives_that_its_image_is_relabelled(thumbs, pairs, colour_folder):
    key, path = pairs[0]
    before = thumbs.ready([(key, path)], seconds=20)
    (colour_folder / path).rename(colour_folder / "red" / "moved.jpg")
    assert thumbs.ready([(key, "red/moved.jpg")], seconds=0) == before


def test_a_file_that_cannot_be_decoded_gives_no_bytes_and_is_not_tried_again(thumbs, colour_folder):
    (colour_folder / "red" / "broken one.jpg").write_bytes(b"not an image")
    assert thumbs.ready([("broken", "red/broken one.jpg")], seconds=20) == {"broken": b""}
    assert thumbs.ready([("broken", "red/broken one.jpg")], seconds=0) == {"broken": b""}


def test_a_file_that_was_gone_is_found_again_under_another_path(thumbs, pairs, colour_folder):
    key, path = pairs[0]
    (colour_folder / path).rename(colour_folder / "green" / "moved.jpg")
    assert thumbs.ready([(key, path)], seconds=20) == {key: b""}
    assert decoding.decode(thumbs.ready([(key, "green/moved.jpg")], seconds=20)[key]).shape == (24, 32, 3)


def test_an_image_that_moves_while_its_old_path_is_tried_is_still_shown(colour_folder, pairs):
    (key, path), other = pairs[0], pairs[1][1]
    thumbs = Thumbnails(colour_folder, 32)
    thumbs._doing[key] = "red/was here.jpg"  # a thread is at it
    thumbs._waiting[key] = path
    thumbs._keep(key, "red/was here.jpg", None)
    assert key not in thumbs._made
    with closing(thumbs):
        assert thumbs.ready([(key, other)], seconds=20)[key]


def test_the_newest_wish_comes_first_and_stale_ones_are_given_up(colour_folder, pairs):
    thumbs = Thumbnails(colour_folder, 32, most=12)
    with closing(thumbs), thumbs._changed:  # nobody can take from the line meanwhile
        for start in range(0, 36, 4):
            thumbs.prepare(pairs[start : start + 4])
        assert list(thumbs._waiting) == [key for key, _ in [*pairs[32:36], *pairs[28:30]]]


def test_a_wish_that_is_repeated_moves_to_the_front_with_its_new_path(colour_folder, pairs):
    thumbs = Thumbnails(colour_folder, 32)
    with closing(thumbs), thumbs._changed:
        thumbs.prepare(pairs[:3])
        thumbs.prepare([(pairs[2][0], "elsewhere.jpg")])
        assert list(thumbs._waiting.items()) == [(pairs[2][0], "elsewhere.jpg"), *pairs[:2]]


def test_only_the_latest_pictures_are_kept(colour_folder, pairs):
    with closing(Thumbnails(colour_folder, 32, most=10)) as thumbs:
        for start in range(0, 36, 4):
            assert len(thumbs.ready([pairs[0], *pairs[start : start + 4]], seconds=20)) >= 4
        assert len(thumbs._made) == 10
        assert pairs[0][0] in thumbs._made  # used all the time
        assert pairs[4][0] not in thumbs._made


def test_closing_ends_the_threads_and_nothing_is_made_afterwards(colour_folder, pairs):
    others = set(workers())  # of earlier tests, which end by themselves
    thumbs = Thumbnails(colour_folder, 32)
    thumbs.ready(pairs[:2], seconds=20)
    assert set(workers()) - others
    thumbs.close()
    assert not set(workers()) - others
    assert thumbs.ready(pairs, seconds=20).keys() == {key for key, _ in pairs[:2]}
    assert not set(workers()) - others


def test_threads_that_nobody_needs_end_and_leave_nothing_in_memory(colour_folder, pairs, monkeypatch):
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
def test_a_defect_shows_as_a_broken_image_and_stops_nothing(thumbs, pairs, colour_folder):
    thumbs.ready(pairs[:1], seconds=20)
    bad = [
        (f"bad {i}", object()) for i in range(6)
    ]  # paths of a wrong type: nothing that a person could mend
    found = {}
    for _ in range(100):
        found |= thumbs.ready([*bad, *pairs], seconds=0.1)
    assert {found[key] for key, _ in bad} == {b""}
    assert all(found[key] for key, _ in pairs)


def test_threads_neither_begin_at_import_nor_keep_the_process_alive(tmp_path):
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

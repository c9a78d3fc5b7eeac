import numpy as np
import pytest

from imgclf.collect import demo
from imgclf.images import alignment, decoding
from support.alterations import ALTERATIONS, altered
from support.scenes import garment, page, texture

GARMENTS = 10


@pytest.fixture(scope="module")
def garments():
    """Different rendered garments of the demo set."""
    intact = (
        response.body
        for _, source in demo.sources()
        if (response := demo.response(source)).status == 200 and response.body.endswith(b"\xff\xd9")
    )
    return [decoding.decode(body) for body, _ in zip(intact, range(GARMENTS), strict=False)]


def is_copy(one, other):
    pictures = [alignment.grey(pixels) for pixels in (one, other)]
    transform = alignment.alignment(*map(alignment.keypoints, pictures))
    return transform is not None and alignment.is_copy(*pictures, transform)


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_garments_are_copies(name, garments):
    found = [is_copy(pixels, decoding.decode(altered(name, pixels))) for pixels in garments]
    assert sum(found) >= GARMENTS - 1


@pytest.mark.parametrize(
    ("name", "quality"),
    [("saved again, quality 90", 10), ("mirrored, cropped by 10 %", 50), ("text across", 50)],
)
def test_copies_of_low_quality_are_found_in_the_other_direction_too(name, quality, garments):
    copies = [decoding.decode(altered(name, pixels, quality=quality)) for pixels in garments]
    assert sum(is_copy(copy, pixels) for copy, pixels in zip(copies, garments, strict=True)) >= GARMENTS - 1


def test_a_mirrored_keypoint_has_the_descriptor_of_the_mirrored_picture():
    picture = alignment.grey(texture(0))
    one, mirrored = (alignment.keypoints(np.ascontiguousarray(p)) for p in (picture, picture[:, ::-1]))
    there = one["points"].copy()
    there[:, 0] = picture.shape[1] - 1 - there[:, 0]
    distance = np.linalg.norm(there[:, None] - mirrored["points"][None], axis=2)
    same = np.flatnonzero(distance.min(axis=1) < 0.1)
    difference = (
        one["descriptors"][same][:, alignment.MIRRORED].astype(int)
        - mirrored["descriptors"][distance.argmin(axis=1)[same]]
    )
    assert len(same) > 40 and np.median(np.abs(difference).mean(axis=1)) < 5


def test_different_garments_are_no_copies(garments):
    assert not any(is_copy(garments[i], garments[j]) for i in range(GARMENTS) for j in range(i))


@pytest.mark.parametrize("picture", [garment, page], ids=["one backdrop", "one letterhead"])
def test_different_things_in_one_setting_are_no_copies(picture):
    pictures = [picture(seed) for seed in range(8)]
    assert not any(is_copy(pictures[i], pictures[j]) for i in range(8) for j in range(i))
    assert is_copy(pictures[0], decoding.decode(altered("mirrored, cropped by 10 %", pictures[0])))


def test_a_picture_without_keypoints_has_no_alignment():
    plain = alignment.keypoints(alignment.grey(np.full((90, 60, 3), 200, np.uint8)))
    assert plain["count"] == 0 and alignment.alignment(plain, plain) is None


def test_pictures_that_overlap_by_a_strip_are_no_copies():
    whole = alignment.grey(texture(3, height=400, width=400))
    moved = np.array([[1.0, 0, 80], [0, 1, 0]])
    assert alignment.agreement(whole, whole, np.eye(2, 3)) == 1
    assert alignment.agreement(whole, np.roll(whole, -80, axis=1), moved) == 0

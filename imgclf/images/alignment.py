"""Altered copies: keypoints align two pictures, and local correlation then decides whether they agree."""

import math

import cv2
import numpy as np

from imgclf.images import decoding

SIDE = 160  # pixels of the longer side at which pictures are compared
MOST_KEYPOINTS = 128  # of a picture, the strongest ones
CONTRAST = 0.02  # of a keypoint; half of OpenCV's default, for plain garments and blurred pictures
KEYPOINTS = np.dtype(
    [
        ("count", np.int32),
        ("width", np.int32),
        ("points", np.float32, (MOST_KEYPOINTS, 2)),
        ("sizes", np.float32, (MOST_KEYPOINTS,)),
        ("angles", np.float32, (MOST_KEYPOINTS,)),
        ("descriptors", np.uint8, (MOST_KEYPOINTS, 128)),
        ("invariants", np.uint8, (MOST_KEYPOINTS, 64)),
    ]
)
# The descriptor of the mirror image: 4 x 4 cells of 8 directions, rows and directions in reverse.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


RATIO = 0.85  # of the distances of a keypoint's best and second-best match (Lowe's ratio test)
REPROJECTION = 3.0  # pixels
FEWEST_INLIERS = 6  # keypoints that one affine transform maps; unrelated pictures rarely reach it
TURNS = 18  # bins of the angle between two matched keypoints
SCALES = 6  # bins of the ratio of their sizes, above 1 and below
SCALE_BIN = 0.4  # octaves

BLUR = 1.5  # sigma, pixels; removes what compression and resizing change
WINDOW = 15  # pixels, width and height of the windows of the local correlation
FEWEST_LEVELS = 5  # standard deviation of grey levels in a window that shows something
BORDER = 4  # pixels beside the edge of the overlap, where the blur mixes in a frame
SAME = 0.95  # correlation of a window that shows the same in both pictures
MOST = 0.6  # share of the windows that must show the same; text across a picture covers up to 0.35 of them
OVERLAP = 0.6  # of the smaller picture


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return a picture as it is compared: grey, with a longer side of `SIDE` pixels.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 array, RGB.

    Returns
    -------
    (h, w) uint8 array.
    """
    return cv2.cvtColor(decoding.scale(pixels, SIDE), cv2.COLOR_RGB2GRAY)


def keypoints(picture: np.ndarray) -> np.ndarray:
    """Return the keypoints of a picture with their SIFT descriptors: an array () of dtype `KEYPOINTS`.

    Parameters
    ----------
    picture : see `grey`.

    Source: D. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 60, 2004.
    """
    sift = cv2.SIFT.create(MOST_KEYPOINTS, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(picture, None)
    count = min(len(found), MOST_KEYPOINTS)
    record = np.zeros((), KEYPOINTS)
    record["count"], record["width"] = count, picture.shape[1]
    if count:
        record["points"][:count] = [keypoint.pt for keypoint in found[:count]]
        record["sizes"][:count] = [keypoint.size for keypoint in found[:count]]
        record["angles"][:count] = [keypoint.angle for keypoint in found[:count]]
        record["descriptors"][:count] = descriptors[:count]
        record["invariants"][:count] = _mirror_invariant(descriptors[:count])
    return record


def may_align(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether a picture may have an `alignment` with others: matched keypoints agree on a turn and a scale.

    As many must agree as an alignment needs inliers. It takes an eighth of the time. What is compared is the
    same for a picture and its mirror image.

    Parameters
    ----------
    one : see `keypoints`. others : (n,) array of the same.

    Returns
    -------
    (n,) bool array.

    Source: H. Jegou, M. Douze and C. Schmid, "Hamming Embedding and Weak Geometric Consistency for Large
    Scale Image Search", ECCV 2008.
    """
    here = one["invariants"].astype(np.float32) / 255**2
    there = others["invariants"].reshape(-1, here.shape[1]).astype(np.float32)
    similarity = (here @ there.T).reshape(MOST_KEYPOINTS, len(others), MOST_KEYPOINTS)
    best, is_match = _matches(similarity)
    rows, pictures = np.nonzero(is_match)
    matched = best[rows, pictures]
    ratio = one["sizes"][rows] / others["sizes"][pictures, matched]
    scale = np.minimum(np.maximum(np.log2(ratio) / SCALE_BIN + SCALES, 0), 2 * SCALES - 1).astype(np.int64)
    angle, other_angle = one["angles"][rows], others["angles"][pictures, matched]
    turn = np.concatenate([angle - other_angle, angle + other_angle - 180]) % 360  # the latter if mirrored
    turned = (turn * (TURNS / 360)).astype(np.int64) % TURNS
    cells = np.concatenate([pictures, len(others) + pictures]) * 2 * SCALES + np.concatenate([scale, scale])
    shape = 2, len(others), 2 * SCALES, TURNS
    votes = np.bincount(cells * TURNS + turned, minlength=math.prod(shape)).reshape(shape)
    # What agrees may lie on both sides of a border.
    votes[:, :, :-1] += votes[:, :, 1:]
    votes += votes[..., np.arange(1, TURNS + 1) % TURNS]
    return votes.max(axis=(0, 2, 3)) >= FEWEST_INLIERS


def _mirror_invariant(descriptors: np.ndarray) -> np.ndarray:
    """Return descriptors that are the same for the keypoints of the mirror image; of length 255, but rounded.

    They are the sums and differences of what the mirror exchanges, of each two directions together.

    Parameters
    ----------
    descriptors : (n, 128) float32, of SIFT.

    Returns
    -------
    (n, 64) float32 array.
    """
    roots = np.sqrt(descriptors)
    one, mirrored = roots[:, :64], roots[:, MIRRORED[:64]]
    both = np.concatenate([one + mirrored, np.abs(one - mirrored)], axis=1)
    return np.rint(255 * _unit(both[:, ::2] + both[:, 1::2]))


def _matches(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the most similar keypoint of each, and whether it is a match by Lowe's ratio test.

    Parameters
    ----------
    similarity : (..., n) float32, of descriptors of length 1; is changed.
    """
    best = similarity.argmax(axis=-1)[..., None]
    first = np.take_along_axis(similarity, best, axis=-1)
    np.put_along_axis(similarity, best, -1, axis=-1)
    second = similarity.max(axis=-1)
    # The square of the distance is 2 - 2 * similarity.
    return best[..., 0], 1 - first[..., 0] < RATIO**2 * (1 - second)


def alignment(one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Return the affine transform from a picture, or its mirror image, to another; None if there is none.

    Parameters
    ----------
    one, other : see `keypoints`.

    Returns
    -------
    (2, 3) float array: maps x, y in `other` to x, y in `one`; pixels of `grey`.

    Source: RANSAC, M. Fischler and R. Bolles, 1981; the `estimateAffinePartial2D` of OpenCV.
    """
    points, descriptors = _used(one)
    other_points, other_descriptors = _used(other)
    if min(len(points), len(other_points)) < FEWEST_INLIERS:
        return None
    best, most = None, FEWEST_INLIERS - 1
    for order, mirror in (
        (slice(None), np.eye(3)),
        (MIRRORED, np.array([[-1.0, 0, int(other["width"]) - 1], [0, 1, 0], [0, 0, 1]])),
    ):
        matched, is_match = _matches(descriptors[:, order] @ other_descriptors.T)
        if is_match.sum() <= most:
            continue
        there = other_points[matched[is_match]] @ mirror[:2, :2].T + mirror[:2, 2]
        here = points[is_match]
        found, inliers = cv2.estimateAffinePartial2D(
            there, here, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION, maxIters=500
        )
        if found is not None and inliers.sum() > most:
            best, most = found @ mirror, int(inliers.sum())
    return best


def _used(record: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (n, 2) float32 and descriptors (n, 128) float32 of unit sum (RootSIFT).

    Source: R. Arandjelovic and A. Zisserman, "Three things everyone should know to improve object retrieval",
    CVPR 2012.
    """
    count = int(record["count"])
    return record["points"][:count], _unit(np.sqrt(record["descriptors"][:count], dtype=np.float32))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, d), changed in place to length 1; those without a length stay."""
    vectors /= np.sqrt(np.maximum(np.einsum("ij,ij->i", vectors, vectors), 1))[:, None]
    return vectors


def is_copy(one: np.ndarray, other: np.ndarray, transform: np.ndarray) -> bool:
    """Whether a picture is an altered copy of another: after alignment most of it shows the same.

    Different objects before one background are none: the objects do not agree. Neither text over a picture
    nor another brightness or contrast makes two pictures different.

    Parameters
    ----------
    one, other : see `grey`.
    transform : see `alignment`.
    """
    return agreement(one, other, transform) >= MOST


def agreement(one: np.ndarray, other: np.ndarray, transform: np.ndarray) -> float:
    """Return the share (0 to 1) of the windows of two aligned pictures that show the same.

    Windows without contrast in both are not counted. It is 0 if the pictures overlap too little.

    Parameters
    ----------
    one, other, transform : see `is_copy`.
    """
    a, moved = (cv2.GaussianBlur(picture, (0, 0), BLUR).astype(np.float32) for picture in (one, other))
    size = one.shape[::-1]
    covered = cv2.warpAffine(np.ones_like(moved), transform, size) > 0.99
    b = cv2.warpAffine(moved, transform, size)
    smaller = min(one.size, abs(np.linalg.det(transform[:, :2])) * other.size)
    if covered.sum() < OVERLAP * smaller:
        return 0.0
    edges = np.ones((2 * BORDER + 1,) * 2, np.uint8)
    inside = cv2.erode(covered.astype(np.float32), edges, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    count = _window_sums(inside)
    used = (inside > 0) & (count > WINDOW**2 / 2)
    count = np.maximum(count, 1)
    mean_a, mean_b = (_window_sums(layer * inside) / count for layer in (a, b))
    variance_a = _window_sums(a * a * inside) / count - mean_a**2
    variance_b = _window_sums(b * b * inside) / count - mean_b**2
    covariance = _window_sums(a * b * inside) / count - mean_a * mean_b
    used &= np.maximum(variance_a, variance_b) > FEWEST_LEVELS**2
    correlation = covariance / np.sqrt(np.maximum(variance_a * variance_b, 1))
    return float((correlation[used] > SAME).mean()) if used.any() else 0.0


def _window_sums(layer: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(layer, -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)

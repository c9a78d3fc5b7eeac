"""Altered copies: keypoints align two pictures, and local correlation then decides whether they agree."""

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
        ("descriptors", np.uint8, (MOST_KEYPOINTS, 128)),
    ]
)
# The descriptor of the mirror image: 4 x 4 cells of 8 directions, rows and directions in reverse.
MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()

RATIO = 0.85  # of the distances of a keypoint's best and second-best match (Lowe's ratio test)
REPROJECTION = 3.0  # pixels
FEWEST_INLIERS = 6  # keypoints that one affine transform maps; unrelated pictures rarely reach it

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
        record["points"][:count] = cv2.KeyPoint.convert(found)[:count]
        record["descriptors"][:count] = descriptors[:count]
    return record


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
        matches = cv2.BFMatcher().knnMatch(descriptors, other_descriptors[:, order], 2)
        good = [first for first, second in matches if first.distance < RATIO * second.distance]
        if len(good) <= most:
            continue
        there = other_points[[match.trainIdx for match in good]] @ mirror[:2, :2].T + mirror[:2, 2]
        here = points[[match.queryIdx for match in good]]
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
    descriptors = record["descriptors"][:count].astype(np.float32)
    return record["points"][:count], np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1))


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

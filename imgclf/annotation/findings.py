"""Findings: what looks wrong in a data set, each with the images that it concerns."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from imgclf.data.dataset import NOT_MEASURED, UNLABELLED, Dataset, Image
from imgclf.data.labels import labels_of
from imgclf.features import Features

LABELS_OF_COPIES = "several labels for one picture"
LABEL_OF_NEIGHBOURS = "label disagrees with neighbours"
OUTLIERS = "outliers"
FEW_IMAGES = "too few images"
SMALL = "too small"
DARK, BRIGHT, PALE, BLURRED = "too dark", "too bright", "low contrast", "blurred"
NEAR_DUPLICATES = "near-duplicates"
UNBALANCED = "unbalanced classes"

SMALL_PIXELS = 100 * 100  # of an image; networks see 224 x 224 and more
DARK_HIGHLIGHTS = 100  # grey level below which 99 % of the pixels lie
BRIGHT_SHADOWS = 200  # grey level above which 99 % of the pixels lie
LEAST_CONTRAST = 40  # grey levels between shadows and highlights
LEAST_SHARPNESS = 0.22  # see `quality.measure`
FEWEST_IMAGES = 10  # of a label
RARE_SHARE = 0.1  # of the images that each label would have if all had the same number
NEIGHBOURS = 10  # nearest in feature space
MOST_COMPARED = 2**14  # images among which neighbours are looked for
CHUNK = 2**12  # images at once
FEWEST_DESCRIBED = 30  # images with features, to compare them with neighbours
OUTLIER_RANGES = 1.7  # interquartile ranges above the third quartile


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong in a data set, and the images that it concerns.

    Attributes
    ----------
    kind : in a few words, such as "near-duplicates".
    text : what it is, why it matters, what to do.
    images : paths below the data set's folder, the clearest case first; those of a group follow each other.
    groups : the same paths by group, if they belong together, as copies do; else empty.
    """

    kind: str
    text: str
    images: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def find(dataset: Dataset, features: Features | None = None) -> list[Finding]:
    """Return the findings about a data set, the most harmful first.

    Wrong labels come first, then images that do not belong to the data set, then images that show little,
    then repeated ones and the numbers of images. Excluded images are left out, unlabelled ones are not.

    Parameters
    ----------
    dataset : as scanned, or `Annotations.current_dataset()` after changes.
    features : of its images; without them there are no outliers, and labels are not compared with those of
        neighbours.
    """
    images = dataset.readable
    checks: list[Callable[[], Finding | None]] = [
        lambda: _labels_of_copies(dataset),
        lambda: _labels_of_neighbours(labelled),
        lambda: _outliers(described),
        lambda: _few_images(dataset),
        lambda: _blurred(images),
        lambda: _dark(images),
        lambda: _bright(images),
        lambda: _pale(images),
        lambda: _small(images),
        lambda: _near_duplicates(dataset),
        lambda: _unbalanced(dataset),
    ]
    described = _Neighbourhoods.of(features, images)
    labelled = _Neighbourhoods.of(features, dataset.images) if dataset.unlabelled else described
    return [found for check in checks if (found := check())]


def _labels_of_copies(dataset: Dataset) -> Finding | None:
    groups = _clusters(dataset, lambda group: len({image.label for image in group} - {UNLABELLED}) > 1)
    if not groups:
        return None
    return _grouped(
        LABELS_OF_COPIES,
        f"{_count(groups, 'picture')} {_be(groups)} there more than once, under different labels: one of "
        "them is wrong, and the classifier learns a contradiction; give all one label, or exclude them.",
        groups,
    )


def _near_duplicates(dataset: Dataset) -> Finding | None:
    groups = _clusters(dataset, lambda group: len({image.label for image in group} - {UNLABELLED}) < 2)
    if not groups:
        return None
    return _grouped(
        NEAR_DUPLICATES,
        f"{_count(groups, 'picture')} {_be(groups)} there more than once, in {sum(map(len, groups))} files: "
        "copies add work and nothing to learn from; keep one of each group, and exclude the others.",
        groups,
    )


def _clusters(dataset: Dataset, is_wanted: Callable[[list[Image]], bool]) -> list[list[Image]]:
    """Return the groups of images that pairs of duplicates connect, the largest first."""
    from scipy.cluster.hierarchy import DisjointSet

    image = {image.path: image for image in dataset.readable}
    pairs = [(pair.kept.path, pair.other.path) for pair in dataset.duplicates]
    clusters = DisjointSet(dict.fromkeys(path for pair in pairs for path in pair))
    for pair in pairs:
        clusters.merge(*pair)
    groups = [[image[path] for path in sorted(subset) if path in image] for subset in clusters.subsets()]
    return sorted(
        (group for group in groups if len(group) > 1 and is_wanted(group)),
        key=lambda group: (-len(group), group[0].path),
    )


def _grouped(kind: str, text: str, groups: Sequence[Sequence[Image]]) -> Finding:
    paths = tuple(tuple(image.path for image in group) for group in groups)
    return Finding(kind, text, tuple(path for group in paths for path in group), paths)


@dataclass(frozen=True)
class _Neighbourhoods:
    """The nearest neighbours of images in feature space, by the cosine.

    Attributes
    ----------
    distances : (n, k) float, 1 minus the cosine, rising. indices : (n, k) int, positions in `images`.
    """

    images: tuple[Image, ...]
    distances: np.ndarray
    indices: np.ndarray

    @classmethod
    def of(cls, features: Features | None, images: Sequence[Image]) -> "_Neighbourhoods | None":
        """Return the neighbourhoods of images among each other; None if too few have features."""
        some = features.subset(images) if features else None
        if some is None or len(some.images) < FEWEST_DESCRIBED:
            return None
        distances, indices = _nearest(some.matrix)
        return cls(some.images, distances**2 / 2, indices)


def _nearest(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of each row to the `NEIGHBOURS` nearest others, and these, (n, k) each.

    Rows are scaled to length 1. Of more than `MOST_COMPARED`, evenly spaced ones can be neighbours: to
    compare all with all takes time with the square of their number.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    compared = np.arange(0, len(matrix), -(-len(matrix) // MOST_COMPARED))
    # On vectors of length 1 the Euclidean distance has the order of the cosine, and is faster.
    found = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(normalize(matrix[compared]))
    if len(compared) == len(matrix):
        return found.kneighbors()
    parts = []
    for start in range(0, len(matrix), CHUNK):
        chunk = normalize(matrix[start : start + CHUNK])
        distances, indices = found.kneighbors(chunk, NEIGHBOURS + 1)
        is_left_out = compared[indices] == np.arange(start, start + len(chunk))[:, None]  # the row itself
        is_left_out[:, -1] |= ~is_left_out.any(axis=1)
        shape = len(chunk), NEIGHBOURS
        parts.append((distances[~is_left_out].reshape(shape), compared[indices][~is_left_out].reshape(shape)))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _outliers(described: _Neighbourhoods | None) -> Finding | None:
    """Find images whose mean distance to their neighbours is far above that of the others.

    Source: J. Kuan, J. Mueller, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines",
    ICML 2022 workshop, arXiv 2207.03061; the threshold is that of cleanlab's Datalab.
    """
    if described is None:
        return None
    distance = described.distances.mean(axis=1)
    first, third = np.quantile(distance, [0.25, 0.75])
    is_far = distance > third + OUTLIER_RANGES * (third - first)
    return _listed(
        OUTLIERS,
        "unlike all others in feature space: pictures of something else confuse the classifier; "
        "look at them, and exclude what does not belong here.",
        [described.images[i] for i in np.argsort(-distance, kind="stable") if is_far[i]],
        described.images,
    )


def _labels_of_neighbours(described: _Neighbourhoods | None) -> Finding | None:
    """Find images whose label their nearest neighbours with a label contradict.

    Source: C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70 (2021), with the shares of the labels among the neighbours as probabilities.
    """
    if described is None:
        return None
    from cleanlab.filter import find_label_issues

    names, truth = np.unique([image.label for image in described.images], return_inverse=True)
    if len(names) < 2:
        return None
    shares = np.stack([(truth[described.indices] == k).mean(axis=1) for k in range(len(names))], axis=1)
    wrong = find_label_issues(
        truth, shares, return_indices_ranked_by="self_confidence", filter_by="low_self_confidence", n_jobs=1
    )
    return _listed(
        LABEL_OF_NEIGHBOURS,
        "with another label than most that look alike: wrong labels teach the classifier mistakes; "
        "look at them, and correct those that are wrong.",
        [described.images[i] for i in wrong],
        described.images,
    )


def _few_images(dataset: Dataset) -> Finding | None:
    counts = _label_counts(dataset)
    few = [label for label, count in sorted(counts.items()) if count < FEWEST_IMAGES]
    return _of_labels(
        FEW_IMAGES,
        "{} fewer than " + str(FEWEST_IMAGES) + " images: too few to learn from and to measure the accuracy; "
        "collect more, or merge labels.",
        few,
        dataset,
    )


def _unbalanced(dataset: Dataset) -> Finding | None:
    """Find labels with few images compared with the others. Source: cleanlab's Datalab, class imbalance."""
    counts = _label_counts(dataset)
    rare = [
        label
        for label, count in sorted(counts.items())
        if FEWEST_IMAGES <= count < RARE_SHARE * counts.total() / len(counts)
    ]
    return _of_labels(
        UNBALANCED,
        "{} less than a tenth of the images of the average label: a classifier rarely predicts rare labels; "
        "collect more of them, or set balance=True in 02_refine_dnn.",
        rare,
        dataset,
    )


def _label_counts(dataset: Dataset) -> Counter[str]:
    return Counter(label for image in dataset.images for label in labels_of(image))


def _of_labels(kind: str, text: str, labels: Sequence[str], dataset: Dataset) -> Finding | None:
    if not labels:
        return None
    counts = _label_counts(dataset)
    named = ", ".join(f"{label} ({counts[label]})" for label in labels)
    of_label: dict[str, list[str]] = {label: [] for label in labels}
    for image in dataset.images:
        for label in labels_of(image):
            of_label.get(label, []).append(image.path)
    paths = tuple(path for label in labels for path in of_label[label])
    return Finding(kind, text.format(f"{named} {'has' if len(labels) == 1 else 'have'}"), paths)


def _small(images: Sequence[Image]) -> Finding | None:
    return _listed(
        SMALL,
        "of fewer than 100 x 100 pixels: a network sees them enlarged, without detail; "
        "replace them by larger ones, or exclude them.",
        _lowest(images, lambda image: image.width * image.height, SMALL_PIXELS),
        images,
    )


def _blurred(images: Sequence[Image]) -> Finding | None:
    return _listed(
        BLURRED,
        "without a sharp edge at the size that a network sees: what tells the labels apart may be lost; "
        "replace them by sharp ones, or exclude them.",
        _lowest(_of_contrast(images), lambda image: image.sharpness, LEAST_SHARPNESS),
        images,
    )


def _dark(images: Sequence[Image]) -> Finding | None:
    return _listed(
        DARK,
        "almost black: little can be learned from them; brighten them, or exclude them.",
        _lowest(_measured(images), lambda image: image.highlights, DARK_HIGHLIGHTS),
        images,
    )


def _bright(images: Sequence[Image]) -> Finding | None:
    return _listed(
        BRIGHT,
        "almost white: little can be learned from them; darken them, or exclude them.",
        _lowest(_measured(images), lambda image: -image.shadows, -BRIGHT_SHADOWS),
        images,
    )


def _pale(images: Sequence[Image]) -> Finding | None:
    usual = [i for i in _measured(images) if i.highlights >= DARK_HIGHLIGHTS and i.shadows <= BRIGHT_SHADOWS]
    return _listed(
        PALE,
        "of nearly one grey level: there is little to see in them; exclude those that show nothing.",
        _lowest(usual, lambda image: image.highlights - image.shadows, LEAST_CONTRAST),
        images,
    )


def _measured(images: Iterable[Image]) -> list[Image]:
    return [image for image in images if image.sharpness != NOT_MEASURED]


def _of_contrast(images: Iterable[Image]) -> list[Image]:
    return [i for i in _measured(images) if i.highlights - i.shadows >= LEAST_CONTRAST]


def _lowest(images: Iterable[Image], value: Callable[[Image], float], threshold: float) -> list[Image]:
    """Return the images whose value is below the threshold, the lowest first."""
    return sorted((image for image in images if value(image) < threshold), key=value)


def _listed(kind: str, text: str, images: Sequence[Image], all_images: Sequence[Image]) -> Finding | None:
    if not images:
        return None
    text = f"{_count(images, 'image')} {text}"
    if len(images) > len(all_images) / 2:
        text += " These are most of the images: if those to be predicted are like them, leave them."
    return Finding(kind, text, tuple(image.path for image in images))


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _be(items: Sequence[object]) -> str:
    return "is" if len(items) == 1 else "are"

"""How often the 95 % intervals contain the truth, and how wide they are, beside those of version 0.1.0; simulated.

Of several settings, a row has the least and the mean coverage, and the mean width.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest, chi2

from imgclf.evaluation import calibration, comparison, intervals, metrics

SETS = 2000  # simulated sets of test images; the standard error of a coverage of 95 % is 0.5 %
FEWER_SETS = 200  # for methods of version 0.1.0 that resample
RESAMPLES = 200  # of these
ACCURACIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
IMAGES = (20, 50, 107, 200, 500)
SIZES = (2, 5, 10, 20)  # of clusters
CORRELATIONS = (0, 0.1, 0.3, 0.6, 1)
LABELS = {  # images and accuracies of the labels
    "31, 28, 48 images; 0.84, 0.89, 0.98": ([31, 28, 48], [0.84, 0.89, 0.98]),
    "10 labels of 8; 0.95": ([8] * 10, [0.95] * 10),
    "2 labels of 10; 0.99": ([10] * 2, [0.99] * 2),
    "2 labels of 4; 0.8": ([4] * 2, [0.8] * 2),
    "200 labels of 2 or 3; 0.95": ([2, 3] * 100, [0.95] * 200),
    "200 labels of 2 or 3; 0.99 or 0.5": ([2, 3] * 100, [0.99, 0.99, 0.5, 0.5] * 50),
    "50 labels of 10; 40 of 0.99, 10 of 0.6": ([10] * 50, [0.99] * 40 + [0.6] * 10),
    "rare and hard: 9 of 50, 0.98; 1 of 2, 0.5": ([50] * 9 + [2], [0.98] * 9 + [0.5]),
    "rare and hard: 4 of 30, 0.97; 1 of 5, 0.6": ([30] * 4 + [5], [0.97] * 4 + [0.6]),
    "rare and hard: 5 of 50, 0.98; 5 of 3, 0.6": ([50] * 5 + [3] * 5, [0.98] * 5 + [0.6] * 5),
    "rare and easy: 5 of 50, 0.8; 5 of 3, 0.99": ([50] * 5 + [3] * 5, [0.8] * 5 + [0.99] * 5),
    "rare and easy: 98, 0.8; 2, 0.99": ([98, 2], [0.8, 0.99]),
    "rare and hard: 9 of 1000, 0.998; 1 of 100, 0.9": ([1000] * 9 + [100], [0.998] * 9 + [0.9]),
    "rare and hard: 9 of 1000, 0.99; 1 of 100, 0.8": ([1000] * 9 + [100], [0.99] * 9 + [0.8]),
    "rare and hard: 2 of 2000, 0.995; 1 of 200, 0.8": ([2000] * 2 + [200], [0.995] * 2 + [0.8]),
    "rare and hard: 19 of 200, 0.995; 1 of 30, 0.8": ([200] * 19 + [30], [0.995] * 19 + [0.8]),
}
CLUSTERED_LABELS = {  # labels, images of each, their accuracies in turn
    "3 labels of 40; 0.84, 0.89, 0.98": (3, 40, [0.84, 0.89, 0.98]),
    "10 labels of 20; 0.95": (10, 20, [0.95]),
    "10 labels of 20; 0.99 or 0.6": (10, 20, [0.99, 0.6]),
    "50 labels of 10; 0.9": (50, 10, [0.9]),
}
GROUPED = {"one group of 60, 60 single": [60] + [1] * 60, "one group of 30, 90 single": [30] + [1] * 90}
GROUPED_LABELS = {  # sizes of the clusters of the hard label of three or ten; the accuracies of the labels
    "3 groups of 20; 0.8, 0.9, 0.95": ([20] * 3, [0.8, 0.9, 0.95]),
    "6 groups of 10; 0.8, 0.9, 0.95": ([10] * 6, [0.8, 0.9, 0.95]),
    "a group of 30, 30 single; 0.8, 0.9, 0.95": ([30] + [1] * 30, [0.8, 0.9, 0.95]),
    "a group of 40, 20 single; 0.8, 0.9, 0.95": ([40] + [1] * 20, [0.8, 0.9, 0.95]),
    "4 groups of 10; 0.6, 9 of 0.97": ([10] * 4, [0.6] + [0.97] * 9),
}
AREAS = (0.7, 0.86, 0.95, 0.98)
SIDES = ((8, 8), (5, 30), (30, 76), (10, 90), (50, 450))  # images with the label, others

Interval = tuple[float, float]
Methods = tuple[Callable[..., Interval], Callable[..., Interval]]


def wilson(correct: np.ndarray) -> Interval:
    """Interval of an accuracy in version 0.1.0."""
    n, p, z = len(correct), correct.mean(), 1.959964
    middle, half = p + z**2 / 2 / n, z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2)
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def jeffreys(correct: np.ndarray, label: np.ndarray, draws: np.random.Generator) -> Interval:
    """Interval of the class-averaged accuracy in version 0.1.0."""
    images, right = np.bincount(label), np.bincount(label, correct)
    samples = draws.beta(right + 0.5, images - right + 0.5, (RESAMPLES, len(images))).mean(axis=1)
    low, high = np.quantile(samples, [0.025, 0.975])
    return min(low, (right / images).mean()), max(high, (right / images).mean())


def bootstrap(
    score: np.ndarray, is_label: np.ndarray, draws: np.random.Generator, *, precise: bool
) -> Interval:
    """Interval of the ROC area in version 0.1.0, or of the average precision."""
    is_label = is_label[np.argsort(-score)]
    counts = np.empty((RESAMPLES, len(score)))
    for side in (is_label, ~is_label):
        counts[:, side] = draws.multinomial(side.sum(), np.full(side.sum(), 1 / side.sum()), RESAMPLES)
    found, false = (counts * is_label).cumsum(axis=1), (counts * ~is_label).cumsum(axis=1)
    if precise:
        samples = (counts * is_label * found / np.maximum(found + false, 1)).sum(axis=1) / is_label.sum()
    else:
        samples = (counts * ~is_label * found).sum(axis=1) / is_label.sum() / (~is_label).sum()
    low, high = np.quantile(samples, [0.025, 0.975])
    return low, high


def measured(draw: Callable[[], tuple], truth: float, methods: Methods, sets: int = SETS) -> np.ndarray:
    """Coverage and mean width in percent, (2, 2), of the old method, on `sets` sets of images, and of the new."""
    result = []
    for method, number in zip(methods, (sets, SETS), strict=True):
        low, high = np.array([method(*draw()) for _ in range(number)]).T
        covers = (low <= truth + 1e-9) & (truth - 1e-9 <= high)
        result.append([covers.mean(), (high - low).mean()])
    return 100 * np.array(result)


def show(title: str, rows: Iterator[tuple[str, Sequence[np.ndarray]]]) -> None:
    print(f"\n**{title}**\n\n| | holds before | now | mean width before | now |\n|---|---|---|---|---|")
    for name, settings in rows:
        (least, _), (mean, width) = np.min(settings, axis=0).T, np.mean(settings, axis=0).T
        several = [f" (mean {one:.0f})" if len(settings) > 1 else "" for one in mean]
        holds = [f"{one:.1f} %{more}" for one, more in zip(least, several, strict=True)]
        print(f"| {name} | {' | '.join(holds)} | {width[0]:.1f} | {width[1]:.1f} |", flush=True)


def shares() -> Iterator[tuple[str, list[np.ndarray]]]:
    """An accuracy of independent images: exact, for every accuracy in steps of 0.01."""
    truth = np.linspace(0.5, 0.99, 50)
    for numbers in (range(8, 21), range(21, 51), range(51, 108, 3), range(108, 501, 14)):
        settings = []
        for images in numbers:
            is_correct = np.arange(images) < np.arange(images + 1)[:, None]
            ends = np.array(
                [[wilson(one), intervals.proportion(one.mean(), images)] for one in is_correct]
            ).transpose(2, 1, 0)[..., None]
            chance = binom.pmf(np.arange(images + 1)[:, None], images, truth)
            covered = (chance * ((ends[0] <= truth) & (truth <= ends[1]))).sum(axis=1)
            width = (chance * (ends[1] - ends[0])).sum(axis=1)
            settings += list(100 * np.stack([covered, width], axis=1).transpose(2, 0, 1))
        yield f"{numbers[0]} to {numbers[-1]} images", settings


def correct(draws: np.random.Generator, accuracy: np.ndarray, cluster: np.ndarray, *, correlation: float):
    """Whether each image is correct, by an accuracy of its cluster from a beta distribution around `accuracy`."""
    if correlation in (0, 1):
        own = draws.random(len(accuracy if correlation else cluster))
        return own[cluster] < accuracy[cluster] if correlation else own < accuracy[cluster]
    size = (1 - correlation) / correlation
    return draws.random(len(cluster)) < draws.beta(accuracy * size, (1 - accuracy) * size)[cluster]


def copied(draws: np.random.Generator, accuracy: np.ndarray, cluster: np.ndarray, *, correlation: float):
    """Another model of the same correlation: part of the images of a cluster are right or wrong as one."""
    one = (draws.random(len(accuracy)) < accuracy)[cluster]
    own = draws.random(len(cluster)) < accuracy[cluster]
    return np.where(draws.random(len(cluster)) < correlation**0.5, one, own)


def in_clusters(
    draws: np.random.Generator, model: Callable, cluster: np.ndarray, correlation: float
) -> list[np.ndarray]:
    """The settings of every accuracy in `ACCURACIES`, of images in these clusters."""

    def setting(accuracy: float) -> np.ndarray:
        expected = np.full(cluster[-1] + 1, accuracy)

        def draw() -> tuple[np.ndarray, np.ndarray]:
            return model(draws, expected, cluster, correlation=correlation), cluster

        return measured(draw, accuracy, (lambda correct, _: wilson(correct), intervals.accuracy))

    return [setting(accuracy) for accuracy in ACCURACIES]


def clustered_shares(
    model: Callable, sizes: Sequence[int], clusters: Sequence[int] = ()
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """An accuracy of images in clusters, of every number in `IMAGES` that leaves five clusters."""
    draws = np.random.default_rng(0)
    for size in sizes:
        numbers = clusters or [images // size for images in IMAGES if images >= 5 * size]
        for correlation in CORRELATIONS:
            settings = []
            for count in numbers:
                settings += in_clusters(draws, model, np.arange(count).repeat(size), correlation)
            yield f"clusters of {size}, correlation {correlation}", settings


def unequal_clusters() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Half of the images alone, the other half in clusters of ten."""
    draws = np.random.default_rng(0)
    for correlation in CORRELATIONS:
        settings = []
        for images in (100, 200, 500):
            cluster = np.append(np.arange(images // 2), images // 2 + np.arange(images // 2) // 10)
            settings += in_clusters(draws, correct, cluster, correlation)
        yield f"100 to 500 images, correlation {correlation}", settings


def groups_beside_single_images() -> Iterator[tuple[str, list[np.ndarray]]]:
    draws = np.random.default_rng(0)
    for name, sizes in GROUPED.items():
        cluster = np.arange(len(sizes)).repeat(sizes)
        for correlation in CORRELATIONS[:-1]:
            yield f"{name}, correlation {correlation}", in_clusters(draws, correct, cluster, correlation)


def averages() -> Iterator[tuple[str, list[np.ndarray]]]:
    draws = np.random.default_rng(0)
    methods = (
        lambda correct, label: jeffreys(correct, label, draws),
        lambda correct, label: intervals.average(correct, label, np.arange(len(label))),
    )
    for name, (images, accuracy) in LABELS.items():
        label, expected = np.arange(len(images)).repeat(images), np.repeat(accuracy, images)

        def draw(label=label, expected=expected):
            return draws.random(len(label)) < expected, label

        yield name, [measured(draw, np.mean(accuracy), methods, FEWER_SETS)]


def clustered_averages(*, across: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Clusters within labels, or clusters that have images of all labels, as the cameras of a shop may."""
    draws = np.random.default_rng(0)
    methods = (lambda correct, label, _: jeffreys(correct, label, draws), intervals.average)
    for name, (labels, images, accuracies) in CLUSTERED_LABELS.items():
        of_label = np.resize(accuracies, labels)
        settings = []
        for size in (2, 5, 10, 20):
            label = np.arange(labels).repeat(images)
            cluster = np.arange(labels * images) // size
            if across:
                label = np.arange(labels * images) % labels
            if cluster[-1] < 4 or images % size:
                continue
            for correlation in (0, 0.3, 1):

                def draw(label=label, cluster=cluster, correlation=correlation, of_label=of_label):
                    if (
                        across and correlation
                    ):  # a cluster's images are right where one number is small enough
                        one = draws.random(cluster[-1] + 1)[cluster]
                        own = draws.random(len(label))
                        number = np.where(draws.random(len(label)) < correlation**0.5, one, own)
                        return number < of_label[label], label, cluster
                    expected = of_label[label[np.unique(cluster, return_index=True)[1]]]
                    if across:
                        return draws.random(len(label)) < of_label[label], label, cluster
                    return correct(draws, expected, cluster, correlation=correlation), label, cluster

                settings.append(measured(draw, of_label.mean(), methods, FEWER_SETS))
        yield name, settings


def grouped_averages() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Only the first label has clusters."""
    draws = np.random.default_rng(0)
    methods = (lambda correct, label, _: jeffreys(correct, label, draws), intervals.average)
    for name, (sizes, of_label) in GROUPED_LABELS.items():
        images = sum(sizes)
        others = images * (len(of_label) - 1)
        label = np.arange(len(of_label)).repeat(images)
        cluster = np.arange(len(sizes) + others).repeat(sizes + [1] * others)
        expected = np.array(of_label)[label[np.unique(cluster, return_index=True)[1]]]
        settings = []
        for correlation in (0.1, 0.3, 0.6):

            def draw(label=label, cluster=cluster, expected=expected, correlation=correlation):
                return correct(draws, expected, cluster, correlation=correlation), label, cluster

            settings.append(measured(draw, np.mean(of_label), methods, FEWER_SETS))
        yield name, settings


def drawn_scores(draws, area: float, positive: int, negative: int, kind: str):
    """Scores of images with and without the label; `kind` says how they are distributed."""
    is_label = np.arange(positive + negative) < positive
    score = draws.normal(size=len(is_label))
    if kind == "mixed negatives":  # a fifth of the others are like the label's images, the rest far away
        shifts = np.linspace(-6, 9, 3001)
        areas = 0.8 * ndtr((shifts + 3) / 2**0.5) + 0.2 * ndtr(shifts / 2**0.5)
        far = ~is_label & (draws.random(len(is_label)) < 0.8)
        return score + is_label * np.interp(area, areas, shifts) - 3 * far, is_label
    spread = {"equal variances": 1, "wider positives": 2, "narrower positives": 0.5}[kind]
    return score * np.where(is_label, spread, 1) + is_label * ndtri(area) * (1 + spread**2) ** 0.5, is_label


KINDS = ("equal variances", "wider positives", "narrower positives", "mixed negatives")


def areas(*, precise: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """ROC areas, or average precisions; the true average precision is that of 200,000 images."""
    draws = np.random.default_rng(0)

    def now(score, is_label):
        if not precise:
            return intervals.roc_area(score, is_label, np.arange(len(score)))
        ordered = is_label[np.argsort(-score)]
        precision = (ordered.cumsum() / np.arange(1, len(score) + 1))[ordered]
        return intervals.average_precision(precision.mean(), precision, np.arange(len(precision)))

    methods = (lambda *images: bootstrap(*images, draws, precise=precise), now)
    for positive, negative in SIDES:
        for area in AREAS:
            settings = []
            for kind in KINDS:

                def draw(area=area, positive=positive, negative=negative, kind=kind):
                    return drawn_scores(draws, area, positive, negative, kind)

                truth = area
                if precise:
                    share = positive / (positive + negative)
                    score, is_label = drawn_scores(
                        draws, area, round(2e5 * share), round(2e5 * (1 - share)), kind
                    )
                    ordered = is_label[np.argsort(-score)]
                    truth = (ordered.cumsum() / np.arange(1, len(score) + 1))[ordered].mean()
                settings.append(measured(draw, truth, methods, FEWER_SETS))
            yield f"{positive} against {negative}, ROC area {area}", settings


def clustered_areas() -> Iterator[tuple[str, list[np.ndarray]]]:
    """ROC areas of scores that are correlated within clusters of either side."""
    draws = np.random.default_rng(0)
    methods = (
        lambda score, is_label, _: bootstrap(score, is_label, draws, precise=False),
        intervals.roc_area,
    )
    for size, positive, negative in ((2, 30, 76), (5, 30, 75), (10, 100, 100), (20, 100, 200)):
        is_label = np.arange(positive + negative) < positive
        cluster = np.arange(positive + negative) // size
        for correlation in (0, 0.3, 1):
            settings = []
            for area in (0.86, 0.98):

                def draw(area=area, correlation=correlation, is_label=is_label, cluster=cluster):
                    one, own = draws.normal(size=cluster[-1] + 1)[cluster], draws.normal(size=len(cluster))
                    score = correlation**0.5 * one + (1 - correlation) ** 0.5 * own
                    return score + is_label * ndtri(area) * 2**0.5, is_label, cluster

                settings.append(measured(draw, area, methods, FEWER_SETS))
            yield f"{positive} against {negative} in clusters of {size}, correlation {correlation}", settings


def areas_across() -> Iterator[tuple[str, list[np.ndarray]]]:
    """ROC areas of clusters with images of both sides, which are far apart in easy clusters and near in hard ones."""
    draws = np.random.default_rng(0)
    methods = (
        lambda score, is_label, _: bootstrap(score, is_label, draws, precise=False),
        intervals.roc_area,
    )

    def scores(ease, is_label):
        return np.where(is_label, 1, -1) * np.maximum(0, ease) + draws.normal(size=len(is_label))

    for clusters, size in ((10, 10), (20, 10), (40, 10), (10, 40), (20, 40)):
        cluster = np.arange(clusters).repeat(size)
        for every in (2, 3):
            settings = []
            for ease in (0.7, 1):
                many = np.arange(600_000) % every == 0
                rank = scores(draws.normal(ease, 1, len(many)), many).argsort().argsort()
                positive = many.sum()
                below = rank[many].sum() - positive * (positive - 1) / 2
                is_label = np.arange(len(cluster)) % every == 0

                def draw(ease=ease, is_label=is_label, cluster=cluster, clusters=clusters):
                    return scores(draws.normal(ease, 1, clusters)[cluster], is_label), is_label, cluster

                truth = below / positive / (len(many) - positive)
                settings.append(measured(draw, truth, methods, FEWER_SETS))
            share = {2: "half", 3: "a third"}[every]
            yield f"{clusters} clusters of {size}, {share} with the label", settings


def tests() -> None:
    """How often McNemar's test finds a difference, of equally good classifiers and of different ones."""
    draws = np.random.default_rng(0)
    print(
        "\n**McNemar's test: share of p-values up to 0.05**\n\n"
        "| clusters | correlation | true gain | on images, before | Durkalski | on clusters, now |\n|---|---|---|---|---|---|"
    )
    for clusters, size in ((107, 1), (20, 5), (10, 10), (40, 10), (25, 20)):
        cluster = np.arange(clusters).repeat(size)
        for correlation in (0, 0.3) if size > 1 else (0,):
            for gain in (0, 0.5):  # of the images that change, (1 + gain) / 2 are gained
                found = np.zeros(3)
                for _ in range(SETS):
                    changed = draws.random(len(cluster)) < 0.2
                    expected = np.full(clusters, (1 + gain) / 2)
                    gained = correct(draws, expected, cluster, correlation=correlation)
                    difference = np.bincount(cluster, changed * np.where(gained, 1, -1), clusters).astype(int)
                    shares = difference / size
                    statistic = shares.sum() ** 2 / max((shares**2).sum(), 1e-12)
                    found += [
                        binomtest(int((changed & gained).sum()), int(changed.sum())).pvalue <= 0.05,
                        chi2.sf(statistic, 1) <= 0.05,
                        comparison.permutation_p_value(difference) <= 0.05,
                    ]
                print(
                    f"| {clusters} of {size} | {correlation} | {gain * 0.2:.0%} | "
                    + " | ".join(f"{one:.0%}" for one in found / SETS)
                    + " |",
                    flush=True,
                )


def calibration_errors() -> None:
    """How often exact probabilities are above the range by chance, of images in clusters."""
    draws = np.random.default_rng(0)
    print(
        "\n**Called miscalibrated: exact probabilities, and ones about 0.1 too low**\n\n"
        "| 200 images | before | now |\n|---|---|---|"
    )
    for off, size, correlation in ((0, 1, 0), (0, 5, 0), (0, 5, 0.3), (0, 20, 0.3), (0.1, 1, 0), (0.1, 5, 0)):
        cluster, called = np.arange(200) // size, np.zeros(2)
        for _ in range(FEWER_SETS):
            confidence = np.clip(0.5 + 0.5 * draws.beta(6, 1.2, 200), 0.51, 0.999)
            if off:
                confidence = np.maximum(0.88 * confidence, 0.51)
            own, one = draws.random(200), draws.random(200)[cluster]
            number = np.where(draws.random(200) < correlation**0.5, one, own)
            truth = np.where(number < confidence + off, "given", "other").tolist()
            probabilities = np.stack([confidence, 1 - confidence], axis=1)
            for k, names in enumerate(((), tuple(map(str, cluster)))):
                evaluation = metrics.evaluate(
                    ["given", "other"], [""] * 200, truth, probabilities, probabilities, cluster=names
                )
                found = calibration.reliability(evaluation)
                called[k] += found.expected_calibration_error > found.expected_calibration_error_by_chance[1]
        before, now = called / FEWER_SETS
        name = f"{off} too low" if off else "exact"
        print(
            f"| {name}, clusters of {size}, correlation {correlation} | {before:.0%} | {now:.0%} |",
            flush=True,
        )


def main() -> None:
    show("Accuracy, independent images (exact; accuracies 0.5 to 0.99)", shares())
    show("Accuracy, images in clusters", clustered_shares(correct, SIZES))
    show("Accuracy, half of the images in clusters of ten", unequal_clusters())
    show("Accuracy, one group beside single images", groups_beside_single_images())
    show("Accuracy, part of each cluster right or wrong as one", clustered_shares(copied, (5, 10, 20)))
    show("Accuracy, two to four clusters", clustered_shares(correct, (5, 20), (2, 3, 4)))
    show("Class-averaged accuracy", averages())
    show("Class-averaged accuracy, clusters of 2 to 20 within a label", clustered_averages(across=False))
    show("Class-averaged accuracy, clusters of 2 to 20 across labels", clustered_averages(across=True))
    show("Class-averaged accuracy, clusters only in the hard label", grouped_averages())
    show(f"ROC area ({', '.join(KINDS)})", areas(precise=False))
    show("ROC area, images in clusters", clustered_areas())
    show("ROC area, images of both sides in clusters", areas_across())
    show("Average precision, of the same scores", areas(precise=True))
    tests()
    calibration_errors()


if __name__ == "__main__":
    main()

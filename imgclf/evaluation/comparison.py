"""Whether one classifier is better than another: McNemar's test on the same test images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgclf import ImgclfError
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Evaluation
from imgclf.parameters import SVM

SIGNIFICANCE = 0.05  # largest p-value that counts as a real difference
POWER = 0.8  # probability of detecting a real difference, for the required sample size
MAX_SAMPLE_SIZE = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images, before and after a change.

    Attributes
    ----------
    images : test images that both have scored.
    before, after : accuracy of each, 0 to 1.
    gained : images that only the later classifier predicts correctly.
    lost : images that only the earlier classifier predicts correctly.
    p_value : probability, 0 to 1, that two equally good classifiers differ at least as much.
    clusters : independent clusters of the images; as many as images if all are independent.
    design_effect : variance of `gained` minus `lost`, of equally good classifiers, in multiples of that of
        independent images; at least 1.
    """

    images: int
    before: float
    after: float
    gained: int
    lost: int
    p_value: float
    clusters: int
    design_effect: float

    @property
    def required_sample_size(self) -> int | None:
        """Test images needed to detect a difference of this size with a power of 0.8; None without one.

        Source: McNemar's test with a normal approximation: R. Connor, "Sample size for testing differences
        in proportions for the paired-sample design", Biometrics 43 (1987), p. 207; in clusters like those of
        these images it takes `design_effect` times as many.
        """
        from scipy.special import ndtri

        discordant, gain = (self.gained + self.lost) / self.images, (self.gained - self.lost) / self.images
        if not gain:
            return None
        z_alpha, z_beta = ndtri(1 - SIGNIFICANCE / 2), ndtri(POWER)
        needed = (z_alpha * np.sqrt(discordant) + z_beta * np.sqrt(discordant - gain**2)) ** 2 / gain**2
        return int(min(np.ceil(needed * self.design_effect), MAX_SAMPLE_SIZE))

    def __str__(self) -> str:
        points = (self.after - self.before) * 100
        change = (
            f"{points:+.1f} points: of {self.images} test images, {self.gained} are correct only after the "
            f"change, {self.lost} only before"
        )
        test = "McNemar's exact test"
        if self.clusters < self.images:
            test += f", permuting whole clusters ({self.clusters} of these images)"
        test += f": p = {self.p_value:.2g}"
        if self.p_value <= SIGNIFICANCE:
            answer = "Yes, it helped" if points > 0 else "No, it did harm"
            return f"{answer}: {change}. {test}: significant, chance alone seldom makes such a difference."
        if not points:
            return f"No difference: {change}. {test}."
        return (
            f"Not significant: {change}. {test}: chance alone often makes such a difference. If it is real, "
            f"detecting it takes about {self.required_sample_size:,} test images."
        )


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """Compare two classifiers by McNemar's exact test, which permutes whole clusters of images.

    Null hypothesis: of the images of a cluster that one classifier predicts correctly and the other does not,
    it could as well be the other way round.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947), p. 153; for clusters the permutation test of R. Fisher, "The design
    of experiments", 1935, section 21.

    Raises
    ------
    ImgclfError : the two evaluations hold different images, or different labels for them.
    """
    if set(_keys(before)) != set(_keys(after)):
        raise ImgclfError(
            f"the two were tested on different images or labels ({len(before.truth)} and {len(after.truth)} "
            "images); run both again, from 03_run_dnn on, with the same split"
        )
    was_correct = dict(zip(_keys(before), before.correct.tolist(), strict=True))
    first = np.array([was_correct[key] for key in _keys(after)])
    gained, lost = ~first & after.correct, first & ~after.correct
    source = after if after.cluster else before  # scores of version 0.1.0 have no clusters
    cluster_of = dict(zip(_keys(source), source.cluster_number.tolist(), strict=True))
    cluster = np.array([cluster_of[key] for key in _keys(after)])
    difference = np.bincount(cluster, gained) - np.bincount(cluster, lost)
    return Comparison(
        len(first),
        float(first.mean()),
        float(after.correct.mean()),
        int(gained.sum()),
        int(lost.sum()),
        permutation_p_value(difference.astype(int)),
        source.clusters,
        float(max(1, difference @ difference / max(1, (gained | lost).sum()))),
    )


def on_common_images(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations of the images that all have scored, by content and label, in one order.

    It is that of the first evaluation.
    """
    rows = [{key: row for row, key in enumerate(_keys(evaluation))} for evaluation in evaluations]
    common = [key for key in rows[0] if all(key in others for others in rows[1:])] if rows else []
    return [
        _of_rows(evaluation, [row[key] for key in common])
        for evaluation, row in zip(evaluations, rows, strict=True)
    ]


def _of_rows(evaluation: Evaluation, rows: list[int]) -> Evaluation:
    def chosen(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[row] for row in rows) if values else ()

    return replace(
        evaluation,
        paths=chosen(evaluation.paths),
        sha256=chosen(evaluation.sha256),
        cluster=chosen(evaluation.cluster),
        truth=evaluation.truth[rows],
        scores=evaluation.scores[rows],
        probabilities=evaluation.probabilities[rows],
        missing=(),
        missing_labels=(),
    )


def permutation_p_value(difference: np.ndarray) -> float:
    """Return the probability that the sum of differences with random signs is at least as far from 0.

    It is exact. If all differences, (m,) int, are 1 or -1, it is that of the binomial test.
    """
    sizes = np.abs(difference[difference != 0])
    share = np.ones(1)  # of all signs, by the sum of the sizes with a positive sign
    for size in sizes:
        share = (np.pad(share, (size, 0)) + np.pad(share, (0, size))) / 2
    sums = 2 * np.arange(len(share)) - sizes.sum()
    return float(min(1, share[np.abs(sums) >= abs(difference.sum())].sum()))


def _keys(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What identifies each image in both evaluations: its content, or its path where that is unknown, and its
    label: copies under two labels are two images.
    """
    labels = (evaluation.labels[k] for k in evaluation.truth)
    return list(zip(evaluation.sha256 or evaluation.paths, labels, strict=True))


def scores_file(folder: Path, classifier: str) -> Path:
    """Path of the test scores of this kind of classifier, which are kept beside those of the other kinds."""
    return folder / f"scores_{classifier}.npz"


def compare_with_baseline(
    folder: Path, classifier: str, evaluation: Evaluation, *, evaluated_on: str = "test"
) -> str:
    """Keep these scores, and say whether fine-tuning helped.

    The baseline is the SVM on fixed features.
    """
    if evaluated_on != "test":
        return "not compared: these are training images; set evaluate_on='test'"
    report.write_scores(evaluation, scores_file(folder, classifier))
    if classifier == SVM:
        return (
            f"classifier='{SVM}': nothing was fine-tuned; "
            "its scores are kept as the baseline for a fine-tuned DNN"
        )
    baseline = scores_file(folder, SVM)
    if not baseline.exists():
        return (
            f"no baseline to compare with yet: run 02 to 05 with classifier='{SVM}' once, "
            f"then 02 to 05 again with classifier='{classifier}' (nothing is trained twice)"
        )
    try:
        comparison = compare(report.read_scores(baseline), evaluation)
    except ImgclfError as error:
        return f"not compared: {error}"
    return f"Did fine-tuning help, against the SVM on fixed features? {comparison}"

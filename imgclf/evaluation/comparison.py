"""Whether one classifier is better than another: McNemar's test on the same test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, first_few
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Accuracy, Evaluation
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


@dataclass(frozen=True)
class AfterChanges:
    """The evaluation before and the one after labels or images were changed, each with its own classifier.

    Attributes
    ----------
    before, after : accuracy as it was measured, on the test images and with the labels of its time.
    comparison : of the two on the test images of both, with the labels of now; None without such images.
    relabelled : how many of these have another label than before.
    renamed : for each label that is gone, the one label that all its images have now.
    unknown : labels of these images that the earlier classifier did not know.
    left, joined : paths of the test images that only the earlier, only the later evaluation has.
    """

    before: Accuracy
    after: Accuracy
    comparison: Comparison | None
    relabelled: int
    renamed: Mapping[str, str]
    unknown: tuple[str, ...]
    left: tuple[str, ...]
    joined: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"overall accuracy before: {self.before}, with the labels of then",
            f"overall accuracy now:    {self.after}",
        ]
        if self.comparison is None:
            lines.append("not compared: no test image of before is one now")
        else:
            images = self.comparison.images
            lines += [
                f"on the {images} test images of both, with the labels of now: "
                f"{self.comparison.before:.1%} before, {self.comparison.after:.1%} now",
                f"Did it help? {self.comparison}",
            ]
        if self.relabelled:
            lines.append(f"test images with another label than before: {self.relabelled}")
        if self.renamed:
            names = ", ".join(f"{old} is now {new}" for old, new in self.renamed.items())
            lines.append(f"renamed labels, also in the earlier predictions: {names}")
        if self.unknown:
            lines.append(
                f"labels that the earlier classifier did not know, and so missed: {', '.join(self.unknown)}"
            )
        for paths, what in ((self.left, "left"), (self.joined, "joined")):
            if paths:
                lines.append(f"test images that {what} the test set: {len(paths)} ({first_few(paths)})")
        return "\n".join(lines)


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
    of_before, of_after = _contents(before, after)
    if {*zip(of_before, _labels(before), strict=True)} != {*zip(of_after, _labels(after), strict=True)}:
        raise ImgclfError(
            f"the two were tested on different images or labels ({len(before.truth)} and {len(after.truth)} "
            "images); run both again, from 03_run_dnn on, with the same split"
        )
    return _compare(before, after, np.arange(len(of_after)), {})


def compare_after_changes(before: Evaluation, after: Evaluation) -> AfterChanges:
    """Compare the evaluations before and after labels or images were changed.

    The two are compared on the test images of both, recognized by their content, with the labels of `after`.
    An earlier prediction is correct if it is the label of now. Of a label that was renamed, or merged into
    another one, the earlier predictions count as predictions of the new name.
    """
    of_before, of_after = _contents(before, after)
    then, now = _labels_of(before, of_before), _labels_of(after, of_after)
    renamed = _renamed(before, after, then, now)
    rows = [row for row, content in enumerate(of_after) if content in then]
    truth = _labels(after)
    return AfterChanges(
        before.overall_accuracy,
        after.overall_accuracy,
        _compare(before, after, np.array(rows), renamed) if rows else None,
        sum(truth[row] not in {renamed.get(label, label) for label in then[of_after[row]]} for row in rows),
        renamed,
        tuple(sorted({truth[row] for row in rows} - {*before.labels} - {*renamed.values()})),
        tuple(path for path, content in zip(before.paths, of_before, strict=True) if content not in now),
        tuple(path for path, content in zip(after.paths, of_after, strict=True) if content not in then),
    )


def _compare(
    before: Evaluation, after: Evaluation, rows: np.ndarray, renamed: Mapping[str, str]
) -> Comparison:
    """Compare two classifiers on images of `after`, which both have scored, with the labels of `after`.

    Parameters
    ----------
    rows : (m,) int, of `after`. renamed : the present names of earlier labels.
    """
    of_before, of_after = _contents(before, after)
    names = [renamed.get(label, label) for label in before.labels]
    predicted = {content: names[k] for content, k in zip(of_before, before.predicted, strict=True)}
    truth = _labels(after)
    first = np.array([predicted[of_after[row]] == truth[row] for row in rows])
    second = after.correct[rows]
    gained, lost = ~first & second, first & ~second
    cluster = after.cluster_number[rows]
    if before.cluster and not after.cluster:  # scores of version 0.1.0 have no clusters
        of_content = dict(zip(of_before, before.cluster_number.tolist(), strict=True))
        cluster = np.array([of_content[of_after[row]] for row in rows])
    difference = (np.bincount(cluster, gained) - np.bincount(cluster, lost)).astype(int)
    return Comparison(
        len(rows),
        float(first.mean()),
        float(second.mean()),
        int(gained.sum()),
        int(lost.sum()),
        permutation_p_value(difference),
        len(np.unique(cluster)),
        float(max(1, difference @ difference / max(1, (gained | lost).sum()))),
    )


def on_common_images(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations of the images that all have scored, by content and label, in one order.

    It is that of the first evaluation.
    """
    rows = [
        {key: row for row, key in enumerate(zip(contents, _labels(evaluation), strict=True))}
        for contents, evaluation in zip(_contents(*evaluations), evaluations, strict=True)
    ]
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
        familiarity=evaluation.familiarity[rows] if len(evaluation.familiarity) else evaluation.familiarity,
        missing=(),
        missing_labels=(),
    )


def _contents(*evaluations: Evaluation) -> list[tuple[str, ...]]:
    """Return what identifies each image in all: its content, or its path where one of them lacks it."""
    if all(evaluation.sha256 for evaluation in evaluations):
        return [evaluation.sha256 for evaluation in evaluations]
    return [evaluation.paths for evaluation in evaluations]


def _labels(evaluation: Evaluation) -> list[str]:
    """Return the true label of each image."""
    return [evaluation.labels[k] for k in evaluation.truth]


def _labels_of(evaluation: Evaluation, contents: Sequence[str]) -> dict[str, set[str]]:
    """Return the true labels of each content; copies under two labels have two."""
    found: dict[str, set[str]] = {}
    for content, label in zip(contents, _labels(evaluation), strict=True):
        found.setdefault(content, set()).add(label)
    return found


def _renamed(
    before: Evaluation, after: Evaluation, then: Mapping[str, set[str]], now: Mapping[str, set[str]]
) -> dict[str, str]:
    """Return the new name of each label that is gone, if its images have one label now."""
    found = {}
    for label in [label for label in before.labels if label not in after.labels]:
        names = [now[content] for content, labels in then.items() if labels == {label} and content in now]
        if len(together := set().union(*names)) == 1:
            found[label] = together.pop()
    return found


def permutation_p_value(difference: np.ndarray) -> float:
    """Return the probability that the sum of differences with random signs is at least as far from 0.

    It is exact. If all differences, (m,) int, are 1 or -1, it is that of the binomial test.
    """
    from scipy.stats import binom

    sizes = np.sort(np.abs(difference[difference != 0]))
    alone = int((sizes == 1).sum())  # nearly all: of these, the sum with a positive sign is binomial
    share = binom.pmf(np.arange(alone + 1), alone, 0.5)  # of all signs, by that sum
    for size in sizes[alone:]:
        share = (np.pad(share, (size, 0)) + np.pad(share, (0, size))) / 2
    sums = 2 * np.arange(len(share)) - sizes.sum()
    return float(min(1, share[np.abs(sums) >= abs(difference.sum())].sum()))


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

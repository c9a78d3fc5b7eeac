"""Whether one classifier is better than another, from what both say of the same test images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import ImgclfError
from imgclf.evaluation import report
from imgclf.evaluation.metrics import Evaluation
from imgclf.parameters import SVM

SURE = 0.05  # chance differences are at most this likely to be called real
POWER = 0.8  # how likely a real difference is to be found, where we say how many images that takes
MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images, before and after a change.

    Attributes
    ----------
    images : how many both have scored.
    before, after : accuracy of each on them, 0 to 1.
    mended : images that only the later one has right. broken : those that only the earlier one has right.
    p_value : how likely two equally good classifiers would differ as much or more, 0 to 1.
    """

    images: int
    before: float
    after: float
    mended: int
    broken: int
    p_value: float

    @property
    def images_to_tell(self) -> int | None:
        """Test images that a difference like this one takes to be found in four of five tries; None if there is no difference.

        Source: McNemar's test with a normal approximation: R. Connor, "Sample size for testing differences in proportions for the paired-sample
        design", Biometrics 43 (1987), p. 207.
        """
        from scipy.special import ndtri

        differ, gain = (self.mended + self.broken) / self.images, (self.mended - self.broken) / self.images
        if not gain:
            return None
        needed = (
            ndtri(1 - SURE / 2) * np.sqrt(differ) + ndtri(POWER) * np.sqrt(differ - gain**2)
        ) ** 2 / gain**2
        return int(min(np.ceil(needed), MOST_IMAGES))

    def __str__(self) -> str:
        points = (self.after - self.before) * 100
        change = f"{points:+.1f} points: {self.mended} of {self.images} test images are right now and were wrong before, {self.broken} the other way round"
        test = f"McNemar's exact test gives p = {self.p_value:.2g}"
        if self.p_value <= SURE:
            return f"Yes, it {'helped' if points > 0 else 'did harm'}: {change}. {test}: chance alone seldom does that."
        if not points:
            return f"No difference: {change}. {test}."
        return (
            f"Perhaps: {change}. {test}: chance alone does that too often to be sure. If the difference is real, it would take about "
            f"{self.images_to_tell:,} test images to show it."
        )


def compare(before: Evaluation, after: Evaluation) -> Comparison:
    """McNemar's exact test: of the images that one classifier has right and the other wrong, as many should fall to each if they are equally good.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", Psychometrika 12 (1947), p. 153;
    exact by the binomial distribution (`scipy.stats.binomtest`).

    Raises
    ------
    ImgclfError : they have not scored the same images under the same labels.
    """
    from scipy.stats import binomtest

    truth = [dict(zip(_names(of), (of.labels[k] for k in of.truth), strict=True)) for of in (before, after)]
    if truth[0] != truth[1]:
        raise ImgclfError(
            f"the two were tested on different images or labels ({len(truth[0])} and {len(truth[1])} images); run both again, "
            "from 03_run_dnn on, with the same split"
        )
    was_right = dict(zip(_names(before), before.right.tolist(), strict=True))
    right = np.array(
        [[was_right[name], now] for name, now in zip(_names(after), after.right.tolist(), strict=True)]
    )
    mended, broken = int((~right[:, 0] & right[:, 1]).sum()), int((right[:, 0] & ~right[:, 1]).sum())
    p_value = float(binomtest(mended, mended + broken, 0.5).pvalue) if mended + broken else 1.0
    return Comparison(
        len(right), float(right[:, 0].mean()), float(right[:, 1].mean()), mended, broken, p_value
    )


def _names(of: Evaluation) -> tuple[str, ...]:
    return of.sha256 or of.paths


def scores_file(folder: Path, classifier: str) -> Path:
    """Where the scores of the test images by this kind of classifier are kept, beside those of the other kinds."""
    return folder / f"scores_{classifier}.npz"


def verdict(folder: Path, classifier: str, evaluation: Evaluation, *, evaluated_on: str = "test") -> str:
    """Keep these scores, and say in words whether refining the network helped, against the SVM on fixed features."""
    if evaluated_on != "test":
        return "not compared: these images were learned from; evaluate_on='test' tells"
    report.write_scores(evaluation, scores_file(folder, classifier))
    if classifier == SVM:
        return f"classifier='{SVM}': nothing was refined; the scores are kept to compare a refined DNN with"
    fixed = scores_file(folder, SVM)
    if not fixed.exists():
        return (
            f"nothing to compare with yet: run 02 to 05 with classifier='{SVM}' once, then 02 to 05 again with classifier='{classifier}' "
            "(nothing is trained twice)"
        )
    try:
        return f"Did refining help, against the SVM on fixed features? {compare(report.read_scores(fixed), evaluation)}"
    except ImgclfError as error:
        return f"not compared: {error}"

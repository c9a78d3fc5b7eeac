"""What a search over C found: the head, and the evaluation of each candidate."""

from dataclasses import dataclass

import numpy as np

from imgclf.svm.head import Head

BY_C = "accuracy_over_c"  # in the metadata of a classifier


@dataclass(frozen=True)
class CSearch:
    """A head, and the evaluation of each candidate C on images that its estimator was not trained on.

    The images are scored out of fold (cross-validation) or are a validation set. A head whose C was not
    searched has empty tuples.

    Attributes
    ----------
    head : of the chosen C, trained on all rows.
    oof_scores : (n, k) out-of-fold scores of the chosen C, in the order of the training images; -inf for a
        label without training images in that fold, and in all columns for an image that was never held out.
    c : the candidates, ascending. The four tuples below have a value for each.
    train_accuracy : class-averaged accuracy on the training images, 0 to 1.
    cv_accuracy : class-averaged accuracy on the held-out images, 0 to 1; NaN if there were none.
    correct : number of held-out images predicted right.
    cross_entropy : mean cross-entropy of the held-out images after temperature scaling, in nats.
    best : position of the chosen C in `c`; see `select_c`.
    most_accurate : position of the C of the highest `cv_accuracy`; of equal ones, the chosen one if it is
        among them, else that of the smallest cross-entropy. Of those that were tried on all images.
    images : number of images that each C was tried on; see `dropped`.
    """

    head: Head
    oof_scores: np.ndarray
    c: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    cv_accuracy: tuple[float, ...] = ()
    correct: tuple[int, ...] = ()
    cross_entropy: tuple[float, ...] = ()
    best: int = 0
    most_accurate: int = 0
    images: tuple[int, ...] = ()

    @property
    def held_out(self) -> np.ndarray:
        """(m,) int, rows of the images that were held out, so that their scores are out of fold."""
        return np.flatnonzero(np.isfinite(self.oof_scores).any(axis=1))

    @property
    def by_c(self) -> dict[str, list[float]]:
        """The candidates as plain values, for the metadata of a classifier under `BY_C`."""
        return {
            "C": list(self.c),
            "training accuracy": list(self.train_accuracy),
            "out-of-fold accuracy": list(self.cv_accuracy),
        }

    @property
    def is_by_accuracy(self) -> bool:
        """Whether the C was chosen by its accuracy on held-out images."""
        return bool(self.cv_accuracy) and not np.isnan(self.cv_accuracy[self.best])

    @property
    def comparison(self) -> str:
        """Why the chosen C was preferred to the one of the highest accuracy; "" if they are the same."""
        if self.best == self.most_accurate or not self.is_by_accuracy:
            return ""
        difference = self.correct[self.most_accurate] - self.correct[self.best]
        count = f"{abs(difference)} {'more' if difference > 0 else 'fewer'}" if difference else "as many"
        largest = f"C = {self.c[self.most_accurate]:g}"
        found = f"{largest} classifies {count} of {len(self.held_out)} images correctly"
        if (
            difference <= 0
            and round(self.cv_accuracy[self.most_accurate] - self.cv_accuracy[self.best], 2) > 0
        ):
            found += f" and a class-averaged accuracy of {self.cv_accuracy[self.most_accurate]:.2f}"
        if self.best < self.most_accurate:
            return f"{found}, within one standard error, and the smaller C regularizes more"
        losses = f"{self.cross_entropy[self.most_accurate]:.2f}, not {self.cross_entropy[self.best]:.2f}"
        return f"{found}, but its probabilities are clearly worse: cross-entropy {losses}"

    @property
    def dropped(self) -> str:
        """Which C were clearly worse on a sample of the images, so that they were not tried on all; or ""."""
        found = []
        for images in sorted(set(self.images))[:-1]:
            some = [f"{c:g}" for c, tried_on in zip(self.c, self.images, strict=True) if tried_on == images]
            found.append(f"C = {', '.join(some)} on {images}")
        return f"clearly worse on some of {max(self.images)} images: {'; '.join(found)}" if found else ""

    @property
    def warning(self) -> str:
        """What to do if the best C, or the most accurate one, lies at the border of the grid; else ""."""
        if not self.is_by_accuracy or len(self.c) == 1:
            return ""
        smallest, largest = self.c[0], self.c[-1]
        if self.head.c == largest:
            return f"warning: the best C is the largest tried, {largest:g}; extend svm_c with larger values"
        if self.head.c == smallest:
            return (
                f"warning: the chosen C is the smallest tried, {smallest:g}; extend svm_c with smaller values"
            )
        if self.c[self.most_accurate] == largest:
            return (
                f"note: the C of the highest accuracy is the largest tried, {largest:g}; "
                "extend svm_c with larger values to see whether the accuracy still rises"
            )
        return ""

    def __str__(self) -> str:
        if not self.c:
            return "no C was searched"
        if not self.is_by_accuracy:
            return (
                f"C = {self.head.c:g}: no image could be held out, so C was not chosen by accuracy; "
                "more images of each label would allow cross-validation"
            )
        found = f"C = {self.head.c:g}: out-of-fold class-averaged accuracy {self.cv_accuracy[self.best]:.2f}"
        return "; ".join(filter(None, [found, self.comparison, self.dropped]))

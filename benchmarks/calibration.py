"""How often intervals of the expected calibration error hold the true one, on simulated test images whose truth is known."""

import numpy as np

from imgclf.evaluation import calibration, metrics
from imgclf.evaluation.metrics import Evaluation

SETS = 200  # of test images
RESAMPLES = 400
IMAGES = (30, 107, 400, 2000)
OFF = (0.0, 0.05)  # by how much every probability is too high


def simulated(draws: np.random.Generator, count: int, off: float) -> Evaluation:
    """Images of two labels that are right with their probability less `off`; nearly all probabilities are high, as those of a good classifier."""
    confidence = np.clip(0.5 + 0.5 * draws.beta(6, 1.2, count), 0.51, 0.999)
    right = draws.random(count) < confidence - off
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    return metrics.evaluate(
        ["given", "other"],
        [""] * count,
        np.where(right, "given", "other").tolist(),
        probabilities,
        probabilities,
    )


def errors_of_resamples(found: Evaluation, draws: np.random.Generator) -> np.ndarray:
    """The expected calibration errors of the images drawn again, (RESAMPLES,)."""
    confidence, right = found.probabilities.max(axis=1), found.right
    position = np.ceil(confidence * calibration.BINS).astype(int)
    rows = draws.integers(0, len(right), (RESAMPLES, len(right)))
    return np.array(
        [np.abs(np.bincount(position[row], (right - confidence)[row])).sum() / len(row) for row in rows]
    )


def main() -> None:
    draws = np.random.default_rng(0)
    for off in OFF:
        for count in IMAGES:
            held = np.zeros(
                3
            )  # by the percentile bootstrap, by the basic one; inside the range of exact probabilities
            errors = []
            for _ in range(SETS):
                found = simulated(draws, count, off)
                told = calibration.reliability(found)
                errors.append(told.expected_error)
                low, high = np.quantile(errors_of_resamples(found, draws), [0.025, 0.975])
                by_chance = told.expected_error_by_chance
                held += (
                    low <= off <= high,
                    max(0, 2 * errors[-1] - high) <= off <= 2 * errors[-1] - low,
                    by_chance[0] <= errors[-1] <= by_chance[1],
                )
            percentile, basic, inside = held / SETS
            print(
                f"{count:>5} images, off by {off:.2f}: mean error found {np.mean(errors):.3f}; held by the percentile bootstrap {percentile:.0%}, "
                f"by the basic one {basic:.0%}; inside the range by chance {inside:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Coverage of intervals of the expected calibration error, in simulations whose true error is known."""

import numpy as np

from imgclf.evaluation import calibration, metrics
from imgclf.evaluation.metrics import Evaluation

SETS = 200  # of test images
RESAMPLES = 400
IMAGES = (30, 107, 400, 2000)
OFF = (0.0, 0.05)  # by how much every probability is too high


def simulated(draws: np.random.Generator, count: int, off: float) -> Evaluation:
    """Images of two labels whose prediction is correct with their probability minus `off`.

    Nearly all probabilities are high, as those of a good classifier.
    """
    confidence = np.clip(0.5 + 0.5 * draws.beta(6, 1.2, count), 0.51, 0.999)
    is_correct = draws.random(count) < confidence - off
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    return metrics.evaluate(
        ["given", "other"],
        [""] * count,
        np.where(is_correct, "given", "other").tolist(),
        probabilities,
        probabilities,
    )


def errors_of_resamples(evaluation: Evaluation, draws: np.random.Generator) -> np.ndarray:
    """Expected calibration errors of bootstrap resamples of the images, (RESAMPLES,)."""
    confidence, correct = evaluation.probabilities.max(axis=1), evaluation.correct
    position = np.ceil(confidence * calibration.BINS).astype(int)
    rows = draws.integers(0, len(correct), (RESAMPLES, len(correct)))
    return np.array(
        [np.abs(np.bincount(position[row], (correct - confidence)[row])).sum() / len(row) for row in rows]
    )


def main() -> None:
    draws = np.random.default_rng(0)
    for off in OFF:
        for count in IMAGES:
            # Covered by the percentile and by the basic bootstrap; error inside the range by chance.
            covered = np.zeros(3)
            errors = []
            for _ in range(SETS):
                evaluation = simulated(draws, count, off)
                reliability = calibration.reliability(evaluation)
                errors.append(reliability.expected_calibration_error)
                low, high = np.quantile(errors_of_resamples(evaluation, draws), [0.025, 0.975])
                by_chance = reliability.expected_calibration_error_by_chance
                covered += (
                    low <= off <= high,
                    max(0, 2 * errors[-1] - high) <= off <= 2 * errors[-1] - low,
                    by_chance[0] <= errors[-1] <= by_chance[1],
                )
            percentile, basic, inside = covered / SETS
            print(
                f"{count:>5} images, off by {off:.2f}: mean measured error {np.mean(errors):.3f}; coverage of the percentile bootstrap {percentile:.0%}, "
                f"of the basic bootstrap {basic:.0%}; inside the range by chance {inside:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()

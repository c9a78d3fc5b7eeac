"""Calibration of scores by a temperature: probabilities are softmax(scores / temperature)."""

import numpy as np

LOG_TEMPERATURE_BOUNDS = (-5.0, 5.0)


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(scores / temperature), (n, k); a score of -inf has a probability of 0."""
    from scipy.special import softmax

    return np.asarray(softmax(scores / temperature, axis=1))


def fit_temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """Return the temperature that maximizes the likelihood of held-out scores; 1 where there are none.

    With Laplace's rule of succession, as in J. Platt, "Probabilistic outputs for support vector machines",
    1999, section 2.2: as if one more image of each label had been held out and scored evenly. Without this
    smoothing, error-free held-out predictions drive the probabilities to 0 and 1, which few images do not
    justify.

    Parameters
    ----------
    scores : (n, k), -inf for a label that was not trained on. y : (n,) int, positions of the true labels.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = _calibration_rows(scores, y)
    if not len(rows):
        return 1.0
    scores, y = scores[rows], y[rows]
    images, k = scores.shape
    targets = (np.eye(k)[y] * images + 1) / (images + k)

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -(targets * np.where(np.isfinite(scores), log_probabilities, 0)).sum(axis=1).mean()

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded").x))


def _calibration_rows(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the rows whose label, and at least one other, was known to the estimator that scored them."""
    is_known = np.isfinite(scores[np.arange(len(y)), y]) & (np.isfinite(scores).sum(axis=1) > 1)
    return np.flatnonzero(is_known)


def calibrated_losses(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each calibration row after temperature scaling; a 0 if there is none."""
    rows = _calibration_rows(scores, y)
    return cross_entropy(scores[rows] / fit_temperature(scores, y), y[rows]) if len(rows) else np.zeros(1)


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cross-entropy (n,) of logits (n, k), in nats; `y` : (n,) int, the true labels."""
    from scipy.special import log_softmax

    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]

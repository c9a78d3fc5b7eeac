"""Random draws that are determined by a name alone."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


class Draws:
    """A stream of random draws; the same `name` returns the same values in every process.

    Only `random` of numpy's generator is used: its stream is a plain function of PCG64's bits, whereas
    `normal`, `choice` and `shuffle` may change with numpy.
    """

    def __init__(self, name: str):
        seed = int.from_bytes(sha256(name.encode()).digest()[:16], "big")
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low: float, high: float) -> float:
        """A number from the uniform distribution between `low` and `high`."""
        return low + (high - low) * float(self._generator.random())

    def uniform_scale(self, low: float, high: float) -> float:
        """A positive number between `low` and `high`: in half of all cases uniform, else its inverse is."""
        return 1.0 / self.uniform(1.0 / high, 1.0 / low) if self.bernoulli(0.5) else self.uniform(low, high)

    def bernoulli(self, probability: float) -> bool:
        """True with this probability, 0 to 1."""
        return float(self._generator.random()) < probability

    def choice(self, options: Sequence[Option]) -> Option:
        """One of `options`, all equally probable."""
        return options[int(self.uniform(0, len(options)))]

    def weighted_choice(self, weights: Mapping[Option, float]) -> Option:
        """One key of `weights`, with a probability in proportion to its value."""
        rest = self.uniform(0, sum(weights.values()))
        for option, weight in weights.items():
            rest -= weight
            if rest < 0:
                return option
        return option

    def sign(self) -> float:
        """1.0 or -1.0, equally probable."""
        return 1.0 if self.bernoulli(0.5) else -1.0

    def uniform_array(self, *shape: int) -> np.ndarray:
        """A float32 array of `shape`, uniform between 0 and 1."""
        return self._generator.random(shape).astype(np.float32)

    def noise_grid(self) -> np.ndarray:
        """Random values for `noise_at`, (65, 65) float32; the last row and column repeat the first."""
        return np.pad(self.uniform_array(64, 64), (0, 1), mode="wrap")

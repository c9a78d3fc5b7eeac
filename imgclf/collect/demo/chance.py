"""Random choices that a name alone decides."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np


class Draws:
    """A stream of random choices; the same `name` gives the same choices in every process.

    Only `random` of numpy's generator is used: its stream is a plain function of PCG64's bits, whereas `normal`,
    `choice` and `shuffle` may change with numpy.
    """

    def __init__(self, name: str):
        seed = int.from_bytes(sha256(name.encode()).digest()[:16], "big")
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`, all alike probable."""
        return low + (high - low) * float(self._generator.random())

    def between_scales(self, low: float, high: float) -> float:
        """A positive number from `low` to `high`, with as many near `low`, relative to their size, as near `high`."""
        return 1.0 / self.between(1.0 / high, 1.0 / low) if self.chance(0.5) else self.between(low, high)

    def chance(self, share: float) -> bool:
        """True in `share` (0 to 1) of all cases."""
        return float(self._generator.random()) < share

    def pick(self, options: Sequence):
        """One of `options`, all alike probable."""
        return options[int(self.between(0, len(options)))]

    def weighted(self, weights: Mapping):
        """One key of `weights`, as probable as its value is large."""
        rest = self.between(0, sum(weights.values()))
        for option, weight in weights.items():
            rest -= weight
            if rest < 0:
                break
        return option

    def sign(self) -> float:
        """1.0 or -1.0."""
        return 1.0 if self.chance(0.5) else -1.0

    def table(self, *shape: int) -> np.ndarray:
        """A float32 array of `shape` with numbers from 0 to 1."""
        return self._generator.random(shape).astype(np.float32)

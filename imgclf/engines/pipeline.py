"""Image files through a network, while decoding and the network overlap."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from imgclf.engines import Engine
from imgclf.images.loading import Skipped, Source, load
from imgclf.images.preprocessing import Preprocessing

Outputs = tuple[np.ndarray, ...]


def run(
    network: Engine, wanted: Sequence[Source], preprocessing: Preprocessing, *, batch_size: int
) -> Iterator[tuple[int, Outputs | Skipped]]:
    """(i, outputs of the network) for each image file; (i, why it was skipped) for one that cannot be read, which may come early."""
    positions: deque[list[int]] = deque()
    skipped: deque[tuple[int, Skipped]] = deque()

    def batches() -> Iterator[np.ndarray]:
        batch: list[tuple[int, np.ndarray]] = []
        for i, found in enumerate(load(wanted, preprocessing)):
            if isinstance(found, Skipped):
                skipped.append((i, found))
                continue
            batch.append((i, found))
            if len(batch) == batch_size:
                yield stacked(batch)
                batch = []
        if batch:
            yield stacked(batch)

    def stacked(batch: list[tuple[int, np.ndarray]]) -> np.ndarray:
        positions.append([i for i, _ in batch])
        return np.stack([pixels for _, pixels in batch])

    for outputs in network.run(batches()):
        for row, i in enumerate(positions.popleft()):
            yield i, tuple(output[row] for output in outputs)
        while skipped:
            yield skipped.popleft()
    yield from skipped

"""Inference on image files: decoding and the network run in parallel."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from imgclf.engines import Engine
from imgclf.images.loading import Skipped, Source, load
from imgclf.images.preprocessing import Preprocessing

Outputs = tuple[np.ndarray, ...]


def run(
    network: Engine, sources: Iterable[Source], preprocessing: Preprocessing, *, batch_size: int
) -> Generator[tuple[int, Outputs | Skipped]]:
    """Yield (i, outputs of the network) for each image file, (i, reason) for one that cannot be read.

    Outputs are in order of the files; a skipped file may come early.
    """
    positions: deque[list[int]] = deque()
    skipped: deque[tuple[int, Skipped]] = deque()

    def batches() -> Iterator[np.ndarray]:
        batch: list[tuple[int, np.ndarray]] = []
        for i, image in enumerate(load(sources, preprocessing)):
            if isinstance(image, Skipped):
                skipped.append((i, image))
                continue
            batch.append((i, image))
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

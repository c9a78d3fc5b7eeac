"""Loading image files: decoded and preprocessed in threads, ahead of who needs them."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf import ImgclfError
from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing

LOOK_AHEAD = 32  # images decoded before they are needed


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """An image file to be read, and the sha256 that its content must have; "" if any will do."""

    path: Path
    sha256: str = ""

    def pixels(self, preprocessing: Preprocessing) -> np.ndarray:
        """Decoded and letterboxed; (S, S, 3) uint8, RGB."""
        encoded = decoding.read_bytes(self.path)
        if self.sha256 and hashlib.sha256(encoded).hexdigest() != self.sha256:
            raise ImgclfError(
                f"{self.path.name}: is another picture than 01_prepare_data saw; run 01_prepare_data again"
            )
        return preprocessing.apply(encoded, self.path.name)


def load(wanted: Iterable[Source], preprocessing: Preprocessing) -> Iterator[np.ndarray | Skipped]:
    """For each image file, in order, its pixels (S, S, 3) uint8, RGB; or why it cannot be read."""

    def pixels_or_reason(source: Source) -> np.ndarray | Skipped:
        try:
            return source.pixels(preprocessing)
        except ImgclfError as error:
            return Skipped(str(source.path), str(error))

    with ThreadPoolExecutor(cpu_count()) as pool:
        coming = iter(wanted)
        ahead = deque(pool.submit(pixels_or_reason, source) for source in islice(coming, LOOK_AHEAD))
        while ahead:
            found = ahead.popleft()
            ahead.extend(pool.submit(pixels_or_reason, source) for source in islice(coming, 1))
            yield found.result()


def load_all(paths: Sequence[Path], preprocessing: Preprocessing) -> np.ndarray:
    """The pixels of all image files that can be read; (n, S, S, 3) uint8, RGB.

    Raises
    ------
    ImgclfError : none can be read.
    """
    if not paths:
        raise ImgclfError("no images were given")
    found = list(load(map(Source, paths), preprocessing))
    pixels = [image for image in found if not isinstance(image, Skipped)]
    if not pixels:
        raise ImgclfError(f"none of the {len(paths)} images could be read; the first: {found[0].reason}")
    return np.stack(pixels)


def skipped_note(skipped: Sequence[Skipped]) -> str:
    """A sentence about images that could not be read, with the reasons of the first three."""
    return "; ".join([f"{len(skipped)} images could not be read", *(image.reason for image in skipped[:3])])

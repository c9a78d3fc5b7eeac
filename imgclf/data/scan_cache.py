"""The cache of the scan: what is known of the contents of image files, so that none is decoded twice.

It is the list of the last scan and, while a scan runs, parts of the next one, so that a killed scan goes on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.data import dataset, tables
from imgclf.data.dataset import Image

PART_IMAGES = 512  # written to disk at once: what a killed scan loses at most


def read(name: str) -> dict[str, Image]:
    """Return the images that were scanned, by the sha256 of their contents.

    Lists of earlier versions are left out: their hashes differ in a few bits, and they have no sharpness.

    Raises
    ------
    ImgclfError : `images.tsv` is damaged.
    """
    known: dict[str, Image] = {}
    for part in sorted(_folder(name).glob("*.tsv")):
        with suppress(ImgclfError):  # damaged: its images are decoded again
            known |= _images(part)
    table = dataset.images_table(name)
    return known | _images(table) if table.exists() else known


def _images(table: Path) -> dict[str, Image]:
    images = {image.sha256: image for image in dataset.read_images(table) if image.width}
    return images if "sharpness" in tables.header(table) else {}


def add(name: str, images: Sequence[Image]) -> None:
    """Keep images until the scan ends: one more part, by an atomic write."""
    # Named by its images, so that two processes never write the same part differently.
    part = hashlib.sha256("".join(image.sha256 for image in images).encode()).hexdigest()[:16]
    tables.write(_folder(name) / f"{part}.tsv", map(vars, images), dataset.COLUMNS)


def read_signatures(name: str) -> dict[str, np.ndarray]:
    """Return the signatures that were kept, see `duplicates.signature`, by the sha256 of the contents."""
    with suppress(OSError, ValueError):  # there are none, or they are damaged: the images are read again
        arrays = files.read_npz(_signatures(name), "sha256", "signatures")
        return dict(zip(arrays["sha256"].tolist(), arrays["signatures"], strict=True))
    return {}


def keep_signatures(name: str, signatures: Mapping[str, np.ndarray]) -> None:
    """Keep the signatures of images at a URL, which would be downloaded again to compare them."""
    keys, vectors = np.array(list(signatures)), np.array(list(signatures.values()))
    files.write_npz(_signatures(name), {"sha256": keys, "signatures": vectors})


def _signatures(name: str) -> Path:
    return files.proc_dir(name) / "copies" / "signatures.npz"


def _folder(name: str) -> Path:
    return files.proc_dir(name) / dataset.PARTS

"""How many altered copies of 100 photographs are found, for each alteration, and how many pairs are false.

`python benchmarks/copies.py FOLDER` takes the images of a folder of label folders; without one, photographs or the demo set.
Each altered copy hides among all of them; "hash" is the perceptual hash and signature alone. Pairs among the images themselves
are listed: look at them.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from label_errors import chosen_folder

from imgclf import features
from imgclf.data import dataset, scan
from imgclf.features import copy_detection
from imgclf.features.neighbours import neighbours
from imgclf.images import alignment, decoding, duplicates
from imgclf.images.preprocessing import Preprocessing
from support.alterations import ALTERATIONS, altered

COPIES = 100
LOW_QUALITY = {"saved again, quality 75": 75, "saved again, quality 10": 10}


def main(folder: Path) -> None:
    """Print the table."""
    scanned = scan.scan_folder("originals", folder)
    paths = [scanned.file(image) for image in scanned.images]
    chosen = np.sort(np.random.default_rng(0).choice(len(paths), COPIES, replace=False))
    network = copy_detection.network()
    preprocessing = Preprocessing(copy_detection.INPUT_SIZE)

    def described(contents: list[bytes]) -> np.ndarray:
        return features.extract(network, np.stack([preprocessing.apply(content) for content in contents]))

    originals = described([path.read_bytes() for path in paths])
    pictures = [decoding.read(paths[i]) for i in chosen]
    kept = [(grey := alignment.grey(pixels), alignment.keypoints(grey)) for pixels in pictures]
    print(f"{COPIES} copies among {len(paths)} photographs: by hash, neighbours, found")
    for name in (*LOW_QUALITY, *ALTERATIONS):
        is_plain = name in LOW_QUALITY
        copies = [
            altered("saved again, quality 90", pixels, quality=LOW_QUALITY[name])
            if is_plain
            else altered(name, pixels)
            for pixels in pictures
        ]
        pairs = set(map(tuple, neighbours(np.concatenate([originals, described(copies)])).tolist()))
        near = [(int(i), len(paths) + k) in pairs for k, i in enumerate(chosen)]
        decoded = [decoding.decode(copy) for copy in copies]
        by_hash = [is_near(*pair) for pair in zip(pictures, decoded, strict=True)]
        aligned = [
            is_near and is_copy(one, pixels) for is_near, one, pixels in zip(near, kept, decoded, strict=True)
        ]
        found = sum(a or b for a, b in zip(by_hash, aligned, strict=True))
        print(f"{name:50s} {sum(by_hash):4d} {sum(near):4d} {found:4d}", flush=True)


def is_near(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the perceptual hash and the signature of two pictures match."""
    pictures = (one, other)
    return bool(
        duplicates.near_duplicates(
            [duplicates.dhash(pixels) for pixels in pictures], lambda i: duplicates.signature(pictures[i])
        )
    )


def is_copy(one: tuple[np.ndarray, np.ndarray], pixels: np.ndarray) -> bool:
    """Whether a picture, after alignment, shows the same as one with its keypoints."""
    grey = alignment.grey(pixels)
    points = alignment.keypoints(grey)
    if not alignment.may_align(one[1], points[None])[0]:
        return False
    transform = alignment.alignment(one[1], points)
    return transform is not None and alignment.is_copy(one[0], grey, transform)


def false_pairs(folder: Path) -> None:
    """Print the pairs that are found in a folder of label folders, and the time."""
    start = time.perf_counter()
    before = scan.scan_folder("photographs", folder)
    between = time.perf_counter()
    found = copy_detection.scan_folder("photographs", folder)
    print(
        f"{len(found.files)} images: {len(before.duplicates)} pairs by hash in {between - start:.0f} s, "
        f"{len(found.duplicates)} in all, {time.perf_counter() - between:.0f} s more"
    )
    for pair in found.duplicates:
        print(f"{pair.kind:5s} {pair.kept.path} {pair.other.path}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data:
        fetched = dataset.images_folder("clothing")
        os.environ["IMGCLF_DATA"] = data
        photographs = chosen_folder(sys.argv[1:], fetched)
        main(photographs)
        false_pairs(photographs)

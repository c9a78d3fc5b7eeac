"""Scanning 50,000 JPEGs for near-duplicates: time beside that of decoding alone, comparison, memory, and planted copies found.

`python benchmarks/near_duplicates.py [FOLDER_OF_LABEL_FOLDERS] [--images 50000]`; by default the photographs, or the demo set.
The images are the quarters of photographs, enlarged to the photograph's size, each also mirrored and upside down, so that no two
have pixels in common. A share of them is planted again: smaller, and with a lower quality.
"""

import argparse
import os
import resource
import tempfile
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from label_errors import chosen_folder

from imgclf.data import dataset, scan
from imgclf.images import decoding, duplicates
from imgclf.images.loading import in_parallel

PLANTED_SHARE = 0.02
LABELS = 10


def views(photograph: np.ndarray) -> list[np.ndarray]:
    """The 16 pictures that are made of a photograph."""
    height, width = photograph.shape[:2]
    quarters = [
        cv2.resize(photograph[y : y + height // 2, x : x + width // 2], (width, height))
        for y in (0, height // 2)
        for x in (0, width // 2)
    ]
    return [
        view
        for quarter in quarters
        for view in (quarter, quarter[:, ::-1], quarter[::-1], quarter[::-1, ::-1])
    ]


def write(photographs: list[Path], folder: Path, count: int) -> set[tuple[str, str]]:
    """Write `count` JPEGs into label folders, planted copies among them; return the planted pairs, by name."""
    planted: set[tuple[str, str]] = set()
    originals = count - round(PLANTED_SHARE * count)
    for label in range(LABELS):
        (folder / f"label_{label}").mkdir(parents=True)

    def encoded(path: Path) -> list[tuple[bytes, bytes]]:
        pictures = [np.ascontiguousarray(view) for view in views(decoding.shrink(decoding.read(path), 400))]
        return [(decoding.jpeg(one, quality=85), smaller(one)) for one in pictures]

    number = 0
    for made in in_parallel(encoded, photographs):
        for original, copy in islice(made, originals - number):
            name = f"label_{number % LABELS}/{number:06d}.jpg"
            (folder / name).write_bytes(original)
            if len(planted) < count - originals and number % round(1 / PLANTED_SHARE) == 0:
                copied = name.replace(".jpg", " copy.jpg")
                (folder / copied).write_bytes(copy)
                planted.add((name, copied))
            number += 1
    return planted


def smaller(pixels: np.ndarray) -> bytes:
    """A copy at 60 % of the size, with a lower quality."""
    return decoding.jpeg(cv2.resize(pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), quality=60)


def timed(name: str, work):
    """Return what `work` returns, and print its time."""
    start, processor = time.perf_counter(), time.process_time()
    result = work()
    print(
        f"{name}: {time.perf_counter() - start:.1f} s, {time.process_time() - processor:.1f} processor seconds, "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB",
        flush=True,
    )
    return result


def main(folder: Path, planted: set[tuple[str, str]]) -> None:
    """Print times, memory, and how many planted copies are found."""
    paths = sorted(folder.rglob("*.jpg"))
    print(
        f"{len(paths)} images, {sum(path.stat().st_size for path in paths) / 1e6:.0f} MB, {len(planted)} planted"
    )
    timed(
        "decoding alone", lambda: sum(1 for _ in in_parallel(lambda path: decoding.read(path).shape, paths))
    )
    scanned = timed(
        "scan without comparison", lambda: scan.scan_folder("many", folder, near_duplicates="ignored")
    )
    hashes = [image.dhash for image in scanned.files]
    timed("comparison of the hashes", lambda: sum(1 for _ in duplicates.close_to_each(hashes)))
    dataset.write(scanned)
    found = timed("second scan, with comparison", lambda: scan.scan_folder("many", folder))
    pairs = {tuple(sorted((pair.kept.path, pair.other.path), key=len)) for pair in found.duplicates}
    print(
        f"planted copies found: {len(pairs & planted)} of {len(planted)}; other pairs: {len(pairs - planted)}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--images", type=int, default=50_000)
    chosen = parser.parse_args()
    fetched = dataset.images_folder("clothing")
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        source = chosen_folder([chosen.folder] if chosen.folder else [], fetched)
        sources = sorted(path for path in source.rglob("*") if decoding.is_image(path))
        made = Path(data) / "images" / "many"
        main(made, write(sources, made, chosen.images))

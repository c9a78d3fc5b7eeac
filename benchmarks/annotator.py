"""Latency of the annotator with 20,000 images, and its memory over 500 pages."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs
from memory import resident_mb

from imgclf.annotation.annotations import Annotations
from imgclf.annotation.consequences import consequences
from imgclf.data import dataset, previous_split, scan, split
from imgclf.widgets.annotator import Annotator

IMAGES, PAGES = 20_000, 500
GRID = (4, 7)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMGCLF_DATA"] = folder
        originals = Path(folder) / "images" / "many"
        photographs.write(originals, IMAGES)
        scanned = scan.scan_folder("many", originals)
        dataset.write(scanned)
        split.write(scanned, split.split(scanned))
        start = time.perf_counter()
        annotator = Annotator(Annotations(scanned), sides=previous_split.read("many"))
        print(
            f"{IMAGES:,} JPEGs of 400 x 533 pixels, pages of {GRID[0]} x {GRID[1]}; opened in {time.perf_counter() - start:.2f} s"
        )
        annotator.grid.value = GRID
        turn_pages(annotator)
        change_labels(annotator)


def milliseconds(work, *arguments) -> float:
    start = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - start)


def report(what: str, times: list[float]) -> None:
    print(f"{what:<58} median {np.median(times):6.1f} ms, longest {max(times):6.1f} ms")


def press(annotator: Annotator, key: str) -> None:
    """Handle a key as the kernel does when the browser sends it."""
    annotator.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])


def turn_pages(annotator: Annotator) -> None:
    """Turn all pages as fast as the kernel can, for a browser that requests every picture and prefetches the next page."""
    turns, answers, whole, early = [], [], [], 0.0
    sheet = annotator.sheet
    for page in range(PAGES):
        start = time.perf_counter()
        turns.append(milliseconds(press, annotator, "PageDown"))
        missing = [tile["key"] for tile in sheet.tiles]
        while missing:
            answered = {}
            answers.append(
                milliseconds(lambda keys=missing, into=answered: into.update(annotator._pictures(keys)))
            )
            missing = [key for key in missing if key not in answered]
        whole.append(1000 * (time.perf_counter() - start))
        if page == 49:
            early = resident_mb()
    report("a page is turned", turns)
    report("a response to the browser's request for pictures", answers)
    report("until all pictures of a page are there, not prefetched", whole)
    print(f"memory after 50 pages {early:.0f} MB, after {PAGES} {resident_mb():.0f} MB")
    time.sleep(2)  # a person looks at the page, while the next one is prefetched
    press(annotator, "Home")
    time.sleep(2)
    waited = []
    for _ in range(10):
        press(annotator, "PageDown")
        waited.append(milliseconds(annotator._pictures, [tile["key"] for tile in sheet.tiles]))
        time.sleep(1)
    report("all pictures of a prefetched page", waited)


def change_labels(annotator: Annotator) -> None:
    press(annotator, "Home")
    report(
        "an image is relabelled: file moved, journal on disk",
        [milliseconds(press, annotator, "2") for _ in range(100)],
    )
    report("the same, undone", [milliseconds(press, annotator, "z") for _ in range(100)])
    report("a page of images is confirmed", [milliseconds(press, annotator, "Enter") for _ in range(100)])
    report("the frame moves", [milliseconds(press, annotator, "ArrowRight") for _ in range(100)])
    report(
        "a filter is chosen",
        [
            milliseconds(lambda name=name: setattr(annotator.filter, "value", name))
            for name in annotator.filter.options
        ],
    )
    report("a pause", [milliseconds(annotator._sync) for _ in range(10)])
    found = annotator.annotations, annotator.sides
    report("consequences of the changes", [milliseconds(consequences, *found) for _ in range(10)])


if __name__ == "__main__":
    main()

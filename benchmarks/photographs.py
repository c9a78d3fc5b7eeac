"""Images for benchmarks: the rendered garments as JPEGs of 400 x 533 pixels, the size of many web photographs."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from imgclf.collect import demo
from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing


def garments(count: int) -> list[np.ndarray]:
    """`count` different garments, each (533, 400, 3) uint8."""
    responses = (demo.response(source) for _, source in demo.sources())
    intact = (
        response.body
        for response in responses
        if response.status == 200
        and response.content_type == "image/jpeg"
        and response.body.endswith(b"\xff\xd9")
    )
    return [
        cv2.resize(decoding.decode(body), (400, 533), interpolation=cv2.INTER_AREA)
        for body in islice(intact, count)
    ]


def write(folder: Path, count: int, *, originals: int = 128) -> list[Path]:
    """Write `count` JPEGs into folder/LABEL; beyond `originals` they are altered copies: shifted, mirrored, brighter."""
    paths = []
    for i, pixels in enumerate(islice(cycle(garments(originals)), count)):
        path = folder / f"label_{i % 4}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(decoding.jpeg(_altered(pixels, i // originals), quality=85))
        paths.append(path)
    return paths


def _altered(pixels: np.ndarray, number: int) -> np.ndarray:
    shifted = np.roll(pixels, (7 * number, 11 * number), axis=(0, 1))
    mirrored = shifted[:, ::-1] if number % 2 else shifted
    return cv2.convertScaleAbs(mirrored, alpha=1 - number % 13 / 40, beta=number % 17)


def batches(pixels: list[np.ndarray], input_size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the preprocessed images in full batches, as a network takes them."""
    prepared = np.stack([Preprocessing(input_size).letterbox(p) for p in pixels])
    for start in range(0, len(prepared) - batch_size + 1, batch_size):
        yield prepared[start : start + batch_size]

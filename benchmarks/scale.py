"""Processor time for each thousand images and peak memory of the stages 01 and 03, for growing data sets.

`python benchmarks/scale.py [--images 1000 4000] [--parts tables features hashes neighbours folder] [--source FOLDER]`; each part
runs in a process of its own. All but `folder` make rows, hashes and vectors instead of images: `tables` writes, reads and splits the
list of images, `features` fills and reads the cache (1,280 values an image), draws the map and finds nearest neighbours, `hashes`
and `neighbours` find candidates of near-duplicates; the latter are also compared, by keypoints of 400 photographs in turn. `folder`
scans tiles of photographs, no two of which have pixels in common, and computes their features with efficientnet_lite0 at 64 pixels.
`--source`: the photographs; by default those of `clothing`, or the demo set.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.cluster.hierarchy  # noqa: F401  # imported here, so that no stage is charged for it
import sklearn.decomposition
import sklearn.preprocessing  # noqa: F401
from label_errors import chosen_folder

from imgclf import features, files, plots
from imgclf.data import copies, dataset, previous_split, split, split_summary
from imgclf.data.dataset import Dataset, Image
from imgclf.data.layout import Layout
from imgclf.features import Cache, Features, copy_detection
from imgclf.features import neighbours as nearest
from imgclf.images import alignment, decoding, duplicates
from imgclf.images.loading import in_parallel
from imgclf.networks import backbones

LABELS = [f"label_{k}" for k in range(10)]
TILES = 6, 5  # rows and columns of tiles in a photograph
NEAR, DIMENSIONS = 20, 1280  # one image in `NEAR` is a near-duplicate of another


def rows(count: int) -> Dataset:
    """A data set without files: one image in 20 is a near-duplicate, one in 50 a copy."""
    hashes = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    hashes[NEAR::NEAR] = hashes[NEAR - 1 : -1 : NEAR]
    images = [
        Image(
            f"{LABELS[i % 10]}/{i:07d}.jpg",
            LABELS[i % 10],
            hashlib.sha256(str(i - 10 * (i % 50 == 10)).encode()).hexdigest(),
            hashes[i].tobytes().hex(),
            100,
            80,
            shadows=3,
            highlights=250,
            sharpness=12.5,
        )
        for i in range(count)
    ]
    folder = files.data_dir() / "images" / "many"
    for label in LABELS:
        (folder / label).mkdir(parents=True)
    return Dataset("many", folder, tuple(images), layout=Layout(tuple(LABELS)))


def tables(count: int) -> None:
    made = rows(count)
    pairs = {(made.files[i].sha256, made.files[i - 1].sha256) for i in range(NEAR, count, NEAR)}
    found = timed("duplicates", lambda: copies.exclude_duplicates(made, pairs))
    timed("write images.tsv", lambda: dataset.write(found))
    timed("read images.tsv", lambda: dataset.read_images(dataset.images_table("many")))
    timed("read the data set", lambda: dataset.read("many"))
    parts = timed("split", lambda: split.split(found))
    timed("write the split", lambda: split.write(found, parts))
    timed("read and check the split", lambda: split.read(found))
    before = timed("read the previous split", lambda: previous_split.read("many"))
    timed(
        "what is printed",
        lambda: [
            str(found),
            found.notes(),
            str(parts),
            split_summary.text(found, parts),
            str(before.changes(found, parts)),
            split.overlap(parts),
        ],
    )


def cached(count: int) -> None:
    images = rows(count).files
    cache, random = Cache(files.proc_dir("many") / "features" / "network"), np.random.default_rng(0)
    for start in range(0, count, features.SHARD_IMAGES):
        keys = [image.pixels_key for image in images[start : start + features.SHARD_IMAGES]]
        cache.add(keys, random.standard_normal((len(keys), DIMENSIONS), dtype=np.float32))
    timed("which are missing", lambda: list(features.missing(images, cache)))
    timed("features of 10 images", lambda: cache.features(images[:10]))
    found: Features = timed("features of all", lambda: cache.features(images))
    points = timed("projection", lambda: features.pca_projection(found))
    timed("map", lambda: plots.feature_map(points, found.labels, LABELS))
    timed("nearest neighbours of one", lambda: features.nearest_neighbours(found, images[0], most=5))


def hashes(count: int) -> None:
    texts = [image.dhash for image in rows(count).files]
    timed("close hashes", lambda: sum(1 for _ in duplicates.close_to_each(texts)))


def neighbours(count: int) -> None:
    random = np.random.default_rng(0)
    kinds = random.normal(size=(1000, DIMENSIONS)).astype(np.float32)
    vectors = kinds[random.integers(1000, size=count)]
    for start in range(0, count, 1000):
        block = vectors[start : start + 1000]
        block += random.standard_normal(block.shape, dtype=np.float32)
    made, pictures = rows(count), photographs()
    points = {id(picture): alignment.keypoints(picture) for picture in pictures}
    decoding.read = lambda path, side: pictures[int(path.stem) % len(pictures)]
    alignment.grey = lambda picture: picture
    alignment.keypoints = lambda picture: points[id(picture)]
    pairs = timed("neighbours of descriptors", lambda: nearest.neighbours(vectors))
    verdicts = files.proc_dir("many") / "compared.npz"
    found = timed(
        "comparison of the pairs",
        lambda: copy_detection._copies(made, made.files, pairs, [], verdicts, None),
    )
    print(f"{count:7,}  {len(pairs) / count:.1f} pairs for each image, {len(found)} connect copies")


def photographs() -> list[np.ndarray]:
    """Grey pictures of the first 400 photographs."""
    source = chosen_folder([os.environ["SOURCE"]] if os.environ.get("SOURCE") else [], Path("clothing"))
    paths = sorted(path for path in source.rglob("*") if decoding.is_image(path))[:400]
    return [alignment.grey(decoding.read(path, side=alignment.SIDE)) for path in paths]


def folder(count: int) -> None:
    images = files.data_dir() / "images" / "many"
    source = chosen_folder([os.environ["SOURCE"]] if os.environ.get("SOURCE") else [], Path("clothing"))
    write_tiles(sorted(path for path in source.rglob("*") if decoding.is_image(path)), images, count)
    network = Path(files.data_dir()) / "network.onnx"
    backbones.export(backbones.BACKBONES["efficientnet_lite0"], 64, network)
    copy_detection.network()
    found = timed("scan, near-duplicates", lambda: copy_detection.scan_folder("many", images))
    timed("scan again", lambda: copy_detection.scan_folder("many", images))
    timed("write", lambda: dataset.write(found))
    timed("split", lambda: split.write(found, split.split(found)))
    cache = Cache.for_network("many", network)
    timed("features", lambda: features.compute(found, network, cache))
    described = timed("features from the cache", lambda: cache.features(found.images))
    timed("projection", lambda: features.pca_projection(described))
    print(f"{count:7,}  {len(found.duplicates)} pairs, {len(found.images)} images")


def write_tiles(photographs: list[Path], images: Path, count: int) -> None:
    """Write `count` tiles of photographs as JPEGs into label folders."""
    for label in LABELS:
        (images / label).mkdir(parents=True)

    def tiles(path: Path) -> list[bytes]:
        pixels = decoding.read(path)
        height, width = pixels.shape[0] // TILES[0], pixels.shape[1] // TILES[1]
        return [
            decoding.jpeg(np.ascontiguousarray(pixels[y : y + height, x : x + width]), quality=85)
            for y in range(0, TILES[0] * height, height)
            for x in range(0, TILES[1] * width, width)
        ]

    number = 0
    for made in in_parallel(tiles, photographs[: -(-count // (TILES[0] * TILES[1]))]):
        for content in made[: count - number]:
            (images / LABELS[number % 10] / f"{number:06d}.jpg").write_bytes(content)
            number += 1
    if number < count:
        raise SystemExit(f"the photographs make {number} tiles; give more of them with --source")


def timed(name: str, work):
    """Return what `work` returns, and print its processor time, time by the clock, and peak memory so far."""
    start, clock = time.process_time(), time.perf_counter()
    result = work()
    seconds, by_clock = time.process_time() - start, time.perf_counter() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    count = int(os.environ["COUNT"])
    print(
        f"{count:7,}  {name:26s} {seconds:8.2f} s {1e6 * seconds / count:8.1f} ms per 1,000  "
        f"{by_clock:8.2f} s by the clock  {peak:6.0f} MB",
        flush=True,
    )
    return result


PARTS = {
    "tables": tables,
    "features": cached,
    "hashes": hashes,
    "neighbours": neighbours,
    "folder": folder,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--source", default="")
    chosen = parser.parse_args()
    if "COUNT" in os.environ:
        PARTS[chosen.parts[0]](int(os.environ["COUNT"]))
        sys.exit()
    for part in chosen.parts:
        for each in chosen.images:
            with tempfile.TemporaryDirectory() as data:
                variables = {"COUNT": str(each), "IMGCLF_DATA": data, "SOURCE": chosen.source}
                command = [sys.executable, __file__, "--parts", part]
                subprocess.run(command, env={**os.environ, **variables}, check=True)

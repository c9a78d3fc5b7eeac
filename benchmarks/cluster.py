"""Two workers of a cluster on this machine against one, and against the network alone in two processes.

Each worker has one core: throughput of features from files, interleaved rounds. The limit is what two processes reach that do
nothing but run the network and decode, each on one core; on a busy machine it is below 2, too.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs

from imgclf import features
from imgclf.data import scan
from imgclf.images.workers import Workers, connected
from imgclf.networks import backbones

ROUNDS = 5
IMAGES = 256
BACKBONE = backbones.BACKBONES["efficientnet_lite1"]
ALONE = """
import sys, time
from pathlib import Path
from imgclf import engines
from imgclf.engines import pipeline
from imgclf.images.loading import Source
sources = [Source(path) for path in sorted(Path(sys.argv[1]).rglob("*.jpg"))]
sources, network = sources[int(sys.argv[3])::int(sys.argv[4])], Path(sys.argv[2])
ready, preprocessing = engines.start(network), engines.preprocessing(network)
def once():
    return len(list(pipeline.run(ready, sources, preprocessing, batch_size=engines.BATCH_SIZE)))
once()
print("ready", flush=True)
for line in sys.stdin:
    once()
    print("done", flush=True)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"IMGCLF_DATA": folder, "LOKY_MAX_CPU_COUNT": "1"}  # one core for each process
        images, network = Path(folder) / "images", Path(folder) / "network.onnx"
        photographs.write(images, IMAGES)
        backbones.export(BACKBONE, BACKBONE.input_size, network)
        found = scan.scan_folder("many", images, near_duplicates="ignored")
        with connected("local:1") as one, connected("local:2") as two:
            reference = computed(found, network, Path(folder) / "alone", Workers())[1]
            for used in (one, two):
                assert computed(found, network, Path(folder) / f"first {used.cluster}", used)[1] == reference
            alone = [started(images, network, k, of) for of in (1, 2) for k in range(of)]
            rounds = [
                (
                    computed(found, network, Path(folder) / f"one {k}", one)[0],
                    computed(found, network, Path(folder) / f"two {k}", two)[0],
                    seconds(alone[:1]),
                    seconds(alone[1:]),
                )
                for k in range(ROUNDS)
            ]
        for process in alone:
            process.communicate()
    print(
        f"{BACKBONE.name}, f32, {IMAGES} photographs, the same features to the bit: median (least to greatest) of {ROUNDS} rounds"
    )
    for name, ratios in (
        ("two workers against one", [r[0] / r[1] for r in rounds]),
        ("two processes of the engine alone against one", [r[2] / r[3] for r in rounds]),
        ("one worker against one process of the engine alone", [r[2] / r[0] for r in rounds]),
    ):
        print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def computed(found, network: Path, folder: Path, used: Workers) -> tuple[float, bytes]:
    """Return the seconds that the features of all images take, and the features."""
    cache = features.Cache(folder)
    start = time.perf_counter()
    assert not features.compute(found, network, cache, workers=used)
    taken = time.perf_counter() - start
    return taken, np.ascontiguousarray(cache.features(found.images).matrix).tobytes()


def started(images: Path, network: Path, k: int, of: int) -> subprocess.Popen:
    """Start a process with one core that computes every `of`th image, from the `k`th on, at each line it reads."""
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(images), str(network), str(k), str(of)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def seconds(processes: list[subprocess.Popen]) -> float:
    start = time.perf_counter()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout.readline() == "done\n"
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

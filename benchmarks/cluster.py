"""Two workers of a cluster on this machine against one: features from files, each worker with one core, interleaved rounds.

By the clock, beside two processes against one that do nothing but decode and run the network: on a busy machine neither reaches
2. And in processor time, which a busy machine hardly changes: that of the busiest process, which decides on idle cores.
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
            reference = computed(found, network, Path(folder) / "alone", Workers())
            for used in (one, two):
                assert computed(found, network, Path(folder) / f"first {used.cluster}", used) == reference
            alone = [started(images, network, k, of) for of in (1, 2) for k in range(of)]
            rounds = []
            for k in range(ROUNDS):
                clock_one, busiest_one = timed(found, network, Path(folder) / f"one {k}", one)
                clock_two, busiest_two = timed(found, network, Path(folder) / f"two {k}", two)
                clock_alone = seconds(alone[:1]) / seconds(alone[1:])
                rounds.append((busiest_one / busiest_two, clock_one / clock_two, clock_alone))
        for process in alone:
            process.communicate()
    print(
        f"{BACKBONE.name}, f32, {IMAGES} photographs, the same features to the bit: median (least to greatest) of {ROUNDS} rounds"
    )
    names = (
        "processor time of one worker against the busiest process of a cluster of two",
        "two workers against one, by the clock",
        "two processes of the engine alone against one, by the clock",
    )
    for name, ratios in zip(names, zip(*rounds, strict=True), strict=True):
        print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def computed(found, network: Path, folder: Path, used: Workers) -> bytes:
    """Return the features of all images as bytes."""
    cache = features.Cache(folder)
    assert not features.compute(found, network, cache, workers=used)
    return np.ascontiguousarray(cache.features(found.images).matrix).tobytes()


def timed(found, network: Path, folder: Path, used: Workers) -> tuple[float, float]:
    """Return the seconds that the features of all images take, and the processor seconds of the busiest process.

    The processes are the workers, the scheduler and this one. On idle cores the one determines the other.
    """
    before, start = processor_seconds(used), time.perf_counter()
    computed(found, network, folder, used)
    taken = time.perf_counter() - start
    return taken, max(after - b for after, b in zip(processor_seconds(used), before, strict=True))


def processor_seconds(used: Workers) -> list[float]:
    client = used._connected()
    of_workers = sorted(client.run(time.process_time).items())
    return [seconds for _, seconds in of_workers] + [
        client.run_on_scheduler(time.process_time),
        time.process_time(),
    ]


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

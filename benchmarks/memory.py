"""Memory of scanning 20,000 images and of computing their features: flat after the first thousand."""

import os
import resource
import tempfile
from pathlib import Path

import photographs

from imgclf import features
from imgclf.data import scan
from imgclf.networks import backbones

IMAGES = 20_000


def resident_mb() -> float:
    """Resident memory of this process, MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMGCLF_DATA"] = folder
        photographs.write(Path(folder) / "images" / "many", IMAGES)
        scanned = watched(
            "scanning",
            lambda show: scan.scan_folder("many", Path(folder) / "images" / "many", progress=show),
        )
        network = Path(folder) / "network.onnx"
        backbones.export(backbones.BACKBONES["efficientnet_lite0"], 224, network)
        cache = features.Cache.for_network("many", network, precision="auto")
        watched(
            "features",
            lambda show: features.compute(scanned, network, cache, precision="auto", progress=show),
        )
        print(f"peak of the whole run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def watched(name: str, work):
    """Run `work`, and print the memory after the first thousand images and at the end."""
    early: list[float] = []

    def show(done: int) -> None:
        if done >= 1000 and not early:
            early.append(resident_mb())

    result = work(show)
    print(f"{name}: {early[0]:.0f} MB after the first thousand images, {resident_mb():.0f} MB at the end")
    return result


if __name__ == "__main__":
    main()

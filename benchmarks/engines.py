"""Throughput of each engine on one network, as ratios: same weights, same batches, one run.

Each engine runs at its best batch size. Rounds are interleaved and the median counts, so that another process on the
machine slows all engines alike.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photographs
from joblib import cpu_count

from imgclf import engines
from imgclf.cntk import process as cntk
from imgclf.engines.onnxruntime import OnnxRuntimeEngine
from imgclf.engines.openvino import has_bf16
from imgclf.networks import backbones, exporting

ROUNDS = 7
IMAGES = 192
BATCH_SIZES = (1, 2, 8, 32)
BACKBONE = backbones.BACKBONES["efficientnet_lite1"]
RESNET, RESNET_IMAGES, RESNET_BATCH, RESNET_ROUNDS = backbones.BACKBONES["resnet18"], 32, 8, 5

Run = Callable[[list[np.ndarray]], object]


def torch_run() -> Run:
    """torch at its fastest float32 settings for this network: batch norm folded into convolutions, channels last."""
    import torch

    torch.set_num_threads(cpu_count())
    side = BACKBONE.input_size
    example = torch.zeros((1, side, side, 3), dtype=torch.uint8)
    network = exporting.with_folded_normalization(backbones.build(BACKBONE), example)
    network = network.to(memory_format=torch.channels_last)

    def run(batches: list[np.ndarray]) -> None:
        with torch.inference_mode():
            for batch in batches:
                network(torch.from_numpy(batch))

    return run


def engine_run(network: Path, name: str, precision: str, batch_size: int) -> Run:
    ready = engines.start(network, engine=name, precision=precision, batch_size=batch_size)
    return lambda batches: list(ready.run(batches))


def seconds(run: Run, batches: list[np.ndarray]) -> float:
    start = time.perf_counter()
    run(batches)
    return time.perf_counter() - start


def main() -> None:
    pixels = photographs.garments(64) * 3
    work = {size: list(photographs.batches(pixels, BACKBONE.input_size, size)) for size in BATCH_SIZES}
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.onnx"
        backbones.export(BACKBONE, BACKBONE.input_size, network)
        torch = torch_run()
        runs = {("torch f32", size): torch for size in BATCH_SIZES}
        for size in BATCH_SIZES:
            runs["onnxruntime f32", size] = engine_run(network, "onnxruntime", "f32", size)
            runs["openvino f32", size] = engine_run(network, "openvino", "f32", size)
            if has_bf16():
                runs["openvino bf16", size] = engine_run(network, "openvino", "bf16", size)
        times: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
        for _ in range(ROUNDS):
            for (name, size), run in runs.items():
                times[name, size].append(seconds(run, work[size]) / len(work[size]) / size)
        print(f"onnxruntime computes on: {OnnxRuntimeEngine(network).device}")
    report({key: 1 / statistics.median(values) for key, values in times.items()})


def report(speed: dict[tuple[str, int], float]) -> None:
    best = {name: max(((s, size) for (n, size), s in speed.items() if n == name)) for name, _ in speed}
    print(
        f"{BACKBONE.name}, {BACKBONE.input_size} pixels, {cpu_count()} cores, median of {ROUNDS} interleaved rounds of {IMAGES} images"
    )
    print(f"{'':<18}{'best batch':>10}{'images/s':>10}{'x onnxruntime':>15}{'x torch':>9}")
    for name, (fastest, size) in best.items():
        print(
            f"{name:<18}{size:>10}{fastest:>10.0f}{fastest / best['onnxruntime f32'][0]:>15.2f}{fastest / best['torch f32'][0]:>9.2f}"
        )
    share = speed["openvino f32", engines.BATCH_SIZE] / best["onnxruntime f32"][0]
    print(f"openvino f32 at the default batch of {engines.BATCH_SIZE}: {share:.2f} x onnxruntime at its best")


def compare_with_cntk() -> None:
    """OpenVINO, torch and CNTK on one ResNet-18 with random weights: the same batches, interleaved, in one run."""
    import torch

    torch.manual_seed(0)
    network = RESNET.architecture.network().eval()
    batches = list(photographs.batches(photographs.garments(RESNET_IMAGES), RESNET.input_size, RESNET_BATCH))

    def in_torch(batches: list[np.ndarray]) -> None:
        with torch.inference_mode():
            for batch in batches:
                network(torch.from_numpy(batch))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        exporting.export_network(network, RESNET.input_size, path, metadata={"backbone": RESNET.name})
        runs = {
            "openvino f32": engine_run(path, "openvino", "f32", RESNET_BATCH),
            "torch f32": in_torch,
            "cntk": engine_run(path, "cntk", "f32", RESNET_BATCH),
        }
        times = {
            name: [seconds(run, batches)] for name, run in runs.items()
        }  # a warm-up, which does not count
        for _ in range(RESNET_ROUNDS):
            for name, run in runs.items():
                times[name].append(seconds(run, batches))
    print(
        f"\n{RESNET.name}, random weights, {RESNET.input_size} pixels, {cpu_count()} cores, batches of {RESNET_BATCH}, median of {RESNET_ROUNDS} interleaved rounds of {RESNET_IMAGES} images"
    )
    speed = {name: RESNET_IMAGES / statistics.median(values[1:]) for name, values in times.items()}
    for name, images in speed.items():
        print(f"{name:<18}{images:>10.1f} images/s{images / speed['cntk']:>8.2f} x cntk")


if __name__ == "__main__":
    main()
    if (cntk.HOME / cntk.VERIFIED).exists():
        compare_with_cntk()
    else:
        print("CNTK is not installed, so it is not compared; run `make cntk`")

"""Throughput from JPEG files to features, compared with the limit of the cores.

The limit: all cores do nothing but decode, resize and run the network, so cores / (core-seconds per image of decoding and resizing
+ core-seconds per image of the network). Each is measured alone in the same run, interleaved.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs
from joblib import cpu_count

from imgclf import engines
from imgclf.engines import pipeline
from imgclf.engines.openvino import has_bf16
from imgclf.images.loading import Source
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones, quantization

ROUNDS = 5
IMAGES = 256
BATCH = engines.BATCH_SIZE
BACKBONE = backbones.BACKBONES["efficientnet_lite1"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.onnx"
        backbones.export(BACKBONE, BACKBONE.input_size, network)
        paths = photographs.write(Path(folder) / "images", IMAGES)
        quantized = Path(folder) / "network.int8.onnx"
        pixels = np.stack([Preprocessing(BACKBONE.input_size).apply(path.read_bytes()) for path in paths])
        quantized.write_bytes(quantization.quantize(network, pixels, made_from=""))
        for precision in ("f32", "bf16", "int8"):
            if precision == "bf16" and not has_bf16():
                continue
            used = quantized if precision == "int8" else network
            engine = engines.start(used, precision=precision, batch_size=BATCH)
            rounds = [one_round(engine, paths) for _ in range(ROUNDS + 1)][1:]
            limit, reached, decoding, inference = (
                statistics.median(values) for values in zip(*rounds, strict=True)
            )
            ratio = statistics.median(r[1] / r[0] for r in rounds)
            print(
                f"{BACKBONE.name} {engine.precision}: decoding {decoding * 1e3:.2f} + network {inference * 1e3:.2f} core-ms per image; "
                f"limit {limit:.0f}, reached {reached:.0f} images/s; median ratio {ratio:.2f}"
            )


def one_round(engine: engines.Engine, paths: list[Path]) -> tuple[float, float, float, float]:
    """Return limit and reached throughput, images/s; core-seconds per image of decoding and of the network."""
    start = time.process_time()
    prepared = [Preprocessing(BACKBONE.input_size).apply(path.read_bytes()) for path in paths]
    decoding = (time.process_time() - start) / len(paths)

    batches = [np.stack(prepared[i : i + BATCH]) for i in range(0, len(prepared), BATCH)]
    start = time.process_time()
    for _ in engine.run(batches):
        pass
    inference = (time.process_time() - start) / len(paths)

    start = time.perf_counter()
    done = sum(
        1
        for _ in pipeline.run(
            engine, list(map(Source, paths)), Preprocessing(BACKBONE.input_size), batch_size=BATCH
        )
    )
    return cpu_count() / (decoding + inference), done / (time.perf_counter() - start), decoding, inference


if __name__ == "__main__":
    main()

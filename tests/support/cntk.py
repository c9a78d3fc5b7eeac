"""Requests to a running worker, and CNTK without one."""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from joblib import cpu_count

from imgclf.cntk import WorkerProcess, process

EVALUATE = """
import ctypes, os, sys, warnings
stubs, model, images, outputs = sys.argv[1:]
for name in ("libmpi.so.12", "libmpi_cxx.so.1"):
    ctypes.CDLL(os.path.join(stubs, name), ctypes.RTLD_GLOBAL)
warnings.simplefilter("ignore")
import cntk, numpy
network = cntk.load_model(model)
(entry,) = network.arguments
numpy.save(outputs, network.eval({entry: numpy.load(images).astype(numpy.float32)}))
"""


def evaluate_model(path: Path, images: np.ndarray) -> np.ndarray:
    """The output of a `.model` file for images, computed by a program of CNTK's own Python."""
    inherited = {name: value for name, value in os.environ.items() if name not in process.NOT_INHERITED}
    with tempfile.TemporaryDirectory() as folder:
        saved, outputs = Path(folder, "images.npy"), Path(folder, "outputs.npy")
        np.save(saved, images)
        subprocess.run(
            [
                process.HOME / "bin" / "python",
                "-I",
                "-c",
                EVALUATE,
                process.HOME / process.MPI_STUBS,
                path,
                saved,
                outputs,
            ],
            env={"OMP_NUM_THREADS": str(cpu_count()), **inherited},
            check=True,
            capture_output=True,
        )
        return np.load(outputs)


def convolution(cntk: WorkerProcess, side: int = 8, channels: int = 4) -> None:
    """Build a network of one convolution of random weights, 3 x 3 pixels, and global average pooling."""
    kernel = np.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    operators = [
        ("Transpose", ["images"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["0", "kernel"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["1"], {}),
        ("ReduceMean", ["2"], {"axes": [2, 3], "keepdims": 0}),
    ]
    nodes = [
        {"operator": operator, "inputs": inputs, "output": str(k), "attributes": attributes}
        for k, (operator, inputs, attributes) in enumerate(operators)
    ]
    cntk.request(
        "build", {"kernel": kernel}, input="images", shape=[side, side, 3], nodes=nodes, outputs=["3"]
    )


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

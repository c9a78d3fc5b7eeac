"""Requests to a running worker."""

from pathlib import Path

import numpy as np

from imgclf.cntk import Process


def convolution(cntk: Process, side: int = 8, channels: int = 4) -> None:
    """Build a network of one convolution of random weights, 3 x 3 pixels, and the mean of each map."""
    kernel = np.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    steps = [
        ("Transpose", ["images"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["0", "kernel"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["1"], {}),
        ("ReduceMean", ["2"], {"axes": [2, 3], "keepdims": 0}),
    ]
    listed = [
        {"operator": operator, "inputs": inputs, "output": str(k), "attributes": attributes}
        for k, (operator, inputs, attributes) in enumerate(steps)
    ]
    cntk.ask("build", {"kernel": kernel}, input="images", shape=[side, side, 3], steps=listed, outputs=["3"])


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

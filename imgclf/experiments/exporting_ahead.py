"""Export of the networks of a run beside its first notebooks, by a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from imgclf import ImgclfError
from imgclf.data.dataset import IGNORED
from imgclf.features import copy_detection
from imgclf.networks import backbones, exporting
from imgclf.parameters import Value

MODULE = "imgclf.experiments.exporting_ahead"
COPIES = "copies"


@contextmanager
def exports(values: Mapping[str, Value]) -> Iterator[None]:
    """Export the networks that a run lacks beside the block: that of copy detection and the backbone.

    It takes some 15 s. A notebook that needs one of them meanwhile waits for it. What fails, or is not done
    when the block ends, is left to the notebooks. So is a backbone whose weights are downloaded: 02 shows
    that.

    Parameters
    ----------
    values : parameters of the run.
    """
    if not (arguments := _missing(values)):
        yield
        return
    command = [sys.executable, "-P", "-m", MODULE, *arguments]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _missing(values: Mapping[str, Value]) -> list[str]:
    """Return the arguments of `main` for the networks that are missing."""
    copies = [COPIES] if values["near_duplicates"] != IGNORED else []
    backbone = backbones.BACKBONES.get(str(values["backbone"]))
    try:
        if copies and exporting.cached(copy_detection.network_name()).exists():
            copies = []
        if backbone and backbone.package:
            size = backbones.side(backbone, int(str(values["input_size"])))
            if not exporting.cached(backbones.export_name(backbone, size)).exists():
                return [*copies, backbone.name, str(size)]
    except ImgclfError:  # a package is missing; the notebook says it
        return []
    return copies


def main(arguments: list[str]) -> None:
    """Export the network of copy detection, or a backbone for images of a side, or one after the other."""
    if arguments[0] == COPIES:
        copy_detection.network()
        arguments = arguments[1:]
    if arguments:
        name, size = arguments
        backbones.exported(backbones.BACKBONES[name], int(size))


if __name__ == "__main__":
    main(sys.argv[1:])

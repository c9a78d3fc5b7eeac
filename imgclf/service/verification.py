"""Verify that a service returns the scores that its classifier.onnx gives on this machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.classifier.model import TOLERANCE, Classifier, largest_relative_difference
from imgclf.classifier.results import Refused
from imgclf.classifier.verify import Check
from imgclf.service.client import Client


def verify(client: Client, model: Path, paths: Sequence[Path]) -> list[Check]:
    """Compare the scores and probabilities of a service with those of the file.

    Raises
    ------
    ImgclfError : the service serves another file, or no image can be read.
    """
    served = client.metadata()
    if served["sha256"] != files.sha256(model):
        raise ImgclfError(
            f"{client.url}: serves another file than {model} "
            f"(version {served['version']}, not {files.sha256(model)[: len(served['version'])]}); "
            "send it SIGHUP if the file is newer, or name the file that it serves"
        )
    local = Classifier.load(model, batch_size=1)
    labelled = [(path, image) for path, image in client.label_files(paths) if not isinstance(image, Refused)]
    if not labelled:
        raise ImgclfError(f"none of the {len(paths)} images could be read")
    pixels = np.stack([local.preprocessing.apply(files.read_bytes(path), path.name) for path, _ in labelled])
    scores, probabilities = local.scores(pixels)
    served_arrays = {
        what: np.array([[getattr(image, what)[label] for label in local.labels] for _, image in labelled])
        for what in ("scores", "probabilities")
    }
    return [
        Check(
            f"the service's {what} and the file's",
            len(labelled),
            largest_relative_difference(served_arrays[what], array),
            TOLERANCE["f32"],
        )
        for what, array in (("scores", scores), ("probabilities", probabilities))
    ]

"""Verify that a service returns the scores that its classifier.onnx gives on this machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, files
from imgclf.classifier.model import TOLERANCE, Classifier, largest_relative_difference
from imgclf.classifier.results import Refused
from imgclf.classifier.verify import Check
from imgclf.images import pointers
from imgclf.service.client import Client


def verify(client: Client, model: Path, paths: Sequence[Path]) -> list[Check]:
    """Compare the scores, the probabilities and the familiarity of a service with those of the file.

    Raises
    ------
    ImgclfError : the service serves another file, or gives no familiarity; or no image can be read.
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
    contents = ((pointers.read_bytes(path), path.name) for path, _ in labelled)
    pixels = np.stack([local.preprocessing.apply(*content) for content in contents])
    expected = local.outputs(pixels)._asdict()
    served_arrays = {
        what: np.array([[getattr(image, what)[label] for label in local.labels] for _, image in labelled])
        for what in ("scores", "probabilities")
    }
    if expected["familiarity"] is not None:
        if any(image.familiarity is None for _, image in labelled):
            raise ImgclfError(f"{client.url}: gives no familiarity; update imgclf there, and restart it")
        served_arrays["familiarity"] = np.array([image.familiarity for _, image in labelled])
    return [
        Check(
            f"the service's {what} and the file's",
            len(labelled),
            largest_relative_difference(array, expected[what]),
            TOLERANCE["f32"],
        )
        for what, array in served_arrays.items()
    ]

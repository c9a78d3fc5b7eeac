"""Whether a service answers as the file does that it is said to serve."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgclf import ImgclfError
from imgclf.classifier.model import TOLERANCE, Classifier, largest_relative_difference
from imgclf.classifier.verify import Check
from imgclf.files import sha256
from imgclf.images import decoding
from imgclf.service.client import Client, Refused


def verify(client: Client, model: Path, paths: Sequence[Path]) -> list[Check]:
    """Whether a service gives images the scores and probabilities that the classifier gives them here.

    Raises
    ------
    ImgclfError : the service has another file, or one of them reads an image that the other does not, or none is read.
    """
    served = client.metadata()
    if served["sha256"] != sha256(model):
        raise ImgclfError(
            f"{client.url}: serves another file than {model} (version {served['version']}, not {sha256(model)[: len(served['version'])]}); "
            "send it SIGHUP if the file is newer, or name the file that it serves"
        )
    here = Classifier.load(model, batch_size=1)
    answers = [
        (path, answer) for path, answer in client.label_files(paths) if not isinstance(answer, Refused)
    ]
    if not answers:
        raise ImgclfError(f"none of the {len(paths)} images could be read")
    pixels = np.stack([here.preprocessing.apply(decoding.read_bytes(path), path.name) for path, _ in answers])
    scores, probabilities = here.scores(pixels)
    told = {
        what: np.array([[getattr(answer, what)[label] for label in here.labels] for _, answer in answers])
        for what in ("scores", "probabilities")
    }
    return [
        Check(
            f"the service's {what} and the file's",
            len(answers),
            largest_relative_difference(told[what], found),
            TOLERANCE["f32"],
        )
        for what, found in (("scores", scores), ("probabilities", probabilities))
    ]

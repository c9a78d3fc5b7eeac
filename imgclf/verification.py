"""Whether a finished classifier scores the same everywhere: in each runtime, and as it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgclf import ImgclfError, engines, svm
from imgclf.classifier import TOLERANCE, Classifier, disagreement, features_of, sha256


@dataclass(frozen=True)
class Check:
    """One line of a verification: what was compared, on how many images, and the largest disagreement found."""

    compared: str
    images: int
    disagreement: float  # share of the largest score
    allowed: float = TOLERANCE["f32"]

    @property
    def agrees(self) -> bool:
        return self.disagreement <= self.allowed

    def __str__(self) -> str:
        return f"{'agrees' if self.agrees else 'DISAGREES'}: {self.compared}, {self.images} images, by {self.disagreement:.1e} of the largest score"


def verify(path: Path, pixels: np.ndarray) -> list[Check]:
    """Whether a classifier gives the same scores in OpenVINO, in ONNX Runtime, and as the training code did.

    The training code's way (network, then `svm.Head` in numpy) is run on the same images where the files that
    its training left beside it are still there; its scores of the self-test images stand in the classifier.

    Parameters
    ----------
    pixels : (n, S, S, 3) uint8, RGB; images as `images.prepare` gives them.
    """
    runtimes = {name: Classifier.load(path, engine=name) for name in engines.ENGINES}
    scores = {name: runtime.scores(pixels)[0] for name, runtime in runtimes.items()}
    checks = [Check(f"{name} and the training code's self-test", len(runtime.self_test.scores), runtime.self_test_disagreement(), runtime.tolerance)
              for name, runtime in runtimes.items()]
    checks.append(Check(" and ".join(engines.ENGINES), len(pixels), disagreement(scores["openvino"], scores["onnxruntime"])))
    network, head = path.with_name("dnn_fixed.onnx"), path.with_name("svm.npz")
    if network.exists() and head.exists() and runtimes["openvino"].metadata.get("network_sha256") == sha256(network):
        trained = svm.read(head).scores(features_of(network, pixels))
        checks += [Check(f"{name} and the training code", len(pixels), disagreement(found, trained)) for name, found in scores.items()]
    return checks


def check_agreement(what: Path | str, checks: Sequence[Check], *, remedy: str = "export it again with 04_train_svm") -> None:
    """Refuse a classifier, or a service, that does not score as it should.

    Raises
    ------
    ImgclfError : one of the `checks` of `verify` disagrees.
    """
    if found := [str(check) for check in checks if not check.agrees]:
        raise ImgclfError(f"{what}: {'; '.join(found)}; {remedy}")

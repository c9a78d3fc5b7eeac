"""Whether a finished classifier scores the same everywhere: in each runtime, and as it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier.model import TOLERANCE, Classifier, disagreement


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


@dataclass(frozen=True)
class Verification:
    """The comparisons that were made; `not_compared` says which could not be made and why, "" if all were."""

    checks: tuple[Check, ...]
    not_compared: str = ""

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), *filter(None, [self.not_compared])])


def verify(path: Path, pixels: np.ndarray) -> Verification:
    """Whether a classifier gives the same scores in OpenVINO, in ONNX Runtime, and as the training code did.

    The training code's way (network, then `svm.Head` in numpy) is run on the same images if the network and the head that the classifier was
    made of are still beside it. Its scores of the self-test images are in the classifier itself.

    Parameters
    ----------
    pixels : (n, S, S, 3) uint8, RGB; images as `Preprocessing.apply` gives them.
    """
    runtimes = {name: Classifier.load(path, engine=name) for name in engines.ENGINES}
    scores = {name: runtime.scores(pixels)[0] for name, runtime in runtimes.items()}
    checks = [
        Check(
            f"{name} and the training code's self-test",
            len(runtime.self_test.scores),
            runtime.self_test_disagreement(),
            runtime.tolerance,
        )
        for name, runtime in runtimes.items()
    ]
    checks.append(
        Check(
            " and ".join(engines.ENGINES),
            len(pixels),
            disagreement(scores["openvino"], scores["onnxruntime"]),
        )
    )
    network = _network_beside(path, runtimes["openvino"].metadata)
    head = path.with_name(files.SVM_HEAD)
    if network is None or not head.exists():
        missing = f"its {head.name}" if network else "the network that it was made of"
        return Verification(
            tuple(checks),
            f"not compared: the training code, since {missing} is not beside {path.name} any more; the self-test above is what it left",
        )
    trained = svm.read(head).scores(features.of_pixels(network, pixels))
    checks += [
        Check(f"{name} and the training code", len(pixels), disagreement(found, trained))
        for name, found in scores.items()
    ]
    return Verification(tuple(checks))


def _network_beside(path: Path, metadata: dict[str, Any]) -> Path | None:
    """The network that a classifier was made of, if it is in the same folder."""
    beside = (path.with_name(name) for name in (files.FIXED_NETWORK, files.REFINED_NETWORK))
    return next(
        (
            network
            for network in beside
            if network.exists() and files.sha256(network) == metadata.get("network_sha256")
        ),
        None,
    )


def check_agreement(
    what: Path | str, checks: Sequence[Check], *, remedy: str = "export it again with 04_train_svm"
) -> None:
    """Refuse a classifier, or a service, that does not score as it should.

    Raises
    ------
    ImgclfError : one of the `checks` of `verify` disagrees.
    """
    if found := [str(check) for check in checks if not check.agrees]:
        raise ImgclfError(f"{what}: {'; '.join(found)}; {remedy}")

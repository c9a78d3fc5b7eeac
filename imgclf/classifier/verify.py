"""Verification that a classifier scores the same in each runtime and in the training code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier.model import TOLERANCE, Classifier, largest_relative_difference


@dataclass(frozen=True)
class Check:
    """One comparison of a verification.

    Attributes
    ----------
    compared : what was compared. images : on how many images.
    difference : the largest one found, as a share of the largest score. allowed : the tolerance.
    """

    compared: str
    images: int
    difference: float
    allowed: float = TOLERANCE["f32"]

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.difference <= self.allowed

    def __str__(self) -> str:
        return (
            f"{'agrees' if self.agrees else 'DISAGREES'}: {self.compared}, {self.images} images, "
            f"by {self.difference:.1e} of the largest score"
        )


@dataclass(frozen=True)
class Verification:
    """The comparisons; `not_compared` says which one could not be made and why, "" if all were."""

    checks: tuple[Check, ...]
    not_compared: str = ""

    def __str__(self) -> str:
        return "\n".join([*map(str, self.checks), *filter(None, [self.not_compared])])


def verify(path: Path, pixels: np.ndarray) -> Verification:
    """Compare the scores of a classifier in OpenVINO, in ONNX Runtime, and in the training code.

    The training code (the network, then `svm.Head` in numpy) scores the same images if the network and the
    head that the classifier was exported from are in its folder still. For the self-test images, the training
    code's scores are in the classifier itself. It makes no difference how the head was trained (parameter
    `classifier`).

    Parameters
    ----------
    pixels : (n, S, S, 3) uint8, RGB; images that `Preprocessing.apply` returned.
    """
    runtimes = {name: Classifier.load(path, engine=name) for name in engines.ENGINES}
    scores = {name: runtime.scores(pixels)[0] for name, runtime in runtimes.items()}
    checks = [
        Check(
            f"{name} and the training code's self-test",
            len(runtime.self_test.scores),
            runtime.self_test_difference(),
            runtime.tolerance,
        )
        for name, runtime in runtimes.items()
    ]
    checks.append(
        Check(
            " and ".join(engines.ENGINES),
            len(pixels),
            largest_relative_difference(scores["openvino"], scores["onnxruntime"]),
        )
    )
    network = _network_beside(path, runtimes["openvino"].metadata)
    head = path.with_name(files.SVM_HEAD)
    if network is None or not head.exists():
        missing = f"its {head.name}" if network else "the network that it was exported from"
        return Verification(
            tuple(checks),
            f"not compared: the training code, since {missing} is not beside {path.name} any more; "
            "only its scores of the self-test images were compared (above)",
        )
    trained = svm.read(head).scores(features.extract(network, pixels))
    checks += [
        Check(f"{name} and the training code", len(pixels), largest_relative_difference(found, trained))
        for name, found in scores.items()
    ]
    return Verification(tuple(checks))


def _network_beside(path: Path, metadata: dict[str, Any]) -> Path | None:
    """Return the network that a classifier was exported from, if it is in the same folder."""
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
    """Raise an error if a classifier, or a service, does not score as it should.

    Raises
    ------
    ImgclfError : one of the `checks` of `verify` disagrees.
    """
    if found := [str(check) for check in checks if not check.agrees]:
        raise ImgclfError(f"{what}: {'; '.join(found)}; {remedy}")

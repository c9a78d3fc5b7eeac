"""Verification that a classifier scores the same in each runtime and in the training code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.classifier import familiarity
from imgclf.classifier.model import TOLERANCE, Classifier, Outputs, largest_difference
from imgclf.features import inference


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
    """Compare the outputs of a classifier in OpenVINO, in ONNX Runtime, and in the training code.

    The outputs are scores and familiarity. The training code (the network, then numpy) scores the same images
    if the network and the last layer that the classifier was exported from are in its folder still. For the
    self-test images, the training code's outputs are in the classifier itself. It makes no difference how the
    last layer was trained (parameter `classifier`).

    Parameters
    ----------
    pixels : (n, S, S, 3) uint8, RGB; images that `Preprocessing.apply` returned.
    """
    runtimes = {name: Classifier.load(path, engine=name) for name in engines.ENGINES}
    found = {name: runtime.outputs(pixels) for name, runtime in runtimes.items()}
    checks = [
        Check(
            f"{name} and the training code's self-test",
            len(runtime.self_test.scores),
            runtime.self_test_difference(),
            runtime.tolerance,
        )
        for name, runtime in runtimes.items()
    ]
    # The file is f32 in both runtimes even if the training code computed in bf16; one in int8 is int8.
    precision = runtimes["openvino"].self_test.precision
    allowed = TOLERANCE["int8" if precision == "int8" else "f32"]
    checks.append(
        Check(
            " and ".join(engines.ENGINES),
            len(pixels),
            largest_difference(found["openvino"], found["onnxruntime"]),
            allowed,
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
    trained = _outputs(svm.read(head), features.extract(network, pixels), path.with_name(files.FAMILIARITY))
    checks += [
        Check(f"{name} and the training code", len(pixels), largest_difference(outputs, trained), allowed)
        for name, outputs in found.items()
    ]
    return Verification(tuple(checks))


def _outputs(head: svm.Head, matrix: np.ndarray, path: Path) -> Outputs:
    """Return what the training code computes; older versions wrote no file at `path`."""
    probabilities = head.probabilities(matrix)
    compared = familiarity.read(path).of(matrix, probabilities) if path.exists() else None
    return Outputs(head.scores(matrix), probabilities, compared)


def _network_beside(path: Path, metadata: dict[str, Any]) -> Path | None:
    """Return the network that a classifier was exported from, if it is in the same folder."""
    networks = [path.with_name(name) for name in (files.FIXED_NETWORK, files.REFINED_NETWORK)]
    beside = [*networks, *map(inference.quantized_file, networks)]
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

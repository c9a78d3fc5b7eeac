"""What is said of images, in each of the contracts."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from imgclf.service.bodies import Contract
from imgclf.service.scoring import Model

UNSURE = "unsure"  # the label in contracts that know no null

Scored = tuple[np.ndarray, np.ndarray]  # scores and probabilities of one image, each (k,) float32


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str = Field(description="the first digits of the sha256 of classifier.onnx")


class ImageAnswer(BaseModel):
    """What the classifier says of one image."""

    label: str | None = Field(description="null if its probability is below reject_below")
    unsure: bool = Field(description="whether the label is withheld")
    score: float = Field(description="of the most fitting label; a decision value, not a probability")
    probability: float = Field(
        description="of the most fitting label, 0 to 1, calibrated on held-out training images"
    )
    scores: dict[str, float] = Field(description="of all labels")
    probabilities: dict[str, float] = Field(description="of all labels; their sum is 1")


class Answer(BaseModel):
    """The answer to images sent as they are, as files, or as `{"images": […]}`; in the order in which they were sent."""

    model: ModelName
    reject_below: float = Field(description="a label with a smaller probability is withheld; 0: none")
    milliseconds: float = Field(description="from the last byte of the request to this answer")
    images: list[ImageAnswer]


class SuccessorAnswer(BaseModel):
    """One image in the contract of the tutorial's successor."""

    label: str
    probability: str


class PreprocessingSettings(BaseModel):
    """How the service prepares images for the network."""

    input_size: int = Field(description="width and height of the images that the network sees, pixels")
    padding_colour: list[int] = Field(
        description="red, green, blue of the bars beside an image that is not square, 0 to 255"
    )


class Metadata(BaseModel):
    """What the model is, and what it was at training time."""

    name: str
    version: str
    sha256: str
    labels: list[str]
    preprocessing: PreprocessingSettings
    backbone: str
    training_images: int | None = None
    metrics: dict[str, Any] | None = Field(
        None, description="accuracy on training images held out in turn, 0 to 1"
    )
    imgclf_version: str | None = None
    reject_below: float


class State(BaseModel):
    """Whether the service is there, or ready."""

    status: str


def write(
    contract: Contract, model: Model, scored: Sequence[Scored], *, reject_below: float, milliseconds: float
) -> Any:
    """The answer in a contract, as values for JSON.

    Parameters
    ----------
    scored : for each image its scores and probabilities, each (k,) float32 in the order of the model's labels.
    reject_below : smallest probability with which a label is given, 0 to 1.
    """
    if contract is Contract.TUTORIAL:
        return _tutorial(model, scored[0], reject_below, milliseconds)
    answers = [image_answer(model.classifier.labels, one, reject_below) for one in scored]
    if contract is Contract.SUCCESSOR:
        return [
            {"label": answer["label"] or UNSURE, "probability": str(answer["probability"])}
            for answer in answers
        ]
    return {
        "model": {"name": model.name, "version": model.version},
        "reject_below": reject_below,
        "milliseconds": round(milliseconds, 2),
        "images": answers,
    }


def image_answer(labels: Sequence[str], scored: Scored, reject_below: float) -> dict[str, Any]:
    """What `ImageAnswer` documents, of one image."""
    scores, probabilities = scored
    best = int(scores.argmax())
    unsure = bool(probabilities[best] < reject_below)
    return {
        "label": None if unsure else labels[best],
        "unsure": unsure,
        "score": float(scores[best]),
        "probability": float(probabilities[best]),
        "scores": dict(zip(labels, scores.tolist(), strict=True)),
        "probabilities": dict(zip(labels, probabilities.tolist(), strict=True)),
    }


def _tutorial(model: Model, scored: Scored, reject_below: float, milliseconds: float) -> str:
    """JSON in a string, with strings in it, as the tutorial's client decodes it: twice."""
    answer = image_answer(model.classifier.labels, scored, reject_below)
    vector = np.array2string(scored[0], max_line_width=sys.maxsize, threshold=sys.maxsize)
    return json.dumps(
        {
            "label": answer["label"] or UNSURE,
            "score": str(answer["score"]),
            "allScores": vector,
            "Id2Labels": str(dict(enumerate(model.classifier.labels))),
            "executionTimeMs": str(round(milliseconds, 2)),
        }
    )

"""Response bodies, in each of the supported contracts."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from imgclf.service.requests import Contract
from imgclf.service.scoring import Model

UNSURE = "unsure"  # in place of a rejected label, in contracts without null; clients know this word

Scored = tuple[np.ndarray, np.ndarray]  # scores and probabilities of one image, each (k,) float32


class ModelName(BaseModel):
    """The model that scored the images."""

    name: str
    version: str = Field(description="the first digits of the sha256 of classifier.onnx")


class ImageResponse(BaseModel):
    """The prediction for one image."""

    label: str | None = Field(description="null if its probability is below reject_below")
    unsure: bool = Field(description="whether the label is rejected")
    score: float = Field(description="of the predicted label; a decision value, not a probability")
    probability: float = Field(
        description="of the predicted label, 0 to 1, calibrated on out-of-fold training images"
    )
    scores: dict[str, float] = Field(description="of all labels")
    probabilities: dict[str, float] = Field(description="of all labels; their sum is 1")


class ScoreResponse(BaseModel):
    """The response to raw bytes, files, or `{"images": […]}`; images in the order of the request."""

    model: ModelName
    reject_below: float = Field(description="a label with a smaller probability is rejected; 0: none")
    milliseconds: float = Field(description="from the last byte of the request to this response")
    images: list[ImageResponse]


class SuccessorResponse(BaseModel):
    """One image in the contract of the tutorial's successor."""

    label: str
    probability: str


class PreprocessingSettings(BaseModel):
    """How the service preprocesses images for the network."""

    input_size: int = Field(description="width and height of the network's input, pixels")
    padding_colour: list[int] = Field(description="red, green, blue of the letterbox padding, 0 to 255")


class Metadata(BaseModel):
    """The model: labels, preprocessing, and metrics at training time."""

    name: str
    version: str
    sha256: str
    labels: list[str]
    preprocessing: PreprocessingSettings
    backbone: str
    training_images: int | None = None
    metrics: dict[str, Any] | None = Field(
        None, description="out-of-fold accuracy on the training images, 0 to 1"
    )
    imgclf_version: str | None = None
    reject_below: float


class State(BaseModel):
    """State of the service: ok or ready."""

    status: str


def write(
    contract: Contract, model: Model, scored: Sequence[Scored], *, reject_below: float, milliseconds: float
) -> Any:
    """Return the response body in a contract, as values for JSON.

    Parameters
    ----------
    scored : scores and probabilities of each image, each (k,) float32 in the order of the model's labels.
    reject_below : smallest probability of a label that is not rejected, 0 to 1.
    """
    if contract is Contract.TUTORIAL:
        return _tutorial(model, scored[0], reject_below, milliseconds)
    predictions = [image_response(model.classifier.labels, one, reject_below) for one in scored]
    if contract is Contract.SUCCESSOR:
        return [
            {"label": prediction["label"] or UNSURE, "probability": str(prediction["probability"])}
            for prediction in predictions
        ]
    return {
        "model": {"name": model.name, "version": model.version},
        "reject_below": reject_below,
        "milliseconds": round(milliseconds, 2),
        "images": predictions,
    }


def image_response(labels: Sequence[str], scored: Scored, reject_below: float) -> dict[str, Any]:
    """Return the fields of `ImageResponse` for one image."""
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
    """Return JSON in a string, since the tutorial's client decodes the response twice."""
    prediction = image_response(model.classifier.labels, scored, reject_below)
    vector = np.array2string(scored[0], max_line_width=sys.maxsize, threshold=sys.maxsize)
    return json.dumps(
        {
            "label": prediction["label"] or UNSURE,
            "score": str(prediction["score"]),
            "allScores": vector,
            "Id2Labels": str(dict(enumerate(model.classifier.labels))),
            "executionTimeMs": str(round(milliseconds, 2)),
        }
    )

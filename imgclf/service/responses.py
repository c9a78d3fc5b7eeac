"""Response bodies, in each of the supported contracts."""

import base64
import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from imgclf.classifier.activation_maps import Explainer
from imgclf.classifier.results import Labelled
from imgclf.images import decoding
from imgclf.service.decoder import Decoded
from imgclf.service.requests import Contract
from imgclf.service.scoring import Model

EXPLANATION_QUALITY = 85  # of the JPEG: a request has up to 32 of them in memory


class ModelName(BaseModel):
    """The model that scored the images."""

    name: str
    version: str = Field(description="the first digits of the sha256 of classifier.onnx")


class ImageResponse(BaseModel):
    """The prediction for one image."""

    label: str | None = Field(description="null if it is rejected")
    unsure: bool = Field(description="whether the label is rejected, for either reason")
    reason: Literal["unfamiliar", "unsure"] | None = Field(
        description="why the label is rejected: the image is unlike the training images, or the "
        "probability is below reject_below; null if it is not"
    )
    familiarity: float | None = Field(
        description="how like the training images the image is, 0 to 1; unfamiliar below familiar_from; null "
        "with a classifier of an earlier version"
    )
    score: float = Field(description="of the predicted label; a decision value, not a probability")
    probability: float = Field(
        description="of the predicted label, 0 to 1, calibrated on out-of-fold training images"
    )
    scores: dict[str, float] = Field(description="of all labels")
    probabilities: dict[str, float] = Field(description="of all labels; their sum is 1")
    explanation: str | None = Field(
        None,
        description="with ?explain=1: a JPEG as a data URL, the image with the class activation map of the "
        "label with the largest score over it",
    )


class ScoreResponse(BaseModel):
    """The response to raw bytes, files, or `{"images": […]}`; images in the order of the request."""

    model: ModelName
    reject_below: float = Field(description="a label with a smaller probability is rejected; 0: none")
    reject_unfamiliar: bool = Field(description="whether the label of an unfamiliar image is rejected")
    familiar_from: float | None = Field(
        description="an image of less familiarity is unfamiliar; 0: none is; null with a classifier of an "
        "earlier version"
    )
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
    familiar_from: float | None = Field(
        None, description="an image of less familiarity, 0 to 1, is unfamiliar; 0: none is"
    )
    unfamiliar_rate: float | None = Field(
        None, description="expected share of images like the training images that are unfamiliar, 0 to 1"
    )
    reject_below: float
    reject_unfamiliar: bool


class State(BaseModel):
    """State of the service: ok or ready."""

    status: str


def write(
    contract: Contract,
    model: Model,
    labelled: Sequence[Labelled],
    *,
    explanations: Sequence[str] = (),
    reject_below: float,
    reject_unfamiliar: bool,
    milliseconds: float,
) -> Any:
    """Return the response body in a contract, as values for JSON.

    Parameters
    ----------
    labelled : the result of each image; all scores in the order of the model's labels.
    explanations : a data URL for each image; "": none was wanted.
    reject_below, reject_unfamiliar : what was rejected.
    """
    if contract is Contract.TUTORIAL:
        return _tutorial(model, labelled[0], milliseconds)
    if contract is Contract.SUCCESSOR:
        return [{"label": image.name, "probability": str(image.probability)} for image in labelled]
    predictions = [image_response(image) for image in labelled]
    for prediction, picture in zip(predictions, explanations, strict=False):
        if picture:
            prediction["explanation"] = picture
    return {
        "model": {"name": model.name, "version": model.version},
        "reject_below": reject_below,
        "reject_unfamiliar": reject_unfamiliar,
        "familiar_from": model.classifier.familiar_from,
        "milliseconds": round(milliseconds, 2),
        "images": predictions,
    }


def image_response(image: Labelled) -> dict[str, Any]:
    """Return the fields of `ImageResponse` for one image."""
    values = vars(image) | {"unsure": image.label is None}
    return {name: values[name] for name in ImageResponse.model_fields if name in values}


def explanation(explainer: Explainer, decoded: Decoded) -> str:
    """Return the overlay of the map of the predicted label on an image, without padding, as a data URL."""
    (found,) = explainer.maps(decoded.pixels[None])
    picture = decoded.pixels[explainer.preprocessing.inside(decoded.height, decoded.width)]
    overlay = decoding.jpeg(found.overlay(picture), quality=EXPLANATION_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(overlay).decode()}"


def _tutorial(model: Model, image: Labelled, milliseconds: float) -> str:
    """Return JSON in a string, since the tutorial's client decodes the response twice."""
    scores = np.array([*image.scores.values()], np.float32)
    vector = np.array2string(scores, max_line_width=sys.maxsize, threshold=sys.maxsize)
    return json.dumps(
        {
            "label": image.name,
            "score": str(image.score),
            "allScores": vector,
            "Id2Labels": str(dict(enumerate(model.classifier.labels))),
            "executionTimeMs": str(round(milliseconds, 2)),
        }
    )

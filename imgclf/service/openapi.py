"""The OpenAPI description of /score, which reads the raw body, so that the framework cannot derive it."""

from typing import Any

from fastapi.params import Depends

from imgclf.images import decoding
from imgclf.service import requests, responses
from imgclf.service.errors import Error

DESCRIPTION = (
    "Classifies images with one classifier.onnx. Every error response is JSON with `error`, which says "
    "what to do; after a 503 the request may be retried after the seconds in `Retry-After`."
)
ERROR: dict[str, Any] = {"model": Error, "description": "what is wrong, and what to do"}
STATUSES = (400, 403, 408, 413, 415, 421, 422, 503)
IMAGE_TYPES = tuple(known.media_type for known in decoding.FORMATS if known.media_type)
BINARY = {"type": "string", "format": "binary"}
FORM = {
    "type": "object",
    "properties": {requests.FORM_FIELD: {"type": "array", "items": BINARY, "minItems": 1}},
    "required": [requests.FORM_FIELD],
    "additionalProperties": False,
}
EXPLAIN = {
    "name": requests.EXPLAIN,
    "in": "query",
    "description": "1: add a class activation map to each image; no effect in the older contracts",
    "schema": {"type": "integer", "enum": [0, 1], "default": 0},
}

RESPONSE_EXAMPLE = {
    "model": {"name": "fashion_texture", "version": "3f1c0a9be4d2"},
    "reject_below": 0.0,
    "reject_unfamiliar": False,
    "familiar_from": 0.71,
    "milliseconds": 21.5,
    "images": [
        {
            "label": "dotted",
            "unsure": False,
            "reason": None,
            "familiarity": 0.83,
            "score": 1.25,
            "probability": 0.75,
            "scores": {"dotted": 1.25, "striped": -1.25},
            "probabilities": {"dotted": 0.75, "striped": 0.25},
        }
    ],
}
EXAMPLES = {
    "own": {"summary": 'raw images, files, or {"images": […]}', "value": RESPONSE_EXAMPLE},
    "tutorial": {
        "summary": '{"input_df": […]}: a string that holds JSON',
        "value": '{"label": "dotted", "score": "1.25", "allScores": "[ 1.25 -1.25]", '
        '"Id2Labels": "{0: \'dotted\', 1: \'striped\'}", "executionTimeMs": "21.5"}',
    },
    "successor": {"summary": '{"data": […]}', "value": [{"label": "dotted", "probability": "0.75"}]},
}


def score(guards: list[Depends]) -> dict[str, Any]:
    """Return the arguments that a route of /score is declared with."""
    statuses = (*STATUSES, 401) if guards else STATUSES
    by_status = {
        200: {
            "description": "the predictions; in the contract of the request",
            "content": {"application/json": {"examples": EXAMPLES}},
        },
        **dict.fromkeys(sorted(statuses), ERROR),
    }
    return {
        "dependencies": guards,
        "response_model": responses.ScoreResponse | str | list[responses.SuccessorResponse],
        "responses": by_status,
        "openapi_extra": {
            "parameters": [EXPLAIN],
            "requestBody": {"required": True, "content": _request_bodies()},
        },
    }


def _request_bodies() -> dict[str, Any]:
    contracts = (requests.OwnRequest, requests.TutorialRequest, requests.SuccessorRequest)
    schemas = [contract.model_json_schema() for contract in contracts]
    for schema in schemas:
        _inline(schema)
    examples = {
        contract.value: {"value": schema["examples"][0]}
        for contract, schema in zip(requests.Contract, schemas, strict=True)
    }
    return {
        "application/json": {"schema": {"oneOf": schemas}, "examples": examples},
        "multipart/form-data": {"schema": FORM},
        **{kind: {"schema": BINARY} for kind in (*IMAGE_TYPES, requests.ANY_IMAGE)},
    }


def _inline(schema: dict[str, Any]) -> None:
    """Inline the definitions that pydantic puts into `$defs`: their references are not valid in OpenAPI."""
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        if reference := field.get("items", {}).get("$ref"):
            field["items"] = definitions[reference.rpartition("/")[2]]

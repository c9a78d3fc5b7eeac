"""What /openapi.json says of /score, which the framework cannot read off a function that takes the body as it comes."""

from typing import Any

from imgclf.images import decoding
from imgclf.service import answers, bodies
from imgclf.service.faults import Fault

DESCRIPTION = (
    "Labels images with one classifier.onnx. Each fault is answered by JSON with `error`, which says what to do; "
    "a request that is answered 503 may be sent again after the seconds that `Retry-After` says."
)
FAULT = {"model": Fault, "description": "what is wrong, and what to do"}
FAULTS = (400, 408, 413, 415, 422, 503)
IMAGE_TYPES = tuple(known.media_type for known in decoding.FORMATS if known.media_type)
BINARY = {"type": "string", "format": "binary"}
FORM = {
    "type": "object",
    "properties": {bodies.FORM_FIELD: {"type": "array", "items": BINARY, "minItems": 1}},
    "required": [bodies.FORM_FIELD],
    "additionalProperties": False,
}

ANSWER_EXAMPLE = {
    "model": {"name": "fashion_texture", "version": "3f1c0a9be4d2"},
    "reject_below": 0.0,
    "milliseconds": 21.5,
    "images": [
        {
            "label": "dotted",
            "unsure": False,
            "score": 1.25,
            "probability": 0.75,
            "scores": {"dotted": 1.25, "striped": -1.25},
            "probabilities": {"dotted": 0.75, "striped": 0.25},
        }
    ],
}
EXAMPLES = {
    "own": {"summary": 'images as they are, files, or {"images": […]}', "value": ANSWER_EXAMPLE},
    "tutorial": {
        "summary": '{"input_df": […]}: a string that holds JSON',
        "value": '{"label": "dotted", "score": "1.25", "allScores": "[ 1.25 -1.25]", "Id2Labels": "{0: \'dotted\', 1: \'striped\'}", "executionTimeMs": "21.5"}',
    },
    "successor": {"summary": '{"data": […]}', "value": [{"label": "dotted", "probability": "0.75"}]},
}


def score(guards: list) -> dict[str, Any]:
    """What a route of /score is declared with."""
    statuses = (*FAULTS, 401) if guards else FAULTS
    responses = {
        200: {
            "description": "the labels; the contract of the request decides the form",
            "content": {"application/json": {"examples": EXAMPLES}},
        },
        **dict.fromkeys(sorted(statuses), FAULT),
    }
    return {
        "dependencies": guards,
        "response_model": answers.Answer | str | list[answers.SuccessorAnswer],
        "responses": responses,
        "openapi_extra": {"requestBody": {"required": True, "content": _bodies()}},
    }


def _bodies() -> dict[str, Any]:
    contracts = (bodies.OwnRequest, bodies.TutorialRequest, bodies.SuccessorRequest)
    schemas = [contract.model_json_schema() for contract in contracts]
    for schema in schemas:
        _inline(schema)
    examples = {
        contract.value: {"value": schema["examples"][0]}
        for contract, schema in zip(bodies.Contract, schemas, strict=True)
    }
    return {
        "application/json": {"schema": {"oneOf": schemas}, "examples": examples},
        "multipart/form-data": {"schema": FORM},
        **{kind: {"schema": BINARY} for kind in IMAGE_TYPES},
    }


def _inline(schema: dict[str, Any]) -> None:
    """Put the definitions that pydantic sets apart to where they are used, since these references have no place in OpenAPI."""
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        if reference := field.get("items", {}).get("$ref"):
            field["items"] = definitions[reference.rpartition("/")[2]]

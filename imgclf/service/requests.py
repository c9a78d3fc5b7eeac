"""Parsing requests: the images in a body, in any of the supported contracts."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imgclf.service.limits import Limits, ReceivedBody

FORM_FIELD = "images"
HOW = (
    f"send one raw image with Content-Type: image/jpeg (or another image type), "
    f"files as multipart/form-data in the field '{FORM_FIELD}', "
    'or JSON {"images": ["<base64>"]} as application/json'
)
ONE_KEY = 'send {"images": ["<base64>"]}'
EXAMPLE = (  # a PNG of 2 x 2 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mM8oaHBwMDAxMDAwMDAAAAN6gEcJklYAwAAAABJRU5ErkJggg=="
)
MOST_SHOWN = 60  # characters of the request that an error message quotes

Base64 = Annotated[
    str,
    Field(
        json_schema_extra={"format": "base64-image"}, description="the content of an image file, in base64"
    ),
]


class Contract(Enum):
    """The form of a request and its response."""

    OWN = "images"
    TUTORIAL = "input_df"
    SUCCESSOR = "data"


class OwnRequest(BaseModel):
    """Images as base64 in JSON."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"images": [EXAMPLE]}]})
    images: list[Base64] = Field(min_length=1)


class Record(BaseModel):
    """A row of the tutorial's table."""

    image: Base64 = Field(alias="image base64 string")


class TutorialRequest(BaseModel):
    """The request of the tutorial's client; of several records the first is scored."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input_df": [{"image base64 string": EXAMPLE}]}]}
    )
    input_df: list[Record] = Field(min_length=1)


class SuccessorRequest(BaseModel):
    """The request of clients of the tutorial's successor."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"data": [EXAMPLE]}]})
    data: list[Base64] = Field(min_length=1)


class _AnyRequest(BaseModel):
    """Any of the three: a model of its own, so that an error message is about the contract that was used.

    Validation stops at the first error and accepts unknown keys, which are rejected afterwards: a million
    errors would take seconds and exhaust the memory.
    """

    model_config = ConfigDict(extra="allow")
    # None stands for a missing key; the types do not allow it, so that null is rejected.
    images: Annotated[list[str], FailFast()] = None  # type: ignore[assignment]
    input_df: Annotated[list[Record], FailFast()] = None  # type: ignore[assignment]
    data: Annotated[list[str], FailFast()] = None  # type: ignore[assignment]

    def contents(self) -> tuple[Contract, list[str]]:
        """Return the contract, and the images in base64."""
        given = [contract for contract in Contract if getattr(self, contract.value) is not None]
        if self.model_extra:
            raise HTTPException(
                400, f"the JSON has the unknown key {next(iter(self.model_extra))[:MOST_SHOWN]!a}; {ONE_KEY}"
            )
        if len(given) != 1:
            raise HTTPException(
                400, f"the JSON must have one of the keys images, input_df and data; {ONE_KEY}"
            )
        contract = given[0]
        if contract is Contract.TUTORIAL:
            return contract, [record.image for record in self.input_df[:1]]
        texts: list[str] = getattr(self, contract.value)
        return contract, texts


@dataclass(frozen=True)
class ScoreRequest:
    """The images of a request: the contents of the files, and the names that error messages use."""

    contract: Contract
    images: Sequence[bytes]
    names: Sequence[str]


async def receive(request: Request, received: ReceivedBody, *, seconds: float) -> None:
    """Read the body, in at most `seconds`.

    Raises
    ------
    HTTPException : 408, timeout; 413, the body is too large; 503, all bodies together are too large.
    """
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                received.add(chunk)
    except TimeoutError:
        raise HTTPException(
            408,
            f"the body did not arrive within {seconds:g} seconds; "
            "send smaller requests, or use a faster connection",
        ) from None


async def parse(request: Request, body: bytearray, limits: Limits, pool: Executor) -> ScoreRequest:
    """Return the images in a body. JSON is parsed in `pool`, so that it does not block the event loop.

    Raises
    ------
    HTTPException : 400, malformed; 413, too many images; 415, unsupported media type or encoding.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not supported; send it without Content-Encoding")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return ScoreRequest(Contract.OWN, [bytes(body)], ["image"])
    if kind == "multipart/form-data":
        return await _parse_form(request, body, limits)
    if kind == "application/json":
        return await asyncio.get_running_loop().run_in_executor(pool, _parse_json, body, limits)
    raise HTTPException(415, f"Content-Type {kind[:MOST_SHOWN] or 'is missing'}: not supported; {HOW}")


class _InMemory(MultiPartParser):
    """Keeps files in memory; its base class spools those above 1 MB to disk. Bodies are limited already."""

    spool_max_size = 2**62


async def _parse_form(request: Request, body: bytearray, limits: Limits) -> ScoreRequest:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield bytes(body)

    try:
        form = await _InMemory(request.headers, whole(), max_files=limits.images, max_fields=1).parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many files") else 400
        raise HTTPException(status, f"the form cannot be read: {error.message.rstrip('.')}; {HOW}") from None
    parts = [part for name, part in form.multi_items() if name == FORM_FIELD and isinstance(part, UploadFile)]
    if not parts or len(parts) < len(form.multi_items()):
        raise HTTPException(
            400, f"the form must hold files in the field '{FORM_FIELD}' and nothing else; {HOW}"
        )
    contents = [await part.read() for part in parts]
    await form.close()
    return ScoreRequest(Contract.OWN, contents, _names("images", len(contents)))


def _parse_json(body: bytearray, limits: Limits) -> ScoreRequest:
    try:
        contract, texts = _AnyRequest.model_validate_json(bytes(body)).contents()
    except ValidationError as error:
        raise HTTPException(400, _message(error)) from None
    if not texts:
        raise HTTPException(400, f"{contract.value} is empty; it must hold at least one image")
    if len(texts) > limits.images:
        raise HTTPException(
            413,
            f"{contract.value} holds {len(texts):,} images, more than {limits.images}; "
            "send them in several requests",
        )
    names = _names(contract.value, len(texts))
    return ScoreRequest(
        contract, [_decode(text, name) for text, name in zip(texts, names, strict=True)], names
    )


def _names(where: str, count: int) -> list[str]:
    return [f"{where}[{i}]" for i in range(count)]


def _message(error: ValidationError) -> str:
    """Return the first validation error of a JSON body as a sentence."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))[:MOST_SHOWN] or "the body"
    return f"{json.dumps(where)}: {first['msg']}; {ONE_KEY}"


def _decode(text: str, name: str) -> bytes:
    """Decode base64; line breaks, and b'…' around it as the tutorial's client may send, are tolerated."""
    text = "".join(text.split())
    if text[:2] in ("b'", 'b"') and text[-1:] == text[1]:
        text = text[2:-1]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(
            400, f"{name}: not base64; send the bytes of an image file in base64, with padding"
        ) from None

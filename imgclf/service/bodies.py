"""What a request asks for: the images in its body, by any of the contracts."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imgclf.service.limits import Held, Limits

FORM_FIELD = "images"
HOW = (
    f"send an image as it is with Content-Type: image/jpeg (or another image type), files as multipart/form-data in the field '{FORM_FIELD}', "
    'or JSON {"images": ["<base64>"]} as application/json'
)
ONE_KEY = 'send {"images": ["<base64>"]}'
EXAMPLE = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mM8oaHBwMDAxMDAwMDAAAAN6gEcJklYAwAAAABJRU5ErkJggg=="  # a PNG of 2 x 2 pixels
MOST_SHOWN = 60  # characters of what a caller sent that are sent back

Base64 = Annotated[
    str, Field(json_schema_extra={"format": "base64-image"}, description="the file of an image, in base64")
]


class Contract(Enum):
    """How a request is put and answered."""

    OWN = "images"
    TUTORIAL = "input_df"
    SUCCESSOR = "data"


class OwnRequest(BaseModel):
    """Images in JSON."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"images": [EXAMPLE]}]})
    images: list[Base64] = Field(min_length=1)


class Record(BaseModel):
    """A row of the tutorial's table."""

    image: Base64 = Field(alias="image base64 string")


class TutorialRequest(BaseModel):
    """What the tutorial's client sends; of several records the first is scored."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input_df": [{"image base64 string": EXAMPLE}]}]}
    )
    input_df: list[Record] = Field(min_length=1)


class SuccessorRequest(BaseModel):
    """What clients of the tutorial's successor send."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"data": [EXAMPLE]}]})
    data: list[Base64] = Field(min_length=1)


class _AnyRequest(BaseModel):
    """One of the three; a model of its own, so that a fault is told of the contract that was meant.

    It stops at the first fault, and takes other keys in to refuse them after: a million faults would take seconds, and all memory.
    """

    model_config = ConfigDict(extra="allow")
    images: Annotated[list[str], FailFast()] = (
        None  # None stands for a key that is not there; null is refused
    )
    input_df: Annotated[list[Record], FailFast()] = None
    data: Annotated[list[str], FailFast()] = None

    def asked(self) -> tuple[Contract, list[str]]:
        """The contract, and the images in base64."""
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
        return contract, getattr(self, contract.value)


@dataclass(frozen=True)
class Asked:
    """The images of a request: the files' contents, and what faults call them."""

    contract: Contract
    images: Sequence[bytes]
    names: Sequence[str]


async def receive(request: Request, held: Held, *, seconds: float) -> None:
    """Take in the body, in at most `seconds`.

    Raises
    ------
    HTTPException : 408, it came too slowly; 413, it is too large; 503, too much is arriving at once.
    """
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                held.add(piece)
    except TimeoutError:
        raise HTTPException(
            408,
            f"the body did not arrive within {seconds:g} seconds; send less at once, or over a faster line",
        ) from None


async def asked(request: Request, body: bytearray, limits: Limits, pool: Executor) -> Asked:
    """The images that a body holds. Large JSON is read in `pool`, where it holds up nobody else.

    Raises
    ------
    HTTPException : 400, damaged; 413, more images than may be; 415, of a type or an encoding that is not taken.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not taken; send it without Content-Encoding")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return Asked(Contract.OWN, [bytes(body)], ["image"])
    if kind == "multipart/form-data":
        return await _of_form(request, body, limits)
    if kind == "application/json":
        return await asyncio.get_running_loop().run_in_executor(pool, _of_json, body, limits)
    raise HTTPException(415, f"Content-Type {kind[:MOST_SHOWN] or 'is missing'}: not taken; {HOW}")


class _InMemory(MultiPartParser):
    """Without its habit of writing files above 1 MB to disk; how much arrives is limited already."""

    spool_max_size = 2**62


async def _of_form(request: Request, body: bytearray, limits: Limits) -> Asked:
    async def whole() -> AsyncIterator[bytes]:
        yield bytes(body)

    try:
        form = await _InMemory(request.headers, whole(), max_files=limits.images, max_fields=1).parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many files") else 400
        raise HTTPException(status, f"the form cannot be read: {error.message.rstrip('.')}; {HOW}") from None
    parts = form.multi_items()
    if not parts or any(name != FORM_FIELD or not isinstance(part, UploadFile) for name, part in parts):
        raise HTTPException(
            400, f"the form must hold files in the field '{FORM_FIELD}' and nothing else; {HOW}"
        )
    contents = [await part.read() for _, part in parts]
    await form.close()
    return Asked(Contract.OWN, contents, _names("images", len(contents)))


def _of_json(body: bytearray, limits: Limits) -> Asked:
    try:
        contract, texts = _AnyRequest.model_validate_json(bytes(body)).asked()
    except ValidationError as error:
        raise HTTPException(400, _told(error)) from None
    if not texts:
        raise HTTPException(400, f"{contract.value} is empty; it must hold at least one image")
    if len(texts) > limits.images:
        raise HTTPException(
            413,
            f"{contract.value} holds {len(texts):,} images, more than {limits.images}; send them in several requests",
        )
    names = _names(contract.value, len(texts))
    return Asked(contract, [_decoded(text, name) for text, name in zip(texts, names, strict=True)], names)


def _names(where: str, count: int) -> list[str]:
    return [f"{where}[{i}]" for i in range(count)]


def _told(error: ValidationError) -> str:
    """The first fault of a JSON body in a sentence."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))[:MOST_SHOWN] or "the body"
    return f"{json.dumps(where)}: {first['msg']}; {ONE_KEY}"


def _decoded(text: str, name: str) -> bytes:
    """The bytes that base64 stands for; line ends, and b'…' around it as the tutorial's client may send, are tolerated."""
    text = "".join(text.split())
    if text[:2] in ("b'", 'b"') and text[-1:] == text[1]:
        text = text[2:-1]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(
            400, f"{name}: not base64; send the bytes of an image file in base64, with padding"
        ) from None

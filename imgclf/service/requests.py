"""Parsing requests: the images in a body, in any of the supported contracts."""

import asyncio
import base64
import binascii
import codecs
import json
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from starlette.datastructures import Headers, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from imgclf.service.limits import Limits
from imgclf.service.load import Budget, ReceivedBody

FORM_FIELD = "images"
EXPLAIN = "explain"  # name in the query of a URL
HOW = (
    f"send one raw image with Content-Type: image/jpeg, another image type or application/octet-stream, "
    f"files as multipart/form-data in the field '{FORM_FIELD}', "
    'or JSON {"images": ["<base64>"]} as application/json'
)
ONE_KEY = 'send {"images": ["<base64>"]}'
EXAMPLE = (  # a PNG of 2 x 2 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mM8oaHBwMDAxMDAwMDAAAAN6gEcJklYAwAAAABJRU5ErkJggg=="
)
MOST_SHOWN = 60  # characters of the request that an error message quotes
ANY_IMAGE, FORM, JSON = "application/octet-stream", "multipart/form-data", "application/json"
GZIP = ("gzip", "x-gzip")
CHARSETS = (
    *("utf-8", "utf-8-sig", "ascii", "iso8859-1", "cp1252"),
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
)
SMALLER = "send fewer images a request, or smaller ones"
BAD_GZIP = "the body is not gzip, or damaged; compress it again, or send it without Content-Encoding"
# Values in JSON, which are bounded before it is parsed: in general, and for each image.
VALUES, VALUES_PER_IMAGE = 1000, 30
# Memory for parsing, in sizes of the body: the text, at most four bytes a character, and the images.
JSON_COPIES, FORM_COPIES = 6, 2
URL_SAFE = bytes.maketrans(b"-_", b"+/")

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


@dataclass(frozen=True)
class BodyType:
    """What the headers say of a body.

    Attributes
    ----------
    media_type : in lower case, without parameters. charset : "" if none is declared.
    """

    media_type: str
    charset: str
    is_gzip: bool


def body_type(headers: Headers) -> BodyType:
    """Return the type of a body, before it is read.

    Raises
    ------
    HTTPException : 415, unsupported media type, charset or encoding.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", *GZIP):
        raise HTTPException(
            415, f"Content-Encoding {encoding[:MOST_SHOWN]!a}: not supported; use gzip, or send it without"
        )
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.startswith("image/") and media_type not in (ANY_IMAGE, FORM, JSON):
        raise HTTPException(
            415, f"Content-Type {media_type[:MOST_SHOWN] or 'is missing'}: not supported; {HOW}"
        )
    charset = str(_content_type(headers).get_param("charset", "")) if media_type == JSON else ""
    with suppress(LookupError, ValueError):  # an unknown one is rejected below
        charset = codecs.lookup(charset).name if charset else ""
    if charset and charset not in CHARSETS:
        raise HTTPException(415, f"charset {charset[:MOST_SHOWN]!a}: not supported; send JSON as UTF-8")
    return BodyType(media_type, charset, encoding in GZIP)


def _content_type(headers: Headers) -> Message:
    declared = Message()
    declared["Content-Type"] = headers.get("content-type", "")
    return declared


def wants_explanations(query: QueryParams) -> bool:
    """Return whether a request asks for the class activation map of each image.

    Raises
    ------
    HTTPException : 400, another value than 0 or 1.
    """
    value = query.get(EXPLAIN, "0")
    if value not in ("0", "1"):
        raise HTTPException(400, f"explain={value[:MOST_SHOWN]!a}: must be 0 or 1; send ?explain=1 for maps")
    return value == "1"


async def receive(request: Request, received: ReceivedBody, limits: Limits, *, is_gzip: bool) -> None:
    """Read the body, and decompress it.

    Raises
    ------
    HTTPException : 400, damaged gzip; 408, timeout; 413, the body is too large; 503, all bodies of this
        client, or of all, are too large.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    end, arrived, counted = now + limits.body_seconds, 0, 0
    decompressed = _Decompressed(received, limits.body_bytes) if is_gzip else None
    try:
        async with asyncio.timeout_at(min(end, now + limits.stall_seconds)) as timeout:
            async for chunk in request.stream():
                arrived += len(chunk)
                if arrived - counted >= limits.stall_bytes:
                    counted = arrived
                    timeout.reschedule(min(end, loop.time() + limits.stall_seconds))
                if decompressed:
                    await decompressed.add(chunk)
                else:
                    received.add(chunk)
    except TimeoutError:
        reason = (
            f"the body did not arrive within {limits.body_seconds:g} seconds"
            if loop.time() >= end
            else f"less than {limits.stall_bytes:,} bytes arrived within {limits.stall_seconds:g} seconds"
        )
        raise HTTPException(408, f"{reason}; send smaller requests, or use a faster connection") from None
    if decompressed:
        decompressed.check_complete()


class _Decompressed:
    """Decompresses a gzip body as it arrives, up to a number of bytes."""

    def __init__(self, received: ReceivedBody, most: int) -> None:
        self._received, self._most = received, most
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)

    async def add(self, chunk: bytes) -> None:
        room = self._most - len(self._received.content)
        try:
            content = await asyncio.to_thread(self._gzip.decompress, chunk, room + 1)
        except zlib.error:
            raise HTTPException(400, BAD_GZIP) from None
        if len(content) > room:
            raise HTTPException(413, f"the gzip body becomes larger than {self._most:,} bytes; {SMALLER}")
        self._received.add(content)

    def check_complete(self) -> None:
        if not self._gzip.eof or self._gzip.unused_data:
            raise HTTPException(400, BAD_GZIP)


async def parse(
    request: Request, kind: BodyType, body: bytes, limits: Limits, memory: Budget
) -> ScoreRequest:
    """Return the images in a body. JSON is parsed in a thread, so that it does not block the event loop.

    Raises
    ------
    HTTPException : 400, malformed; 413, too many images.
    """
    if kind.media_type == FORM:
        async with memory.reserve(FORM_COPIES * len(body)):
            return await _parse_form(request, body, limits)
    if kind.media_type == JSON:
        async with memory.reserve(JSON_COPIES * len(body)):
            return await asyncio.to_thread(_parse_json, body, kind.charset, limits)
    return ScoreRequest(Contract.OWN, [body], ["image"])


class _InMemory(MultiPartParser):
    """Keeps files in memory; its base class spools those above 1 MB to disk. Bodies are limited already."""

    spool_max_size = 2**62


async def _parse_form(request: Request, body: bytes, limits: Limits) -> ScoreRequest:
    declared = _content_type(request.headers)
    declared.del_param("charset")  # the name of our field is ASCII; some codecs raise
    headers = Headers({"content-type": declared["Content-Type"]})

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(headers, whole(), max_files=limits.images, max_fields=1).parse()
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


def _parse_json(body: bytes, charset: str, limits: Limits) -> ScoreRequest:
    body = _as_utf8(body, charset)
    # Each value that the parser makes follows one of these; base64 contains none of them.
    most = VALUES + VALUES_PER_IMAGE * limits.images
    if sum(body.count(sign) for sign in b"[{,:") > most:
        raise HTTPException(
            413,
            f"the JSON has more than {most:,} of the characters [ {{ , and :; send fewer images a request",
        )
    try:
        contract, texts = _AnyRequest.model_validate_json(body).contents()
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


def _as_utf8(body: bytes, charset: str) -> bytes:
    """Return JSON in UTF-8 without a byte order mark; a charset that is not declared is detected."""
    charset = charset or json.detect_encoding(body)
    if charset in ("utf-8", "utf-8-sig", "ascii"):
        return body.removeprefix(codecs.BOM_UTF8)
    try:
        return body.decode(charset).removeprefix("\ufeff").encode()
    except UnicodeError:
        raise HTTPException(400, f"the JSON is not {charset}; send it as UTF-8") from None


def _decode(text: str, name: str) -> bytes:
    """Decode base64, also that for URLs, without padding, or as a data URL.

    Line breaks are tolerated, and b'…' around it, as the tutorial's client may send.
    """
    try:
        encoded = text.encode("ascii").translate(URL_SAFE, b" \t\r\n")
        if encoded[:2] in (b"b'", b'b"') and encoded[-1:] == encoded[1:2]:
            encoded = encoded[2:-1]
        if encoded[:5].lower() == b"data:":
            encoded = _of_data_url(encoded, name)
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(400, f"{name}: not base64; send the bytes of an image file in base64") from None


def _of_data_url(url: bytes, name: str) -> bytes:
    """Return the base64 of a data URL."""
    head, comma, encoded = url.partition(b",")
    if not comma or not head.lower().endswith(b";base64"):
        raise HTTPException(400, f"{name}: a data URL without base64; send data:image/jpeg;base64,…")
    return encoded

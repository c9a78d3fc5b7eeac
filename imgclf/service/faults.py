"""What a caller did wrong, always as JSON that says what to do; nothing of the inside is told."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

NOT_FOUND = (
    "there is nothing at this address; images go to POST /score, and /openapi.json lists all addresses"
)
WRONG_METHOD = "this address does not take this method; the header Allow says which, and /openapi.json lists all addresses"
INTERNAL = "the service failed; its log says why"


class ImageFault(BaseModel):
    """One image that cannot be used."""

    image: int = Field(description="position in the request, from 0")
    error: str


class Fault(BaseModel):
    """What is wrong with a request, and what to do."""

    error: str
    images: list[ImageFault] | None = Field(
        None, description="the images that cannot be used, where others can"
    )


class UnusableImages(HTTPException):
    """Images of a request that cannot be used; all of them are named, so that the rest can be sent again.

    Parameters
    ----------
    faults : position in the request, from 0, and what is wrong with the image.
    """

    def __init__(self, faults: Mapping[int, str]) -> None:
        super().__init__(422, next(iter(faults.values())))
        self.faults = faults


def answer(
    status: int,
    error: str,
    *,
    headers: Mapping[str, str] | None = None,
    images: Mapping[int, str] | None = None,
) -> JSONResponse:
    """A fault as an answer."""
    content = {
        "error": error,
        **({"images": [{"image": i, "error": text} for i, text in images.items()]} if images else {}),
    }
    return JSONResponse(content, status, headers)


def install(app: FastAPI, *, body_bytes: int) -> None:
    """Have all faults of `app` answered as JSON, those of the framework too."""
    # What the framework itself says when it refuses, and what we say.
    said = {
        "Not Found": NOT_FOUND,
        "Method Not Allowed": WRONG_METHOD,
        "Content Too Large": too_large(body_bytes),
    }

    def refused(request: Request, error: HTTPException) -> Response:
        return answer(
            error.status_code,
            said.get(error.detail, error.detail),
            headers=error.headers,
            images=getattr(error, "faults", None),
        )

    def failed(request: Request, error: Exception) -> Response:
        return answer(500, INTERNAL)  # the server logs the traceback

    def gone(request: Request, error: ClientDisconnect) -> Response:
        return answer(
            400, "the connection ended before the request did; send it again"
        )  # for the metrics; nobody reads it

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)


def too_large(body_bytes: int) -> str:
    """What is said of a body that is too large."""
    return f"the body is larger than {body_bytes:,} bytes; send fewer images a request, or smaller ones"

"""Error responses: always JSON that says what is wrong and what to do; no internals are exposed."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

NOT_FOUND = "there is nothing at this URL; send images to POST /score; /openapi.json lists all endpoints"
WRONG_METHOD = (
    "this endpoint does not support this method; the header Allow says which, "
    "and /openapi.json lists all endpoints"
)
INTERNAL = "the service failed; its log says why"


class ImageError(BaseModel):
    """One image of a request that cannot be decoded."""

    image: int = Field(description="position in the request, from 0")
    error: str


class Error(BaseModel):
    """What is wrong with a request, and what to do."""

    error: str
    images: list[ImageError] | None = Field(
        None, description="the images that cannot be decoded, if others can"
    )


class UndecodableImages(HTTPException):
    """422: images of a request that cannot be decoded. All are named, so that a client can resend the rest.

    Parameters
    ----------
    reasons : position in the request, from 0, and what is wrong with that image.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(422, next(iter(reasons.values())))
        self.reasons = reasons


def response(
    status: int,
    error: str,
    *,
    headers: Mapping[str, str] | None = None,
    images: Mapping[int, str] | None = None,
) -> JSONResponse:
    """Return an error as a JSON response."""
    content = {
        "error": error,
        **({"images": [{"image": i, "error": text} for i, text in images.items()]} if images else {}),
    }
    return JSONResponse(content, status, headers)


def install(app: FastAPI, *, body_bytes: int) -> None:
    """Register handlers that return every error of `app` as JSON, those of the framework too."""
    # The framework's own messages, and ours in their place.
    messages = {
        "Not Found": NOT_FOUND,
        "Method Not Allowed": WRONG_METHOD,
        "Content Too Large": too_large(body_bytes),
    }

    def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # for this class alone it is registered
        return response(
            error.status_code,
            messages.get(error.detail, error.detail),
            headers=error.headers,
            images=getattr(error, "reasons", None),
        )

    def internal_error(request: Request, error: Exception) -> Response:
        return response(500, INTERNAL)  # the server logs the traceback

    def disconnected(request: Request, error: Exception) -> Response:
        # For the metrics: the client is gone and does not read it.
        return response(400, "the connection ended before the request did; send it again")

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, disconnected)
    app.add_exception_handler(Exception, internal_error)


def too_large(body_bytes: int) -> str:
    """Return the message for a body that is too large."""
    return f"the body is larger than {body_bytes:,} bytes; send fewer images a request, or smaller ones"

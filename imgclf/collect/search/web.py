"""Asking the HTTP interface of a search service: one request after another, at the rate that it allows."""

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import httpx

from imgclf import ImgclfError
from imgclf.downloads import (
    BACK_OFF_SECONDS,
    TRANSIENT,
    DownloadError,
    as_download_error,
    check_status,
    client,
    retry,
)

ATTEMPTS = 5
MAX_BYTES = 20_000_000  # of an answer
MAX_SECONDS = 60  # for an answer
MOST_SECONDS_TO_WAIT = 40 * 86_400  # that a service is believed
UNTOLD_SECONDS = (
    "60"  # to wait after too many requests, if the service does not say; limits are by the minute
)


class RateLimited(ImgclfError):
    """A service asks to wait for longer than a request waits.

    Attributes
    ----------
    seconds : to wait.
    """

    def __init__(self, name: str, seconds: float):
        self.seconds = min(seconds, MOST_SECONDS_TO_WAIT)
        super().__init__(f"{name} asks to wait {self.seconds:,.0f} seconds; run again then")


def refuse_errors(content: dict[str, Any]) -> None:
    """Raise an error for an answer that reports one with the status 200; most services never do."""


def wait_by_headers(headers: Mapping[str, str]) -> str:
    """The seconds, or the date, until which a service with the status 429 asks to wait."""
    return headers.get("retry-after", "")


class Interface:
    """The HTTP interface of a service that answers in JSON.

    Parameters
    ----------
    name : of the service, for messages.
    url : of the interface.
    seconds_between : from the start of one request to the start of the next.
    headers : to send, such as a key.
    wait : gives the wait that a refused request asks for, by the headers of the response.
    check : raises a DownloadError for content that reports an error.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        seconds_between: float = 0,
        headers: Mapping[str, str] | None = None,
        wait: Callable[[Mapping[str, str]], str] = wait_by_headers,
        check: Callable[[dict[str, Any]], None] = refuse_errors,
    ):
        self.name, self.url = name, url
        self._seconds_between, self._headers = seconds_between, headers or {}
        self._wait, self._check = wait, check
        self._next = 0.0  # on the clock time.monotonic

    def get(self, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        """The JSON object of an answer, after the short waits that the service asks for.

        Raises
        ------
        RateLimited : the service asks to wait for longer.
        ImgclfError : it cannot be reached, refuses the request, or answers with something else.
        """
        try:
            with client("searches for images") as connection:
                return retry(
                    lambda: self._get_once(connection, parameters),
                    attempts=ATTEMPTS,
                    back_off_seconds=BACK_OFF_SECONDS,
                )
        except DownloadError as error:
            if error.retry_after:
                raise RateLimited(self.name, error.retry_after) from error
            raise ImgclfError(
                f"{self.name} ({self.url}) cannot be searched: {error.reason}; "
                "check search_service, search_url, the key and the network, and run again: answers are kept"
            ) from error

    def _get_once(self, connection: httpx.Client, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        time.sleep(max(0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._seconds_between
        try:
            with connection.stream(
                "GET",
                self.url,
                params=dict(parameters),
                headers=dict(self._headers),
                follow_redirects=not self._headers,  # a key goes to no other server
            ) as response:
                wait = self._wait(response.headers)
                if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                    wait = wait or UNTOLD_SECONDS
                check_status(response.status_code, wait)
                body = _body(response)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise as_download_error(error) from error
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DownloadError("the answer is no JSON") from error
        if not isinstance(content, dict):
            raise DownloadError("the answer is no JSON object")
        self._check(content)
        return content


def _body(response: httpx.Response) -> bytes:
    body, deadline = bytearray(), time.monotonic() + MAX_SECONDS
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise DownloadError(f"the answer is larger than {MAX_BYTES / 1e6:g} MB")
        if time.monotonic() > deadline:
            raise DownloadError(f"no complete answer within {MAX_SECONDS} seconds", TRANSIENT)
    return bytes(body)

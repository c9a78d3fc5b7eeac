"""Client of the service: classifies images in batches, with retries and errors that say what to do."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx

from imgclf import ImgclfError, downloads
from imgclf.classifier.results import UNSURE, Labelled, Refused
from imgclf.downloads import TRANSIENT, DownloadError
from imgclf.images import pointers

ATTEMPTS = 5
BACK_OFF_SECONDS = 0.25  # before the second attempt; doubled before each later one
CONNECT_SECONDS = 5
ANSWER_SECONDS = 120
BATCH_IMAGES = 8
BATCH_BYTES = 16 * 2**20
NOT_OURS = "{url}: the response is not from an imgclf service; check the URL"
RETRY_STATUSES = (502, 503, 504)  # the service, or a proxy before it, is busy or starting

Item = TypeVar("Item")


class Client:
    """A client of one service; a context manager that closes its connections.

    Scoring is idempotent, so a request is retried if the connection breaks or the service is busy (502, 503,
    504), with exponential back-off or after the service's Retry-After. Any other error raises at once.

    Parameters
    ----------
    url : of the service, such as http://127.0.0.1:8080.
    token : bearer token; None: no authentication.
    seconds : timeout of one request. attempts : of one request, at most.
    batch_images, batch_bytes : limits of one request; a larger image is sent alone.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        seconds: float = ANSWER_SECONDS,
        attempts: int = ATTEMPTS,
        batch_images: int = BATCH_IMAGES,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/score")
        self._attempts, self._batch_images, self._batch_bytes = attempts, batch_images, batch_bytes
        self._http = downloads.client("labels images")
        self._http.timeout, self._http.follow_redirects = (
            httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            False,
        )
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def metadata(self) -> dict[str, Any]:
        """Return `name`, `version`, `sha256`, `labels`, `preprocessing`, `reject_below`, metrics of training.

        Raises
        ------
        ImgclfError : the service cannot be reached, or responds with an error.
        """
        return self._content(self._request("GET", "/metadata"), "sha256")

    def label(self, contents: Sequence[bytes]) -> list[Labelled | Refused]:
        """Classify images, given as the contents of their files; results in the same order.

        Raises
        ------
        ImgclfError : the service cannot be reached, or rejects more than single images.
        """
        return [answer for _, answer in self._label_all(enumerate(contents))]

    def label_files(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Labelled | Refused]]:
        """Classify image files, in order; at most one request's files are in memory.

        Raises
        ------
        ImgclfError : as of `label`.
        """
        return self._label_all((path, _read(path)) for path in paths)

    def _label_all(
        self, items: Iterable[tuple[Item, bytes | Refused]]
    ) -> Iterator[tuple[Item, Labelled | Refused]]:
        batch: list[tuple[Item, bytes | Refused]] = []
        held = 0  # bytes
        for item, content in items:
            size = len(content) if isinstance(content, bytes) else 0
            if batch and (len(batch) == self._batch_images or held + size > self._batch_bytes):
                yield from self._label_batch(batch)
                batch, held = [], 0
            batch.append((item, content))
            held += size
        yield from self._label_batch(batch)

    def _label_batch(
        self, batch: list[tuple[Item, bytes | Refused]]
    ) -> Iterator[tuple[Item, Labelled | Refused]]:
        answers = iter(self._label([content for _, content in batch if isinstance(content, bytes)]))
        return ((item, content if isinstance(content, Refused) else next(answers)) for item, content in batch)

    def _label(self, contents: list[bytes]) -> list[Labelled | Refused]:
        """One request; more if the service takes less at once, or cannot read some of the images."""
        if not contents:
            return []
        response = self._request(
            "POST",
            "/score",
            files=[
                ("images", (str(i), content, "application/octet-stream"))
                for i, content in enumerate(contents)
            ],
        )
        if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            if len(contents) == 1:
                return [Refused(_error_message(response))]
            half = len(contents) // 2
            return self._label(contents[:half]) + self._label(contents[half:])
        if unreadable := _unreadable(response, len(contents)):
            return self._label_readable(contents, unreadable)
        answers = self._content(response, "images")["images"]
        try:
            labelled = [_labelled(answer) for answer in answers]
        except (KeyError, TypeError):
            labelled = []
        if len(labelled) != len(contents):
            raise ImgclfError(NOT_OURS.format(url=self.url))
        return list(labelled)

    def _label_readable(self, contents: list[bytes], unreadable: dict[int, str]) -> list[Labelled | Refused]:
        """Retry without the images that the service could not decode."""
        rest = iter(self._label([content for i, content in enumerate(contents) if i not in unreadable]))
        return [Refused(unreadable[i]) if i in unreadable else next(rest) for i in range(len(contents))]

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the response to a request, retried with back-off."""
        try:
            return downloads.retry(
                lambda: self._request_once(method, path, **content),
                attempts=self._attempts,
                back_off_seconds=BACK_OFF_SECONDS,
            )
        except DownloadError as error:
            count = f"{error.attempts} attempt{'s' if error.attempts > 1 else ''}"
            raise ImgclfError(f"{self.url}: {error.reason} (after {count})") from error

    def _request_once(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the response to one attempt.

        Raises
        ------
        DownloadError : no connection, or the service is busy; another attempt may succeed.
        ImgclfError : no response in time, or `url` is not that of a service.
        """
        try:
            response = self._http.request(method, self.url + path, **content)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.ReadError,
            httpx.WriteError,
            httpx.RemoteProtocolError,
        ) as error:
            raise DownloadError(f"no connection ({error}); is the service running?", TRANSIENT) from error
        except httpx.TimeoutException as error:  # the service may still work on it: no retry, which adds load
            raise ImgclfError(
                f"{self.url}: no answer in time; send fewer images at once, or allow more seconds"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise ImgclfError(
                f"{self.url}: not the address of a service ({error}); give one such as http://127.0.0.1:8080"
            ) from error
        if response.status_code in RETRY_STATUSES:
            retry_after = downloads.retry_after_seconds(response.headers.get("retry-after", ""))
            raise DownloadError(_error_message(response), TRANSIENT, retry_after)
        return response

    def _content(self, response: httpx.Response, key: str) -> dict[str, Any]:
        """Return the JSON of a successful response.

        Raises
        ------
        ImgclfError : the response is an error, or is not from an imgclf service.
        """
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ImgclfError(
                f"{self.url}: the token is missing or invalid; "
                "set IMGCLF_TOKEN, or name a file with --token-file"
            )
        if response.status_code != HTTPStatus.OK:
            raise ImgclfError(f"{self.url}: {_error_message(response)}")
        if key not in (content := _json(response)):
            raise ImgclfError(NOT_OURS.format(url=self.url))
        return content


def _labelled(answer: dict[str, Any]) -> Labelled:
    """Return the result of one image; services of older versions gave neither familiarity nor reason."""
    known = {"familiarity": None, "reason": UNSURE if answer["label"] is None else None, **answer}
    return Labelled(**{field.name: known[field.name] for field in fields(Labelled)})


def _read(path: Path) -> bytes | Refused:
    try:
        return pointers.read_bytes(path)
    except ImgclfError as error:
        return Refused(str(error).removeprefix(f"{path}: "))


def _json(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an answer holds; empty if it holds none."""
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _error_message(response: httpx.Response) -> str:
    """Return the error message of a response."""
    return str(
        _json(response).get("error") or f"HTTP {response.status_code} {response.reason_phrase}".strip()
    )


def _unreadable(response: httpx.Response, count: int) -> dict[int, str]:
    """Return what is wrong with each image that a response rejects, by its position among `count` images.

    It is empty for another response, also for a 422 of another server, which names no image.
    """
    if response.status_code != HTTPStatus.UNPROCESSABLE_ENTITY:
        return {}
    try:
        faults = {
            int(fault["image"]): str(fault["error"]).partition(": ")[2] for fault in _json(response)["images"]
        }
    except (KeyError, TypeError, ValueError):
        return {}
    return {i: reason for i, reason in faults.items() if i in range(count)}

"""The service: its addresses, and what happens between a request and its answer."""

import asyncio
import hmac
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joblib import cpu_count
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from imgclf import ImgclfError, __version__
from imgclf.images.preprocessing import Preprocessing
from imgclf.service import answers, bodies, faults, openapi
from imgclf.service.envelope import Envelope
from imgclf.service.limits import Limits, Load
from imgclf.service.metrics import Metrics
from imgclf.service.scoring import Model, Scorer

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}

log = logging.getLogger("uvicorn.error")


@dataclass
class Service:
    """What lives as long as the process: the model, the threads, and the counts.

    Attributes
    ----------
    find_model : the path of the classifier; asked at the start and at each SIGHUP.
    model : None until it is loaded and has passed its self-test.
    reject_below : smallest probability with which a label is given, 0 to 1.
    """

    find_model: Callable[[], Path]
    limits: Limits
    reject_below: float
    model: Model | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.load = Load(self.limits)
        self.scorer = Scorer(watch=self.metrics.together)
        self.pool = ThreadPoolExecutor(cpu_count(), thread_name_prefix="decoder")

    async def start(self) -> None:
        """Load the model, if it was not given, and listen for SIGHUP."""
        loop = asyncio.get_running_loop()
        if self.model is None:
            self.model = await asyncio.to_thread(lambda: Model.load(self.find_model()))
        reloads: set[asyncio.Task] = set()  # the loop itself keeps no task alive

        def reload() -> None:
            reloads.add(task := loop.create_task(self.reload()))
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        self.metrics.ready()

    async def reload(self) -> None:
        """Load the model anew; requests go on with the old one until the new one is ready, or for ever if it is refused."""
        try:
            self.model = await asyncio.to_thread(lambda: Model.load(self.find_model()))
        except ImgclfError as error:
            log.error("the model is kept as it was: %s", error)
        else:
            log.warning("now serving %s, version %s", self.model.name, self.model.version)

    def close(self) -> None:
        """Score what waits, and end the threads."""
        self.scorer.close()
        self.pool.shutdown()

    async def score(self, request: Request) -> Any:
        """The answer to a request, in its contract, as values for JSON."""
        self.load.check_queue()
        with self.load.body() as held:
            await bodies.receive(request, held, seconds=self.limits.body_seconds)
            start, model = time.perf_counter(), self.model
            with self.load.request(), self.metrics.under_way():
                asked = await bodies.asked(request, held.content, self.limits, self.pool)
                scored = await self._scored(model, asked)
        for scores, probabilities in scored:
            self.metrics.labelled(
                answers.image_answer(model.classifier.labels, (scores, probabilities), self.reject_below)[
                    "label"
                ]
                or answers.UNSURE
            )
        return answers.write(
            asked.contract,
            model,
            scored,
            reject_below=self.reject_below,
            milliseconds=1000 * (time.perf_counter() - start),
        )

    async def _scored(self, model: Model, asked: bodies.Asked) -> Sequence[answers.Scored]:
        """Scores and probabilities of each image.

        Raises
        ------
        UnusableImages : some cannot be decoded.
        """
        loop = asyncio.get_running_loop()
        prepared = await asyncio.gather(
            *(
                loop.run_in_executor(self.pool, self._prepare, content, model.classifier.preprocessing, name)
                for content, name in zip(asked.images, asked.names, strict=True)
            ),
            return_exceptions=True,
        )
        unexpected = [
            found
            for found in prepared
            if isinstance(found, BaseException) and not isinstance(found, ImgclfError)
        ]
        if unexpected:
            raise unexpected[0]
        if unusable := {i: str(found) for i, found in enumerate(prepared) if isinstance(found, ImgclfError)}:
            raise faults.UnusableImages(unusable)
        return await asyncio.gather(
            *(asyncio.wrap_future(self.scorer.submit(model.classifier, pixels)) for pixels in prepared)
        )

    def _prepare(self, content: bytes, preprocessing: Preprocessing, name: str) -> np.ndarray:
        return preprocessing.apply(content, name, max_pixels=self.limits.pixels)


def create_app(
    find_model: Callable[[], Path],
    *,
    token: str | None = None,
    reject_below: float = 0,
    limits: Limits | None = None,
    model: Model | None = None,
) -> Envelope:
    """The application, to be run by an ASGI server with its lifespan.

    Parameters
    ----------
    find_model : gives the path of the classifier.onnx.
    token : what callers must send as `Authorization: Bearer TOKEN`; None: nothing.
    model : loaded already; by default it is loaded when the server starts, before it listens.
    """
    service = Service(find_model, limits or Limits(), reject_below, model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        service.close()

    app = FastAPI(
        title="imgclf",
        version=__version__,
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        max_body_size=service.limits.body_bytes,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )  # the pages of documentation load scripts from elsewhere
    faults.install(app, body_bytes=service.limits.body_bytes)
    _add_open_addresses(app, service)
    _add_guarded_addresses(app, service, [Depends(_guard(token))] if token else [])
    # Around the whole application and not among its middleware, since the limit on bodies answers outside of that.
    return Envelope(app, metrics=service.metrics, body_bytes=service.limits.body_bytes)


def _guard(token: str) -> Callable:
    """A dependency that lets requests pass that bear the token."""
    bearer = HTTPBearer(auto_error=False, description="the token that the service was started with")

    def check(given: HTTPAuthorizationCredentials | None = Depends(bearer)) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(
                401,
                "send the header Authorization: Bearer TOKEN, with the token that this service was started with",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _add_open_addresses(app: FastAPI, service: Service) -> None:
    """The page, and what probes ask: they tell nothing about the model."""

    @app.get("/health")
    def health() -> answers.State:
        """Whether the service is there."""
        return answers.State(status="ok")

    @app.get("/ready", responses={503: openapi.FAULT})
    def ready() -> answers.State:
        """Whether the model has passed its self-test and images are scored."""
        if service.model is None or not service.scorer.is_alive:
            raise HTTPException(503, "the model is not ready; ask again in a second", {"Retry-After": "1"})
        return answers.State(status="ready")

    for address, name in PAGE_FILES.items():
        app.get(address, include_in_schema=False)(lambda name=name: FileResponse(PAGE / name))


def _add_guarded_addresses(app: FastAPI, service: Service, guards: list) -> None:
    told = {"dependencies": guards, "responses": {401: openapi.FAULT} if guards else None}

    @app.get("/metadata", **told, response_model_exclude_none=True)
    def metadata() -> answers.Metadata:
        """What the model is: labels, input size, and the metrics of its training."""
        return answers.Metadata(**service.model.about(), reject_below=service.reject_below)

    @app.get("/metrics", **told, response_class=Response)
    def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def score(request: Request) -> JSONResponse:
        """Label images."""
        return JSONResponse(await service.score(request))

    app.post("/score", **openapi.score(guards))(score)
    app.post(
        "/api/v1/service/{name}/score",
        **openapi.score(guards),
        summary="Label images, at the address of the tutorial's cluster",
    )(score)

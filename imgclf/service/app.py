"""The REST service: its endpoints, and the path from a request to its response."""

import asyncio
import hmac
import logging
import multiprocessing
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.params import Depends as Dependency
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joblib import cpu_count
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from imgclf import ImgclfError, __version__
from imgclf.classifier import results
from imgclf.classifier.activation_maps import Explainer, NoMaps
from imgclf.classifier.model import Outputs
from imgclf.classifier.results import Labelled
from imgclf.service import errors, openapi, requests, responses
from imgclf.service.decoder import Decoded, Decoder, TooSlow
from imgclf.service.limits import Limits
from imgclf.service.load import Budget, Load, busy
from imgclf.service.metrics import Metrics
from imgclf.service.middleware import ResponseMiddleware
from imgclf.service.origins import OriginMiddleware, Origins
from imgclf.service.scoring import MAX_BATCH, Model, Scorer

MOST_DECODERS = 8  # each is a process of some 40 MB
NOT_READY = "the model is not ready"
FILE_CHANGED = "the file of the classifier is no longer what is served; send SIGHUP to the service"
PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}

log = logging.getLogger("uvicorn.error")


@dataclass
class Service:
    """The state of a process: the model, the decoder, the load, and the metrics.

    Attributes
    ----------
    find_model : returns the path of the classifier; called at the start and at each SIGHUP.
    model : None until it is loaded and has passed its self-test.
    reject_below : smallest probability of a label that is not rejected, 0 to 1.
    reject_unfamiliar : whether the labels of unfamiliar images are rejected.
    """

    find_model: Callable[[], Path]
    limits: Limits
    reject_below: float
    reject_unfamiliar: bool = False
    model: Model | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.load = Load(self.limits)
        self.scorer = Scorer(on_batch=self.metrics.scored_together)
        self.memory = Budget(self.limits.memory_bytes)
        self.decoder = Decoder(min(cpu_count(), MOST_DECODERS), self.limits, self.memory)
        # Images that are decoded, but not scored: as many as keep the scorer busy.
        self.pipeline_slots = asyncio.Semaphore(3 * MAX_BATCH)
        self.explaining = asyncio.Lock()

    async def start(self) -> None:
        """Load the model unless it was given, start the decoders, and handle SIGHUP and the parent's end."""
        loop = asyncio.get_running_loop()
        await self.decoder.start()
        if self.model is None:
            self.model = await asyncio.to_thread(self._load)
        reloads: set[asyncio.Task[None]] = set()  # the event loop keeps weak references only

        def reload() -> None:
            reloads.add(task := loop.create_task(self.reload()))
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        if parent := multiprocessing.parent_process():  # of several workers; it may be killed
            loop.add_reader(parent.sentinel, self._end, parent.sentinel)
        self.metrics.loaded(self.model.unfamiliar_rate)
        self.metrics.ready()

    def _load(self) -> Model:
        return Model.load(self.find_model(), reject_unfamiliar=self.reject_unfamiliar)

    def _end(self, parent: int) -> None:
        """Shut down gracefully, since the parent process is gone."""
        asyncio.get_running_loop().remove_reader(parent)
        signal.raise_signal(signal.SIGTERM)

    async def reload(self) -> None:
        """Reload the model; the current one stays in use until then, and if loading fails."""
        try:
            self.model = await asyncio.to_thread(self._load)
        except ImgclfError as error:
            log.error("the model is kept as it was: %s", error)
        else:
            self.metrics.loaded(self.model.unfamiliar_rate)
            log.warning("now serving %s, version %s", self.model.name, self.model.version)

    def close(self) -> None:
        """Score all queued images, and end threads and processes."""
        self.decoder.close()
        self.scorer.close()

    async def score(self, request: Request) -> Any:
        """Return the response to a request, in its contract, as values for JSON."""
        self.load.check_queue()
        kind = requests.body_type(request.headers)
        explains = requests.wants_explanations(request.query_params)
        with self.load.body(request.client.host if request.client else "") as received:
            await requests.receive(request, received, self.limits, is_gzip=kind.is_gzip)
            start, model = time.perf_counter(), self.loaded_model
            with self.load.request(), self.metrics.in_progress():
                body = received.take()
                parsed = await requests.parse(request, kind, body, self.limits, self.memory)
                del body
                explains &= parsed.contract is requests.Contract.OWN  # the others have no place for maps
                explainer = await self._explainer(model) if explains else None
                scored, explanations = await self._score(model, parsed, explainer)
        labelled = [self._labelled(model, outputs) for outputs in scored]
        for image in labelled:
            self.metrics.predicted(image, model.classifier.familiar_from)
        return responses.write(
            parsed.contract,
            model,
            labelled,
            explanations=explanations,
            reject_below=self.reject_below,
            reject_unfamiliar=self.reject_unfamiliar,
            milliseconds=1000 * (time.perf_counter() - start),
        )

    def _labelled(self, model: Model, outputs: Outputs) -> Labelled:
        scores, probabilities, familiarity = outputs
        return results.labelled(
            model.classifier.labels,
            scores,
            probabilities,
            None if familiarity is None else float(familiarity),
            reject_below=self.reject_below,
            familiar_from=model.classifier.familiar_from if self.reject_unfamiliar else None,
        )

    @property
    def loaded_model(self) -> Model:
        """The model.

        Raises
        ------
        HTTPException : 503, it is not loaded yet.
        """
        if self.model is None:
            raise busy(NOT_READY)
        return self.model

    async def _explainer(self, model: Model) -> Explainer:
        """Return what computes the maps of a model; it is loaded for the first request that asks for them.

        Raises
        ------
        HTTPException : 400, the model has no maps; 503, its file was replaced, moved, or deleted.
        """
        async with self.explaining:
            try:
                return await asyncio.to_thread(model.explainer)
            except NoMaps as error:  # clients see no local path
                raise HTTPException(400, error.reason) from error
            except (ImgclfError, OSError) as error:
                log.error("no maps: %s", error)
                raise busy(FILE_CHANGED) from error

    async def _explain(self, explainer: Explainer, decoded: Decoded) -> str:
        """Return the overlay of an image, as a data URL; one at a time, beside the images that are scored."""
        async with self.explaining:
            return await asyncio.to_thread(responses.explanation, explainer, decoded)

    async def _score(
        self, model: Model, parsed: requests.ScoreRequest, explainer: Explainer | None
    ) -> tuple[Sequence[Outputs], Sequence[str]]:
        """Return the outputs of the classifier for each image, and all maps; none without `explainer`.

        Raises
        ------
        UndecodableImages : some cannot be decoded. After one that takes too long no other is decoded.
        """
        undecodable: dict[int, ImgclfError] = {}

        async def score(i: int) -> tuple[Outputs, str] | None:
            async with self.pipeline_slots:
                try:
                    async with self.decoder.slots:
                        if any(isinstance(error, TooSlow) for error in undecodable.values()):
                            return None
                        decoded = await self.decoder.decode(
                            parsed.images[i], model.classifier.preprocessing, parsed.names[i]
                        )
                except ImgclfError as error:
                    undecodable[i] = error
                if undecodable:  # the request gets an error in any case
                    return None
                scored = await asyncio.wrap_future(self.scorer.submit(model.classifier, decoded.pixels))
            return scored, await self._explain(explainer, decoded) if explainer else ""

        found = await asyncio.gather(*map(score, range(len(parsed.images))))
        if undecodable:
            raise errors.UndecodableImages({i: str(undecodable[i]) for i in sorted(undecodable)})
        scored, explanations = zip(*filter(None, found), strict=True)
        return scored, explanations


def create_app(
    find_model: Callable[[], Path],
    *,
    token: str | None = None,
    reject_below: float = 0,
    reject_unfamiliar: bool = False,
    limits: Limits | None = None,
    origins: Origins | None = None,
    model: Model | None = None,
) -> ResponseMiddleware:
    """Return the ASGI application; the server must run its lifespan.

    Parameters
    ----------
    find_model : returns the path of the classifier.onnx.
    token : bearer token that clients must send; None: no authentication.
    origins : hosts and web pages that are allowed; by default the loopback names, and its own page.
    model : already loaded; by default it is loaded when the server starts, before it listens.
    """
    service = Service(find_model, limits or Limits(), reject_below, reject_unfamiliar, model)

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
        docs_url=None,  # the documentation pages load scripts from other servers
        redoc_url=None,
    )
    errors.install(app, body_bytes=service.limits.body_bytes)
    _add_public_endpoints(app, service)
    _add_protected_endpoints(app, service, [Depends(_authentication(token))] if token else [])
    # Not added by app.add_middleware: the limit on the body's size responds outside of that middleware.
    guarded = OriginMiddleware(app, origins or Origins())
    return ResponseMiddleware(guarded, metrics=service.metrics, body_bytes=service.limits.body_bytes)


def _authentication(token: str) -> Callable[..., None]:
    """Return a dependency that rejects requests without the bearer token."""
    bearer = HTTPBearer(auto_error=False, description="the token that the service was started with")

    def check(given: HTTPAuthorizationCredentials | None = Depends(bearer)) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise HTTPException(
                401,
                "send the header Authorization: Bearer TOKEN, "
                "with the token that this service was started with",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _add_public_endpoints(app: FastAPI, service: Service) -> None:
    """The page, and the endpoints of health probes: they expose nothing about the model."""

    @app.get("/health")
    def health() -> responses.State:
        """Liveness probe."""
        return responses.State(status="ok")

    @app.get("/ready", responses={503: openapi.ERROR})
    def ready() -> responses.State:
        """Readiness probe: whether the model has passed its self-test and images are scored."""
        if service.model is None or not service.scorer.is_alive:
            raise busy(NOT_READY)
        return responses.State(status="ready")

    for url, name in PAGE_FILES.items():
        app.get(url, include_in_schema=False)(lambda name=name: FileResponse(PAGE / name))


def _add_protected_endpoints(app: FastAPI, service: Service, guards: list[Dependency]) -> None:
    declared: dict[str, Any] = {
        "dependencies": guards,
        "responses": {401: openapi.ERROR} if guards else None,
    }

    @app.get("/metadata", **declared, response_model_exclude_none=True)
    def metadata() -> responses.Metadata:
        """The model: labels, preprocessing, and metrics at training time."""
        return responses.Metadata(
            **service.loaded_model.about(),
            reject_below=service.reject_below,
            reject_unfamiliar=service.reject_unfamiliar,
        )

    @app.get("/metrics", **declared, response_class=Response)
    def metrics() -> Response:
        """Metrics in the Prometheus text format."""
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def score(request: Request) -> JSONResponse:
        """Classify images."""
        return JSONResponse(await service.score(request))

    app.post("/score", **openapi.score(guards))(score)
    app.post(
        "/api/v1/service/{name}/score",
        **openapi.score(guards),
        summary="Classify images, at the URL of the tutorial's cluster",
    )(score)

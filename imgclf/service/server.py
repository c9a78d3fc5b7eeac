"""Start the service: one process or several workers, on an address that is safe to bind."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.supervisors import Multiprocess

from imgclf import ImgclfError
from imgclf.classifier.model import check_familiarity, read_metadata
from imgclf.classifier.predict import newest_classifier
from imgclf.service import origins, tokens
from imgclf.service.app import create_app
from imgclf.service.limits import Limits
from imgclf.service.metrics import SHARED_FOLDER
from imgclf.service.protocol import Protocol
from imgclf.service.scoring import Model

START_SECONDS = 30  # timeout of a worker's health check while it starts; the parent blocks meanwhile
SHUTDOWN_SECONDS = 60  # timeout for requests in progress at shutdown


def serve(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    workers: int = 1,
    token: str | None = None,
    reject_below: float = 0,
    reject_unfamiliar: bool = False,
    limits: Limits | None = None,
    allowed_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Serve a classifier until SIGTERM or SIGINT, then finish requests in progress. SIGHUP reloads the model.

    Parameters
    ----------
    model : the classifier.onnx; None: the newest one, also at each SIGHUP.
    port : 0: any free port.
    workers : number of processes; each loads the model.
    token : bearer token of clients; required if other machines can reach the host.
    reject_below : smallest probability of a label that is not rejected, 0 to 1.
    reject_unfamiliar : also reject the labels of images that are unlike the training images.
    allowed_hosts, allow_origins : see `origins.allowed`.
    say : called with a sentence that holds the URL, once the socket is bound.

    Raises
    ------
    ImgclfError : the model fails to load, or cannot tell which images are unfamiliar; the address cannot be
        bound or requires a token; or a host or an origin is malformed.
    """
    tokens.check_safe(host, token)
    find_model = partial(_find, model.absolute() if model else None)
    limits = limits or Limits()
    create = partial(
        create_app,
        find_model,
        token=token,
        reject_below=reject_below,
        reject_unfamiliar=reject_unfamiliar,
        limits=limits,
        origins=origins.allowed(
            host, has_token=token is not None, allowed_hosts=allowed_hosts, allow_origins=allow_origins
        ),
    )
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyboardInterrupt))  # uvicorn raises it again after a graceful shutdown
        listener = stack.enter_context(_listener(host, port))  # first: an address in use fails at once
        if workers == 1:
            loaded = Model.load(find_model(), reject_unfamiliar=reject_unfamiliar)
            config = _config(create(model=loaded), limits=limits)
            name = f"{loaded.name}, version {loaded.version}"
        else:
            path = find_model()
            metadata = read_metadata(path)  # a file that is no classifier fails before processes are started
            if reject_unfamiliar:
                check_familiarity(path, metadata)
            os.environ[SHARED_FOLDER] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="imgclf_metrics_")
            )
            stack.callback(os.environ.pop, SHARED_FOLDER)
            config = _config(create, workers=workers, limits=limits)
            name = find_model().parent.name
        say(f"serving {name} on http://{_authority(listener)} (Ctrl-C ends it, SIGHUP reloads the model)")
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listener])
        else:
            Workers(config, [listener]).run()


class Workers(Multiprocess):
    """uvicorn's worker processes. SIGHUP is forwarded to them; they are not replaced and keep connections."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid and process.is_ready(timeout=1):
                os.kill(process.pid, signal.SIGHUP)
            else:
                process.kill()  # it may hold the old file already; uvicorn replaces it


def _find(model: Path | None) -> Path:
    return model or newest_classifier()


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; uvicorn listens on it when the model is loaded."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            # With IPPROTO_TCP: asyncio sets TCP_NODELAY on such sockets only. Without it each response waits
            # 40 ms for an acknowledgement (Nagle's algorithm).
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()
    except OSError as error:
        raise ImgclfError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another"
        ) from error
    return listener


def _authority(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(app: Callable[..., Any], *, workers: int = 1, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        http=cast(type[Protocol], partial(Protocol, limits=limits)),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )

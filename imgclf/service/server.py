"""Start the service: one process or several, on an address that is safe to listen on."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from imgclf import ImgclfError
from imgclf.classifier.model import read_metadata
from imgclf.classifier.predict import newest_classifier
from imgclf.service import tokens
from imgclf.service.app import create_app
from imgclf.service.limits import Limits
from imgclf.service.metrics import SHARED_FOLDER
from imgclf.service.protocol import Protocol
from imgclf.service.scoring import Model

START_SECONDS = 30  # that a worker may be deaf while it starts; it holds up the parent, so not more
SHUTDOWN_SECONDS = 60  # that requests may take which were accepted before the end


def serve(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    workers: int = 1,
    token: str | None = None,
    reject_below: float = 0,
    limits: Limits | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a classifier until SIGTERM or SIGINT; what was accepted by then is answered. SIGHUP loads the model anew.

    Parameters
    ----------
    model : the classifier.onnx; None: the newest, at each SIGHUP too.
    port : 0: any that is free.
    workers : processes; each loads the model.
    token : what callers must send; needed as soon as other machines can reach the host.
    reject_below : smallest probability with which a label is given, 0 to 1.
    say : told the address when it is open.

    Raises
    ------
    ImgclfError : the model is refused, the address cannot be had, or it needs a token.
    """
    tokens.check_safe(host, token)
    find_model = partial(_find, model.absolute() if model else None)
    settings = {"token": token, "reject_below": reject_below, "limits": limits or Limits()}
    with ExitStack() as stack:
        stack.enter_context(suppress(KeyboardInterrupt))  # raised again by uvicorn when it has ended for it
        listener = stack.enter_context(
            _listener(host, port)
        )  # first, so that an address in use is told at once
        if workers == 1:
            loaded = Model.load(find_model())
            app = create_app(find_model, model=loaded, **settings)
            name = f"{loaded.name}, version {loaded.version}"
        else:
            read_metadata(find_model())  # what is no classifier is told before processes are started
            os.environ[SHARED_FOLDER] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="imgclf_metrics_")
            )
            stack.callback(os.environ.pop, SHARED_FOLDER)
            app = partial(create_app, find_model, **settings)
            name = find_model().parent.name
        config = _config(app, workers=workers, header_seconds=settings["limits"].header_seconds)
        say(f"serving {name} on http://{_shown(listener)} (Ctrl-C ends it, SIGHUP loads the model anew)")
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listener])
        else:
            Workers(config, [listener]).run()


class Workers(Multiprocess):
    """uvicorn's worker processes, which are told of SIGHUP and not replaced: so none of their connections is closed."""

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.is_ready(timeout=1):
                os.kill(process.pid, signal.SIGHUP)
            else:
                process.kill()  # it may have read the old file already; uvicorn starts another in its place


def _find(model: Path | None) -> Path:
    return model or newest_classifier()


def _listener(host: str, port: int) -> socket.socket:
    """A socket with this address; uvicorn has it listen when the model is loaded."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            # Named as TCP, since asyncio sends at once (TCP_NODELAY) on such sockets only; else each answer waits 40 ms for an acknowledgement.
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            stack.pop_all()
    except OSError as error:
        raise ImgclfError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another"
        ) from error
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(app: Callable, *, workers: int, header_seconds: float) -> uvicorn.Config:
    protocol = partial(Protocol, header_seconds=header_seconds)
    return uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        http=protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
    )

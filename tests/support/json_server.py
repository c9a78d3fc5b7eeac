"""A server on 127.0.0.1 that answers requests for JSON by a function, and records them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, str], object]  # status, headers, and JSON or text


@dataclass(frozen=True)
class Request:
    """A request that the server has received; the names of headers in lower case."""

    path: str
    parameters: dict[str, str]
    headers: dict[str, str]


@dataclass
class JsonServer:
    """The address of a running server and what it was asked."""

    url: str = ""
    asked: list[Request] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Request], object | Answer]) -> Iterator[JsonServer]:
    """Serve what `answer` gives: JSON with the status 200, or an `Answer`."""
    state = JsonServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(parts.path, dict(parse_qsl(parts.query)), headers)
            state.asked.append(request)
            result = answer(request)
            status, extra, body = result if isinstance(result, tuple) else (200, {}, result)
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **extra}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}/api"
        try:
            yield state
        finally:
            server.shutdown()

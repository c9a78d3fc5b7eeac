"""A server on 127.0.0.1 that answers each path as a test says, and names and addresses that lead to such servers."""

import io
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

import numpy as np
from PIL import Image

from imgclf.collect.manifest import Entry


def picture(suffix: str, *, width: int = 40, height: int = 30, seed: int = 0, **options: Any) -> bytes:
    """The content of an image file of noise, which no format makes small."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, suffix, **options)
    return content.getvalue()


JPEG = picture("jpeg")


class Handler(BaseHTTPRequestHandler):
    """Gives the answers of `Server.pages`: status and body, or a function of the handler."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.server.agents.add(self.headers["User-Agent"])
        self.server.hosts.add(self.headers["Host"])
        answers = self.server.pages.get(self.path, [(404, b"")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        try:
            answer(self) if callable(answer) else self.give(*answer)
        except OSError:  # the client has disconnected
            self.close_connection = True
            self.server.disconnected.put(self.path)

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a response; `_` in the name of a header stands for `-`."""
        self.send_response(status)
        for name, text in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The server, and what it was asked for."""

    request_queue_size = 64

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.pages: dict[str, list[Any]] = {}
        self.agents: set[str] = set()
        self.hosts: set[str] = set()
        self.ends = threading.Event()
        self.disconnected: SimpleQueue[str] = SimpleQueue()  # paths, as clients give up
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is no error of the server."""

    def entry(self, name: str, *answers: Any, label: str = "apple", **known: Any) -> Entry:
        """The entry of an image at this server, which gives one answer after another; by default a JPEG."""
        self.pages[f"/{name}"] = list(answers) or [(200, JPEG)]
        return Entry(label, f"http://127.0.0.1:{self.server_port}/{name}", **known)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A running server, with TLS if a context is given."""
    with Server() as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.ends.set()
        server.shutdown()
        thread.join()


def redirect(url: str, status: int = 302) -> Callable[[Handler], None]:
    """The answer that leads to another URL."""
    return lambda handler: handler.give(status, Location=url)


class Internet:
    """Names with addresses, and addresses with servers: it takes the place of `socket.getaddrinfo`, so that a
    connection to a public address ends at a server on 127.0.0.1.

    Attributes
    ----------
    names : the addresses of each name, one answer after another; the last one stays.
    servers : the port on 127.0.0.1 of each public address.
    lookups : how often each name was looked up.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.servers: dict[str, int] = {}
        self.lookups: Counter[str] = Counter()
        self._system = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **known: Any) -> list[Any]:
        """Look up a name of this internet, or else of the system."""
        host = host.decode() if isinstance(host, bytes) else host
        if host in self.servers:
            return self._system("127.0.0.1", self.servers[host], *args, **known)
        if host not in self.names:
            return self._system(host, port, *args, **known)
        self.lookups[host] += 1
        answers = self.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in addresses
        ]

"""A server on 127.0.0.1 that answers as the Hugging Face Hub does, and misbehaves where a test says so.

As on the Hub: small files are in git, and `resolve` redirects to a cache on the same host; weights are in LFS,
and `resolve` redirects to another server. A repository that does not exist looks like a private one without a
token. The status codes and headers are those that `huggingface_hub` reads.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".msgpack", ".h5")
TOKEN = "hf_oftests"


@dataclass
class Repository:
    """A model on the Hub.

    Attributes
    ----------
    revisions : the files of each commit, by hash, branch or tag; see `publish`.
    hashes : the sha256 that the API claims for a file, where it is not the true one.
    """

    revisions: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: str | bool = False
    private: bool = False
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """A running server: its models, what it was asked, and how it misbehaves.

    Attributes
    ----------
    asked : method, path and whether the token came, of each request.
    offsets : the first byte asked for, of each request for a file in LFS.
    breaks : for the next requests for files in LFS, after how many bytes the connection is cut.
    statuses : for the next requests to the API, status codes of failures.
    answers : for the next requests to the API, what is answered in place of the truth.
    endless : names of files whose bodies have no end. loops : those that redirect to themselves.
    """

    url: str = ""
    lfs_url: str = ""
    models: dict[str, Repository] = field(default_factory=dict)
    readers: set[str] = field(default_factory=lambda: {TOKEN})  # the tokens that may read gated models
    invalid: set[str] = field(default_factory=set)  # tokens that are none
    asked: list[tuple[str, str, bool]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    offsets: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    endless: set[str] = field(default_factory=set)
    loops: set[str] = field(default_factory=set)

    def publish(
        self, name: str, files: Path | Mapping[str, bytes], *, tags: tuple[str, ...] = (), **settings: object
    ) -> str:
        """Commit files, those of a folder perhaps, to `main` of a model; return the hash of the commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in sorted(files.iterdir())}
        repository = self.models.setdefault(name, Repository())
        for key, value in settings.items():
            setattr(repository, key, value)
        listing = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        commit = hashlib.sha1(json.dumps([name, listing]).encode()).hexdigest()
        for revision in ("main", commit, *tags):
            repository.revisions[revision] = (commit, dict(files))
        return commit

    def paths(self) -> list[str]:
        """The paths asked for so far."""
        return [path for _, path, _ in self.asked]


def git_hash(content: bytes) -> str:
    """The hash of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_in_lfs(file: str) -> bool:
    return file.endswith(LFS_SUFFIXES)


class Handler(BaseHTTPRequestHandler):
    """Answers of the Hub, and of the server of its large files."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.token = authorization.removeprefix("Bearer ")
        path = urlsplit(self.path).path
        self.hub.asked.append((self.command, path, bool(self.token)))
        self.hub.agents.add(self.headers.get("User-Agent", ""))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.info(match[1], unquote(match[2] or "main"))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.tree(match[1], unquote(match[2]))
        elif match := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.content(match[1], match[2], unquote(match[3]))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(r"/lfs/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.lfs(match[1], match[2], unquote(match[3]))
        else:
            self.fail(404, "", "Sorry, we can't find the page you are looking for.")

    def found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a model and its files, or None after an answer that says why there are none."""
        repository = self.hub.models.get(name)
        if self.token in self.hub.invalid:
            self.fail(401, "", "Invalid credentials in Authorization header")
            return None
        if repository is None or (repository.private and self.token not in self.hub.readers):
            if self.token:
                self.fail(404, "RepoNotFound", "Repository not found")
            else:
                self.fail(401, "RepoNotFound", "Invalid username or password.")
            return None
        if revision not in repository.revisions:
            self.fail(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository.revisions[revision]

    def info(self, name: str, revision: str) -> None:
        """Answer what the API says of a model."""
        if self.hub.statuses:
            self.fail(self.hub.statuses.pop(0), "", "Service unavailable")
            return
        if self.hub.answers:
            self.give(200, self.hub.answers.pop(0), {"Content-Type": "application/json"})
            return
        if (found := self.found(name, revision)) is None:
            return
        repository, (commit, files) = self.hub.models[name], found
        has_sizes = "blobs=" in self.path
        licence = repository.card.get("license")
        answer = {
            "_id": "0",
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "tags": ["safetensors", *([f"license:{licence}"] if licence else [])],
            "cardData": repository.card or None,
            "siblings": [
                {"rfilename": file} | (self.blob(repository, file, content) if has_sizes else {})
                for file, content in files.items()
            ],
        }
        self.give(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def tree(self, name: str, revision: str) -> None:
        """Answer with the list of the files, as `snapshot_download` asks for it."""
        if (found := self.found(name, revision)) is None:
            return
        answer = []
        for file, content in found[1].items():
            entry = {"type": "file", "path": file, "size": len(content), "oid": git_hash(content)}
            if is_in_lfs(file):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            answer.append(entry)
        self.give(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def blob(self, repository: Repository, file: str, content: bytes) -> dict[str, object]:
        blob: dict[str, object] = {"size": len(content), "blobId": git_hash(content)}
        if is_in_lfs(file):
            sha256 = repository.hashes.get(file, hashlib.sha256(content).hexdigest())
            blob["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        return blob

    def resolve(self, name: str, revision: str, file: str) -> None:
        """Redirect to the content of a file."""
        if (found := self.found(name, revision)) is None:
            return
        commit, files = found
        if self.hub.models[name].gated and self.token not in self.hub.readers:
            text = f"Access to model {name} is restricted. You must have access to it and be authenticated."
            self.fail(403 if self.token else 401, "GatedRepo", text)
            return
        if file not in files:
            self.fail(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = files[file]
        etag = hashlib.sha256(content).hexdigest() if is_in_lfs(file) else git_hash(content)
        if file in self.hub.loops:
            target = self.path
        elif is_in_lfs(file):
            target = f"{self.hub.lfs_url}/lfs/{name}/{commit}/{file}?X-Amz-Signature=0"
        else:
            target = f"/api/resolve-cache/models/{name}/{commit}/{file}"
        headers = {
            "Location": target,
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(content)),
        }
        self.give(302 if is_in_lfs(file) else 307, b"", headers)

    def content(self, name: str, commit: str, file: str) -> None:
        """Answer with a file in git."""
        content = self.hub.models[name].revisions[commit][1][file]
        if file in self.hub.endless:
            self.endlessly(content)
            return
        self.give(200, content, {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": commit})

    def lfs(self, name: str, commit: str, file: str) -> None:
        """Answer with a file in LFS, or the rest of it; cut the connection where the test says so."""
        content = self.hub.models[name].revisions[commit][1][file]
        if file in self.hub.endless:
            self.endlessly(content)
            return
        begin = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.hub.offsets.append(begin)
        if begin >= len(content):
            self.give(416, b"")
            return
        end = begin + self.hub.breaks.pop(0) if self.hub.breaks else len(content)
        headers = {"Content-Length": str(len(content) - begin), "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.give(206 if begin else 200, content[begin:end], headers)
        self.close_connection = end < len(content)

    def endlessly(self, content: bytes) -> None:
        """Send a body without end, in chunks."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        piece = (content * (2**16 // len(content) + 1))[: 2**16]
        while True:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def fail(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with an error, as the Hub words it."""
        names = {"X-Error-Code": code} if code else {}
        body = json.dumps({"error": message}).encode()
        self.give(status, body, {**names, "X-Error-Message": message, **(headers or {})})

    def give(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that has gone."""


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub without models, on two ports: one of them serves the files in LFS."""
    hub = Hub()
    handler = type("HandlerOfHub", (Handler,), {"hub": hub})
    servers = [Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.lfs_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()

"""A real S3 server, that of moto, on 127.0.0.1, which counts its requests and fails on demand."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imgclf.images import stores

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anyone"}


@dataclass
class Store:
    """The server, seen from its keeper: by boto3, which imgclf does not use.

    Attributes
    ----------
    requests : method and path of each request so far, "GET /bucket/fruit/red/00.jpg".
    failure : the status with which the next requests for objects are answered, such as "503 Slow Down"; "" for none.
    """

    client: Any
    requests: list[str] = field(default_factory=list)
    failure: str = ""

    def put(self, key: str, content: bytes, bucket: str = "bucket") -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket="bucket", Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket="bucket", Key=key)

    def objects(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket="bucket").get("Contents", [])]

    def upload(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def clear(self) -> None:
        self.failure = ""
        for key in self.objects():
            self.delete(key)
        self.requests.clear()

    def downloads(self) -> list[str]:
        """The keys of the images that were downloaded since the last call."""
        start = "GET /bucket/"
        found = [request.removeprefix(start) for request in self.requests if request.startswith(start)]
        found = [key for key in found if key.endswith(".jpg")]
        self.requests.clear()
        return found


@contextmanager
def serving(patch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Serve an S3 with an empty bucket, and set the environment variables by which clients find it."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start: Any) -> Any:
        store.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        is_object = environ["PATH_INFO"].count("/") > 1
        if store.failure and is_object:
            start(store.failure, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{store.failure[4:].replace(' ', '')}</Code></Error>".encode()]
        return application(environ, start)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, answer, threaded=True)
    for name, value in {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "none",
        "AWS_SHARED_CREDENTIALS_FILE": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        store = Store(boto3.client("s3"))
        store.client.create_bucket(Bucket="bucket")
        stores._opened_by.cache_clear()
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        store.client.close()

"""Weights are downloaded once, complete and verified, from a real server that behaves and misbehaves."""

import hashlib
import io
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from imgclf import ImgclfError, downloads
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones, weights
from imgclf.networks.backbones import BACKBONES, Backbone
from support import small_disks

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def named(content: bytes, stem: str = "net") -> str:
    """The file name of published weights: with the first digits of their sha256."""
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"


NAME = named(CONTENT)


class Handler(BaseHTTPRequestHandler):
    """Serves the server's files, with range requests; the first responses break off after `server.breaks` bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        begin = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.server.offsets.append(begin)
        content = self.server.files.get(self.path[1:])
        if content is None or begin >= len(content):
            self.head(404 if content is None else 416, 0)
            return
        begin = begin if self.server.supports_ranges else 0
        first = self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.head(
            206 if begin else 200,
            len(content) - begin,
            **{"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {},
        )
        self.wfile.write(content[begin : begin + first])
        if begin + first < len(content):
            self.close_connection = True

    def head(self, status, length, **headers):
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.offsets, server.breaks, server.supports_ranges = {NAME: CONTENT}, [], [], True
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.handle_error = lambda *args: None  # a client that has gone
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def stored(data_dir: Path) -> list[str]:
    """Files in `networks/`, partial ones too."""
    return sorted(path.name for path in (data_dir / "networks").iterdir() if path.name != ".lock")


def test_a_file_is_downloaded_once(server, data_dir):
    path = weights.fetch(server.url + NAME)
    assert path == data_dir / "networks" / NAME
    assert path.read_bytes() == CONTENT
    assert weights.fetch(server.url + NAME) == path
    assert server.offsets == [0] and stored(data_dir) == [NAME]


def test_progress_reports_bytes_up_to_the_size_of_the_file(server):
    calls = []
    weights.fetch(server.url + NAME, progress=lambda received, size: calls.append((received, size)))
    assert calls[-1] == (len(CONTENT), len(CONTENT))
    assert [received for received, _ in calls] == sorted({received for received, _ in calls}) and len(
        calls
    ) > 3


def test_a_broken_download_is_resumed(server, data_dir):
    server.breaks = [1_500_000]
    calls = []
    path = weights.fetch(server.url + NAME, progress=lambda received, size: calls.append((received, size)))
    assert path.read_bytes() == CONTENT and stored(data_dir) == [NAME]
    assert server.offsets == [0, 1_500_000]
    assert {size for _, size in calls} == {len(CONTENT)}


def test_a_download_that_breaks_repeatedly_completes_as_long_as_it_progresses(server):
    server.breaks = [400_000] * 6
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
    assert server.offsets == [400_000 * k for k in range(7)]


def test_a_later_run_resumes_a_failed_download(server, data_dir):
    server.breaks = [1_000_000, 0, 0]
    with pytest.raises(
        ImgclfError,
        match=rf"^{NAME}: could not be fetched \(the connection broke before the response was complete\); the 1 MB that came are kept; run again",
    ):
        weights.fetch(server.url + NAME)
    assert stored(data_dir) == [f"{NAME}.part"]
    server.offsets.clear()
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
    assert server.offsets == [1_000_000] and stored(data_dir) == [NAME]


def test_a_complete_partial_file_of_a_killed_run_is_used(server, data_dir):
    (data_dir / "networks").mkdir(parents=True)
    (data_dir / "networks" / f"{NAME}.part").write_bytes(CONTENT)
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
    assert server.offsets == []


@pytest.mark.parametrize("begun", [b"of another file", CONTENT + b"more"], ids=["other", "longer"])
def test_a_wrong_partial_file_is_discarded(begun, server, data_dir):
    (data_dir / "networks").mkdir(parents=True)
    (data_dir / "networks" / f"{NAME}.part").write_bytes(begun)
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
    assert server.offsets[-1] == 0 and stored(data_dir) == [NAME]


def test_without_range_requests_the_download_starts_over(server):
    server.supports_ranges, server.breaks = False, [1_500_000]
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT


def test_a_file_with_another_sha256_is_rejected_and_removed(server, data_dir):
    server.files[NAME] = b"<html>please log in</html>"
    digits = hashlib.sha256(server.files[NAME]).hexdigest()[:8]
    with pytest.raises(
        ImgclfError,
        match=rf"{NAME}: returns another file than its name says \(its sha256 begins with {digits}\), perhaps the page of a proxy or a login; "
        f"run again on another network, or fetch {server.url}{NAME} by other means and put it at {data_dir}/networks/{NAME}$",
    ):
        weights.fetch(server.url + NAME)
    assert stored(data_dir) == []


def test_a_wrong_file_put_by_hand_is_rejected_and_the_right_one_accepted(server, data_dir):
    (data_dir / "networks").mkdir(parents=True)
    (data_dir / "networks" / NAME).write_bytes(b"another")
    with pytest.raises(
        ImgclfError,
        match=rf"networks/{NAME}: is another file than its name says, or damaged \(its sha256 begins with .*\); delete it and run again",
    ):
        weights.fetch(server.url + NAME)
    (data_dir / "networks" / NAME).write_bytes(CONTENT)
    assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
    assert server.offsets == []


def test_a_404_is_not_retried_and_the_error_says_where_to_put_the_file(server, data_dir):
    server.files.clear()
    with pytest.raises(
        ImgclfError,
        match=rf"^{NAME}: could not be fetched \(HTTP 404 Not Found\); run again on another network, or fetch .* and put it at {data_dir}",
    ):
        weights.fetch(server.url + NAME)
    assert server.offsets == [0] and stored(data_dir) == []


def test_error_without_network_says_where_to_put_the_file_by_hand(data_dir, monkeypatch):
    monkeypatch.setattr(downloads, "BACK_OFF_SECONDS", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(
        ImgclfError,
        match=rf"^{NAME}: could not be fetched \(no connection .*\); .*put it at {data_dir}/networks/{NAME}$",
    ):
        weights.fetch(f"http://127.0.0.1:{port}/{NAME}")


def test_a_full_disk_is_reported_and_the_download_resumes_later(server, tmp_path, monkeypatch):
    with small_disks.mounted(tmp_path / "disk", megabytes=2) as disk:
        monkeypatch.setenv("IMGCLF_DATA", str(disk))
        with pytest.raises(
            ImgclfError,
            match=rf"^cannot write .*{NAME}\.part: the disk is full; free some space and run again$",
        ):
            weights.fetch(server.url + NAME)
        assert stored(disk) == [f"{NAME}.part"]
        small_disks.remount(disk, "size=8m")
        assert weights.fetch(server.url + NAME).read_bytes() == CONTENT
        assert server.offsets[1] > 1_000_000


def test_concurrent_runs_download_a_file_once(server, data_dir):
    threads = [threading.Thread(target=weights.fetch, args=[server.url + NAME]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.offsets == [0] and stored(data_dir) == [NAME]


@pytest.mark.parametrize("name", [name for name in BACKBONES if not name.startswith("efficientnet_lite")])
def test_published_weights_have_their_sha256_in_their_name(name):
    assert re.fullmatch(
        rf"https://download\.pytorch\.org/models/{name}-[0-9a-f]{{8}}\.pth", BACKBONES[name].url
    )


def published(server, name: str, network: str) -> Backbone:
    """A backbone whose weights, random and of the shapes of `network`, the server has."""
    torch.manual_seed(0)
    last = BACKBONES[network].architecture.last_layers[0]
    classes = {f"{last}weight": torch.zeros(1000, BACKBONES[network].features)}
    content = io.BytesIO()
    torch.save(BACKBONES[network].architecture.network().state_dict() | classes, content)
    url = server.url + named(content.getvalue(), name)
    server.files[url.removeprefix(server.url)] = content.getvalue()
    return Backbone(name, 224, BACKBONES[name].architecture, url=url)


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "convnext_tiny"])
def test_downloaded_weights_are_built_into_the_network_of_their_name(name, server):
    backbone = published(server, name, name)
    found = backbones.build(backbone).state_dict()
    torch.manual_seed(0)
    expected = BACKBONES[name].architecture.network().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert len(server.offsets) == 1


def test_downloaded_weights_are_not_needed_once_the_export_is_cached(server, tmp_path, data_dir):
    backbone = published(server, "resnet18", "resnet18")
    server.breaks = [20_000_000]
    backbones.write(backbone, Preprocessing(32), tmp_path / "first.onnx")
    assert server.offsets == [0, 20_000_000]
    os.remove(data_dir / "networks" / backbone.url.removeprefix(server.url))
    backbones.write(backbone, Preprocessing(32), tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    assert len(server.offsets) == 2


def test_downloaded_weights_of_another_backbone_are_rejected_naming_both(server):
    backbone = published(server, "resnet18", "resnet50")
    with pytest.raises(
        ImgclfError, match=r"^resnet18-.{8}\.pth: holds the weights of resnet50, not of resnet18: "
    ):
        backbones.build(backbone)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", Harmful(), {"weight": Harmful()}, torch.nn.Linear(2, 2)],
    ids=["empty", "text", "code", "hidden code", "module"],
)
def test_anything_but_weights_is_rejected_and_no_code_is_run(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(
        ImgclfError,
        match=r"own\.pth: cannot be read: damaged, or not a file of weights alone; write it by torch.save\(model.state_dict\(\), \.\.\.\)",
    ):
        weights.read(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), {}, {"epoch": 3, "weight": torch.zeros(3)}, {"state_dict": {"weight": torch.zeros(3)}}],
)
def test_anything_but_a_state_dict_is_rejected(content, tmp_path):
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(ImgclfError, match=r"own\.pth: does not hold the named weights of one network; "):
        weights.read(tmp_path / "own.pth")


def test_a_truncated_file_of_weights_is_rejected(tmp_path):
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "own.pth")
    content = (tmp_path / "own.pth").read_bytes()
    for length in (len(content) // 2, len(content) - 10):
        (tmp_path / "own.pth").write_bytes(content[:length])
        with pytest.raises(ImgclfError, match="damaged"):
            weights.read(tmp_path / "own.pth")

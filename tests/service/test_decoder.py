"""Decoding has a limit of memory for the whole service, and one of time for each image; both end it."""

import asyncio
import io
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage

from imgclf.images import decoding
from imgclf.images.preprocessing import Preprocessing
from imgclf.service.decoder import Decoded, Decoder
from imgclf.service.limits import Limits
from imgclf.service.load import Budget
from support.bad_requests import base64_of
from support.pictures import encoded, jpeg, picture
from support.serving import Server, running

MOST_MEMORY_MB = 900  # of the service with a tiny network; the demo set's network takes 100 more
SIDE = 2500  # pixels: more memory than is granted at first


@pytest.fixture(scope="module")
def impatient(serve) -> Server:
    """A service that ends decoding soon, with few threads."""
    return serve(limits=json.dumps({"decode_seconds": 0.25}))


def saved(format: str, mode: str, side: int = SIDE, **options) -> bytes:
    """A picture in some format and mode."""
    grey = PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8))
    grey = grey.resize((side, side))
    if mode == "I;16":
        picture = PillowImage.fromarray(np.asarray(grey).astype(np.uint16) * 200)
    else:
        picture = grey.convert("RGB").convert(mode)
    if options.pop("is_rotated", False):
        options["exif"] = PillowImage.Exif()
        options["exif"][decoding.EXIF_ORIENTATION] = 6
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated, which changes nothing and takes time."""
    file = io.BytesIO()
    PillowImage.new("RGB", (side, side), (200, 40, 40)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + b"\xff\xd9"


def slow_image() -> bytes:
    """An image that takes about a second: 20 megapixels with 90 more scans."""
    return scan_bomb(4500, 90)


class PeakMemory:
    """The highest memory of a service and its processes while a block runs, in 10^6 bytes."""

    def __init__(self, server: Server) -> None:
        self._server, self._stop, self.mb = server, threading.Event(), 0.0

    def __enter__(self) -> "PeakMemory":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.mb = max(self.mb, self._server.family_memory_mb())


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("JPEG", "L", {}),
        *((format, mode, {}) for format in ("PNG", "TIFF") for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")),
        ("PNG", "RGBA", {"is_rotated": True}),
        ("TIFF", "F", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"is_rotated": True}),
        ("GIF", "P", {"transparency": 3}),
        ("BMP", "RGB", {}),
        ("AVIF", "RGB", {"speed": 10}),
        ("AVIF", "RGBA", {"speed": 10}),
        ("JPEG2000", "RGB", {}),
        ("JPEG2000", "RGBA", {}),
        ("PPM", "RGB", {}),
    ],
    ids=str,
)  # fmt: skip
def test_each_format_is_decoded_within_the_memory_that_it_is_estimated_to_need(server, format, mode, options):
    answer = server.score(saved(format, mode, **options))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("format", "width", "height", "replies"),
    [
        ("JPEG", 64, 48, 1),
        ("JPEG", 900, 900, 1),
        ("JPEG", 4000, 3000, 1),
        ("PNG", 1024, 1024, 1),
        ("WEBP", 1200, 1000, 1),
        ("PNG", 2600, 2600, 2),
    ],
)
def test_an_ordinary_photograph_goes_to_a_decoder_once(format, width, height, replies, monkeypatch):
    content = encoded(picture((200, 40, 40), 1, width=width, height=height), format)
    limits, asked = Limits(), []
    ask = Decoder._ask
    monkeypatch.setattr(Decoder, "_ask", lambda self, task: asked.append(task) or ask(self, task))

    async def decode() -> Decoded:
        decoder = Decoder(1, limits, Budget(limits.memory_bytes))
        try:
            return await decoder.decode(content, Preprocessing(240, (114, 114, 114)), "image")
        finally:
            decoder.close()

    decoded = asyncio.run(decode())
    assert decoded.pixels.shape == (240, 240, 3)
    assert decoded.height * width == pytest.approx(decoded.width * height, rel=0.01)
    assert len(asked) == replies


def test_the_least_memory_that_can_be_set_suffices_for_photographs(serve):
    small = serve("--max-memory", "160")
    for format, width, height in (("JPEG", 64, 48), ("JPEG", 4000, 3000), ("PNG", 2000, 1500)):
        content = encoded(picture((200, 40, 40), 1, width=width, height=height), format)
        assert small.score(content).raise_for_status().json()["images"][0]["label"] == "red"


def test_a_jpeg_followed_by_other_bytes_is_decoded(server):
    assert server.score(saved("JPEG", "RGB", progressive=True) + b"\xff\xda" * 500).status_code == 200


def test_an_image_that_needs_too_much_memory_is_rejected(server):
    flat = PillowImage.new("RGB", (7000, 7000), (200, 40, 40))
    answer = server.score(encoded(flat, "WEBP", lossless=True, quality=0, method=0), "image/webp")
    assert answer.status_code == 422
    assert re.fullmatch(
        r"image: needs about 1,\d\d\d MB of memory to decode, and the service has 480; "
        "shrink it, or save it as a JPEG that is not progressive",
        answer.json()["error"],
    )


@pytest.mark.slow
def test_memory_stays_below_the_limit_under_many_attacks_at_once(serve):
    server = serve()
    flat = PillowImage.new("RGB", (4700, 4700), (200, 40, 40))
    png = encoded(flat, "PNG", compress_level=1)
    webp = encoded(flat.resize((7000, 7000)), "WEBP", lossless=True, quality=0, method=0)
    as_json = {"Content-Type": "application/json"}
    attacks = [
        {"files": [("images", ("a", png))] * 8},
        {"files": [("images", ("a", webp))] * 8},
        {"content": b'{"x": [' + b",".join([b"[]"] * 9_000_000) + b"]}", "headers": as_json},
        {"content": b'{"x": "' + "\N{GRINNING FACE}".encode() + bytes([97]) * 31_000_000 + b'"}', "headers": as_json},
        {"content": b'{"images": ["' + b"a " * 15_000_000 + b'"]}', "headers": as_json},
        {"content": bytes(31_000_000), "headers": {"Content-Type": "image/png"}},
        {"files": [("images", ("a", bytes(950_000)))] * 32},
        {"files": [("images", ("a", jpeg("red")))] * 32},
    ]  # fmt: skip

    def attack(number: int) -> int:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=120) as http:
            return http.post("/score", **attacks[number % len(attacks)]).status_code

    with PeakMemory(server) as peak, ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(attack, range(16)))
    print(f"memory {peak.mb:.0f} MB at most, {server.family_memory_mb():.0f} MB after it; {statuses}")
    assert peak.mb < MOST_MEMORY_MB
    assert statuses <= {200, 400, 413, 422, 503}
    assert server.score(jpeg("red")).status_code == 200


def test_a_jpeg_of_too_many_scans_is_rejected(server):
    start = time.monotonic()
    answer = server.score(scan_bomb(1000, 3000))
    assert answer.json()["error"] == "image: a JPEG of more than 100 scans; save it again"
    assert time.monotonic() - start < 10  # it took minutes


def test_decoding_that_takes_too_long_is_ended_and_others_are_served(impatient):
    before = len(impatient.children())
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(impatient.score, slow_image()) for _ in range(4)]
        errors = [one.result().json()["error"] for one in slow]
    assert set(errors) == {"image: decoding takes longer than 0.25 seconds; shrink it, or save it again"}
    assert impatient.score(jpeg("red")).status_code == 200
    assert len(impatient.children()) <= before


def test_after_an_image_that_takes_too_long_no_other_of_the_request_is_decoded(impatient):
    answer = impatient.http.post("/score", files=[("images", ("a", slow_image()))] * 32)
    assert answer.status_code == 422
    assert 1 <= len(answer.json()["images"]) <= os.cpu_count()


def test_a_decoder_that_was_killed_is_replaced(serve):
    server = serve()
    for _ in range(2):
        for child in server.children():
            os.kill(child, signal.SIGKILL)
        answers = [server.score(jpeg("red")) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4


def test_decoders_end_with_a_service_that_is_killed(model):
    with running(model) as server:
        children = server.children()
        assert len(children) >= 2
        server.signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [child for child in children if Path(f"/proc/{child}").exists()] == []


def test_base64_in_json_is_decoded_in_the_same_way(server):
    body = {"images": [base64_of(saved("PNG", "RGB"))] * 2}
    assert server.http.post("/score", json=body).status_code == 200


def test_memory_is_shared_first_come_first_served():
    """A large share waits for small ones, and the small ones behind it for the large one."""
    order: list[str] = []

    async def task(budget: Budget, name: str, needed: int) -> None:
        async with budget.reserve(needed):
            order.append(name)
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    async def run() -> None:
        budget = Budget(10)
        needs = {"a": 4, "b": 4, "all": 99, "c": 4}
        tasks = {name: asyncio.create_task(task(budget, name, needed)) for name, needed in needs.items()}
        cancelled = asyncio.create_task(task(budget, "cancelled", 10))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(*tasks.values())
        async with budget.reserve(10):
            order.append("all is free")

    asyncio.run(run())
    assert order == ["a", "b", "a ends", "b ends", "all", "all ends", "c", "c ends", "all is free"]

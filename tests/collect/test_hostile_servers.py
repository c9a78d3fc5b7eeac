"""What a server does to whoever asks it for an image, and what is stored of it."""

import bz2
import gzip
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from functools import partial

import pytest

from imgclf import downloads
from imgclf.collect import downloader, fetch, manifest, schedule
from imgclf.collect.fetch import FetchResult
from imgclf.collect.manifest import Entry
from support.image_server import JPEG, picture, redirect, serving

GIVE_UP_SECONDS = 30  # of a test that would otherwise hang
pytestmark = pytest.mark.usefixtures("folder")
fetch_images = partial(fetch.fetch_images, private_addresses=True)  # from a server on this machine


def reasons(result):
    return [failure.reason for failure in result.failures]


def compressed(body, encoding):
    return lambda handler: handler.give(200, body, Content_Encoding=encoding)


def endless(status, **headers):
    """The answer whose body ends only when the client has gone."""

    def answer(handler):
        handler.send_response(status)
        for name, text in headers.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.end_headers()
        handler.close_connection = True
        while not handler.server.ends.is_set():
            handler.wfile.write(b"x" * 100_000)

    return answer


@pytest.fixture
def memory():
    """The most memory in bytes that Python objects have taken, as a function."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_gzip_that_was_not_asked_for_is_decompressed(server, folder):
    entries = [
        server.entry(f"{name}.jpg", compressed(gzip.compress(JPEG), name)) for name in ("gzip", "X-Gzip")
    ]
    assert fetch_images(entries, folder).fetched == 2
    assert (folder / "apple/gzip.jpg").read_bytes() == JPEG


def test_gzip_bomb_is_cut_at_the_size_limit(server, folder, monkeypatch, memory):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    bomb = gzip.compress(bytes(300_000_000), 1)
    before = memory()
    tracemalloc.reset_peak()
    result = fetch_images([server.entry("a.jpg", compressed(bomb, "gzip"))], folder)
    assert reasons(result) == ["larger than 1 MB"] or reasons(result) == [
        "larger than 1 MB when decompressed"
    ]
    assert memory() - before < 20_000_000


@pytest.mark.parametrize(
    "body, encoding",
    [
        (gzip.compress(gzip.compress(bytes(1_000_000))), "gzip, gzip"),
        (zlib.compress(JPEG), "deflate"),
        (bz2.compress(JPEG), "br"),
        (JPEG, "zstd"),
        (JPEG, "x" * 5000),
    ],
    ids=["gzip twice", "deflate", "br", "zstd", "unknown"],
)
def test_other_compression_is_refused(server, folder, body, encoding):
    (reason,) = reasons(fetch_images([server.entry("a.jpg", compressed(body, encoding))], folder))
    assert reason == f"compressed as {encoding[:20]!r}, though no compression was asked for"


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(JPEG)[:300]])
def test_damaged_gzip_is_no_image(server, folder, body):
    (reason,) = reasons(fetch_images([server.entry("a.jpg", compressed(body, "gzip"))], folder))
    assert reason in (
        "the response is empty",
        "the gzip compression of the response is damaged",
        "the JPEG is damaged or of an unusual kind",
    )
    assert not folder.exists()


def test_ten_gigabytes_are_refused_before_the_body(server, folder):
    def ten_gigabytes(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**10))
        handler.end_headers()
        handler.connection.settimeout(GIVE_UP_SECONDS)
        if handler.connection.recv(1) == b"":  # the client has gone, without a byte of the body
            raise ConnectionResetError

    assert reasons(fetch_images([server.entry("a.jpg", ten_gigabytes)], folder)) == ["larger than 50 MB"]
    assert server.disconnected.get(timeout=GIVE_UP_SECONDS) == "/a.jpg"


@pytest.mark.parametrize("headers", [{}, {"Content_Length": "9" * 18}, {"Content_Type": "image/jpeg"}])
def test_endless_body_is_cut_at_the_size_limit(server, folder, monkeypatch, headers):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    assert reasons(fetch_images([server.entry("a.jpg", endless(200, **headers))], folder)) == [
        "larger than 1 MB"
    ]
    assert server.disconnected.get(timeout=GIVE_UP_SECONDS) == "/a.jpg"


def test_endless_bodies_of_redirects_and_errors_are_not_read(server, folder, memory):
    entries = [
        server.entry("gone.jpg", endless(404)),
        server.entry("moved.jpg", endless(302, Location="/good.jpg")),
    ]
    server.entry("good.jpg")
    assert reasons(fetch_images(entries, folder)) == ["HTTP 404 Not Found"]
    assert (folder / "apple/moved.jpg").read_bytes() == JPEG
    assert memory() < 50_000_000


def test_ten_redirects_are_followed_and_no_more(server, folder):
    last = downloader.MAX_REDIRECTS
    for i in range(last + 1):
        server.entry(f"{i}", redirect(f"/{i + 1}"))
    server.entry(f"{last + 1}")
    entries = [Entry("apple", f"http://127.0.0.1:{server.server_port}/{i}") for i in (0, 1)]
    assert reasons(fetch_images(entries, folder)) == ["too many redirects"]
    assert (folder / "apple/1.jpg").exists()


OTHER_PROTOCOLS = [
    "file:///etc/hostname",
    "file://127.0.0.1/etc/hostname",
    "ftp://127.0.0.1/a.jpg",
    "data:image/jpeg;base64,/9j/4AAQSkZJRg==",
    "gopher://127.0.0.1:70/_GET",
    "ws://127.0.0.1/a.jpg",
    "javascript:alert(1)",
    "jar:http://127.0.0.1/a.zip!/a.jpg",
]


def test_image_that_takes_minutes_to_decode_is_refused(server, folder):
    progressive = picture("jpeg", progressive=True)
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    entries = [
        server.entry("scans.jpg", (200, progressive[:-2] + last * 200 + progressive[-2:])),
        server.entry("pixels.png", (200, png_of(60_000, 60_000))),
    ]
    assert reasons(fetch_images(entries, folder)) == [
        "a JPEG of more than 100 scans, which would take minutes to decode",
        "60000 x 60000 pixels, more than 200,000,000",
    ]


def png_of(width, height):
    """The header of a PNG of so many pixels, in 70 bytes."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(data) - 4) + data + b"\0\0\0\0"


@pytest.mark.parametrize("url", OTHER_PROTOCOLS)
def test_other_protocols_are_refused(server, folder, url):
    (reason,) = reasons(fetch_images([server.entry("good.jpg"), Entry("apple", url)], folder))
    assert reason.startswith("not a URL that can be fetched")


@pytest.mark.parametrize("url", [*OTHER_PROTOCOLS, "http://[::1"])
def test_redirect_to_another_protocol_or_to_no_url_is_refused(server, folder, url):
    entry = server.entry("a.jpg", redirect(url))
    (reason,) = reasons(fetch_images([entry], folder))
    assert reason.startswith("not a URL that can be fetched")
    assert server.asked == {"/a.jpg": 1}


@pytest.mark.parametrize(
    "path",
    [
        "../../x.jpg",
        "..%2F..%2F..%2Fx.jpg",
        "%2e%2e/%2e%2e/x.jpg",
        "..%5C..%5Cx.jpg",
        "C%3A%5CWindows%5Cx.jpg",
        "%2Fetc%2Fx.jpg",
        "a%00.jpg",
        "a%0Ab%1B%5B31m.jpg",
        "gpj.%E2%80%AEphoto.exe",
        "con.jpg",
        "COM1.tar.jpg",
        "nul",
        "CON%20.jpg",
        "com%C2%B9.jpg",
        "CONIN$.jpg",
        "trailing.%20.%20.",
        ".hidden.jpg",
        ".htaccess",
        "%20",
        "%FF%FE.jpg",
        "%ED%A0%80.jpg",
        "x" * 300 + ".jpg",
        "%F0%9F%91%97" * 100 + ".jpg",
        "a.jpg%3Ftrick=.php",
        "a.jpg;.exe",
        "a:stream.jpg",
        "desktop.ini",
        "Thumbs.db",
        "e%CC%81.jpg",
    ],
)
def test_name_of_a_url_is_made_safe(server, folder, tmp_path, path):
    server.pages = {key: [(200, JPEG)] for key in (f"/{path}", "/x.jpg", "/%2e%2e/x.jpg")}
    rows = [f"apple\thttp://127.0.0.1:{server.server_port}/{path}", "apple\thttp://127.0.0.1:1/y.jpg"]
    (tmp_path / "fruit.tsv").write_text("\n".join(["label\tsource", *rows]))
    server.pages |= {key.partition("?")[0]: pages for key, pages in server.pages.items()}
    entries = manifest.read(tmp_path / "fruit.tsv")[:1]
    result = fetch_images(entries, folder)
    assert result.fetched == 1, reasons(result)
    (stored,) = [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".tsv"]
    assert stored.parent == folder / "apple" and stored.read_bytes() == JPEG
    name = stored.name
    assert name.isprintable() and len(name.encode()) <= 200 and not name.startswith(".")
    assert not set(name) & set('<>:"/\\|?*') and name == name.strip(" .")
    assert name.partition(".")[0].strip().lower() not in ("con", "com1", "com\u00b9", "conin$", "nul")
    assert name.endswith(".jpg")
    assert fetch_images(entries, folder).present == 1  # and it is found again


@pytest.mark.parametrize(
    "known", [{"label": "../outside"}, {"file_name": "../../x"}, {"file_name": "a/../.."}]
)
def test_entry_that_leads_out_of_the_folder_is_not_fetched(server, folder, tmp_path, known):
    (reason,) = reasons(fetch_images([server.entry("a.jpg", **known)], folder))
    assert reason == "its label or file name leads out of the folder" and not server.asked
    assert not list(tmp_path.rglob("*.jpg"))


def test_slow_host_does_not_hold_up_the_others(server, folder):
    most, active, lock = [0], [0], threading.Lock()

    def slow(handler):
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        handler.server.ends.wait(GIVE_UP_SECONDS)  # set when all others are done
        with lock:
            active[0] -= 1
        handler.give(200, JPEG)

    with serving() as fast:
        entries = [server.entry(f"{i}.jpg", slow) for i in range(40)]
        entries += [fast.entry(f"{i}.jpg", label="pear") for i in range(40)]
        done_before = []

        def progress(done):
            if done == 40:
                done_before.append(len(list((folder / "pear").glob("*.jpg"))))
                server.ends.set()

        assert fetch_images(entries, folder, threads=16, progress=progress).fetched == 80
    assert done_before == [40] and most == [schedule.PER_HOST]


def test_host_that_fails_again_and_again_is_left_alone_until_the_next_run(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    with serving() as other:
        entries = [server.entry(f"{i}.jpg", (503,)) for i in range(60)]
        entries += [other.entry(f"{i}.jpg", label="pear") for i in range(20)]
        done = []
        result = fetch_images(entries, folder, progress=done.append)
    assert result.fetched == 20 and done[-1] == 80
    asked = sum(server.asked.values())
    assert schedule.MAX_CONSECUTIVE_FAILURES <= asked < schedule.MAX_CONSECUTIVE_FAILURES + schedule.PER_HOST
    assert "not tried: 10 images of this host in a row failed (HTTP 503 Service Unavailable)" in reasons(
        result
    )
    assert result.failures_file == ""
    for name in server.pages:
        server.pages[name] = [(200, JPEG)]
    assert fetch_images(entries, folder).fetched == 60


def test_failures_are_counted_by_reason_and_host(server, folder):
    with serving() as other:
        entries = [server.entry(f"{i}.jpg", (404,)) for i in range(3)]
        entries += [other.entry(f"{i}.jpg", (404,), label="pear") for i in range(2)]
        entries += [other.entry("page.jpg", (200, b"<html>")), other.entry("good.jpg")]
        table = fetch_images(entries, folder).table()
    hosts = [f"127.0.0.1:{one.server_port}" for one in (server, other)]
    assert table.to_numpy().tolist() == [
        ["HTTP 404 Not Found", hosts[0], 3],
        ["HTTP 404 Not Found", hosts[1], 2],
        ["a web page instead of an image", hosts[1], 1],
    ]
    assert list(table.columns) == ["reason", "host", "images"]
    assert list(FetchResult(1, 1, 0, ()).table().columns) == ["reason", "host", "images"]


PROGRAM = (
    "import sys; from pathlib import Path; from imgclf.collect import fetch, manifest\n"
    "fetch.fetch_images(manifest.read(Path(sys.argv[1])), Path(sys.argv[2]), private_addresses=True)"
)


def test_killed_run_does_not_try_its_dead_urls_again(server, folder, tmp_path):
    def slowly(answer):
        def give(handler):
            time.sleep(0.01)
            handler.give(*answer)

        return give

    entries = [server.entry(f"{i}.jpg", slowly((200, JPEG) if i % 3 == 0 else (404,))) for i in range(300)]
    manifest.write(tmp_path / "fruit.tsv", entries)
    for moment in (60, 140):
        with subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "fruit.tsv", folder]) as run:
            while sum(server.asked.values()) < moment and run.poll() is None:
                time.sleep(0.005)
            run.kill()
        assert run.returncode == -signal.SIGKILL
    assert fetch_images(entries, folder).fetched < 100
    # Only what was on its way when the process was killed is asked for twice.
    twice = [path for path, times in server.asked.items() if times > 1]
    assert len(server.asked) == 300 and len(twice) <= 2 * schedule.PER_HOST
    lines = (tmp_path / "proc/fruit/fetch_failures.tsv").read_text().splitlines()
    dead = [entry.source for i, entry in enumerate(entries) if i % 3]
    assert sorted(line.split("\t")[1] for line in lines[1:]) == sorted(dead)


def test_half_a_line_of_the_failures_file_does_not_spoil_the_next(server, folder, tmp_path):
    entries = [server.entry(f"{i}.jpg", (404,)) for i in range(2)]
    fetch_images(entries[:1], folder)
    path = tmp_path / "proc/fruit/fetch_failures.tsv"
    os.truncate(path, path.stat().st_size - 25)  # as after a power failure
    fetch_images(entries, folder)
    assert len(fetch_images(entries, folder).failures) == 2
    assert server.asked == {"/0.jpg": 2, "/1.jpg": 1}


@pytest.mark.parametrize(
    "url", ["x" * 60_000 + "://a", "http://" + "a" * 60_000, "http://" + "\xe9" * 30_000]
)
def test_reason_is_short_whatever_the_server_sends(server, folder, url):
    entry = server.entry("a.jpg", redirect(url.encode().decode("latin-1")))
    (reason,) = reasons(fetch_images([entry], folder))
    assert len(reason) < 300


def dead(number):
    return [Entry("pear", f"http://127.0.0.{i}:1/{i}.jpg") for i in range(2, 2 + number)]


def test_network_that_goes_down_leaves_no_server_in_the_failures_file(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_CONSECUTIVE_UNREACHABLE", 5)
    with serving() as server:

        def progress(done):
            server.shutdown()
            server.server_close()

        with pytest.raises(fetch.ImgclfError, match="5 URLs in a row could not be reached"):
            fetch_images([server.entry("a.jpg", closing), *dead(20)], folder, threads=1, progress=progress)
    assert not (tmp_path / "proc/fruit/fetch_failures.tsv").exists()


def closing(handler):
    handler.give(200, JPEG, Connection="close")
    handler.close_connection = True


def test_many_dead_servers_in_a_row_do_not_end_the_run_while_another_answers(
    server, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(fetch, "MAX_CONSECUTIVE_UNREACHABLE", 5)
    result = fetch_images([server.entry("a.jpg"), *dead(20)], folder, threads=1)
    assert result.fetched == 1 and len(result.failures) == 20
    lines = (tmp_path / "proc/fruit/fetch_failures.tsv").read_text().splitlines()
    assert len(lines) == 21

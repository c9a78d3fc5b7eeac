import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial

import httpx
import pytest
from PIL import Image

from imgclf import ImgclfError, __version__, downloads
from imgclf.collect import downloader, fetch, manifest
from imgclf.collect.fetch import FetchResult
from imgclf.collect.manifest import Entry
from imgclf.data.changes import Step
from imgclf.data.journal import Journal
from imgclf.images import decoding
from support import small_disks
from support.image_server import JPEG, picture, redirect

GIVE_UP_SECONDS = 30  # of a test that would otherwise hang
pytestmark = pytest.mark.usefixtures("folder")
fetch_images = partial(fetch.fetch_images, private_addresses=True)  # from a server on this machine
PNG, WEBP, GIF, AVIF = (picture(suffix) for suffix in ("png", "webp", "gif", "avif"))


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def names(folder):
    """Every file below `folder`, partial ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def reasons(result):
    return [failure.reason for failure in result.failures]


def test_content_decides_the_suffix_and_is_stored_as_it_came(server, folder):
    entries = [
        server.entry("a.jpg", (200, PNG)),
        server.entry("b", (200, JPEG)),
        server.entry("c.png", (200, WEBP), label="pear"),
        server.entry("d.gif", (200, GIF), label="pear"),
        server.entry("e.jpg", (200, AVIF), label="pear"),
    ]
    assert fetch_images(entries, folder) == FetchResult(5, 0, 5, ())
    assert names(folder) == ["apple/a.png", "apple/b.jpg", "pear/c.webp", "pear/d.gif", "pear/e.avif"]
    assert (folder / "apple/a.png").read_bytes() == PNG
    assert (folder / "pear/c.webp").read_bytes() == WEBP
    assert server.agents == {f"imgclf/{__version__} (fetches a list of images)"}


def test_format_that_a_data_set_is_not_scanned_for_is_stored_as_jpeg(server, folder):
    fetch_images([server.entry("a.ppm", (200, picture("ppm")))], folder)
    assert names(folder) == ["apple/a.ppm.jpg"]
    assert decoding.read(folder / "apple/a.ppm.jpg").shape == (30, 40, 3)


def test_present_images_are_not_requested_again(server, folder):
    entries = [server.entry("a.jpg", (200, PNG)), server.entry("B.jpg")]
    fetch_images(entries, folder)
    (folder / "apple/B.jpg").rename(folder / "apple/b.JPEG")
    done = []
    assert str(fetch_images(entries, folder, progress=done.append)) == (
        "2 of 2 images are there: 2 already present, 0 fetched, 0 failed"
    )
    assert done == [2]
    assert set(server.asked.values()) == {1}


def test_second_run_fetches_only_missing_images(server, folder):
    entries = [server.entry(f"{i}.jpg") for i in range(6)]
    fetch_images(entries[:4], folder)
    done = []
    assert fetch_images(entries, folder, progress=done.append) == FetchResult(6, 4, 2, ())
    assert done == [4, 5, 6]
    assert set(server.asked.values()) == {1}


def test_progress_is_called_in_the_calling_thread(server, folder):
    calls = []
    fetch_images(
        [server.entry(f"{i}.jpg") for i in range(5)],
        folder,
        progress=lambda done: calls.append((done, threading.current_thread())),
    )
    assert calls == [(done, threading.current_thread()) for done in range(1, 6)]


def test_max_images_still_covers_every_label(server, folder):
    entries = [
        server.entry(f"{i}.jpg", label=label)
        for i, label in enumerate(["fig"] * 5 + ["apple"] * 2 + ["pear"] * 5)
    ]
    assert fetch_images(entries, folder, max_images=7).listed == 7
    assert names(folder) == [
        "apple/5.jpg",
        "apple/6.jpg",
        "fig/0.jpg",
        "fig/1.jpg",
        "fig/2.jpg",
        "pear/7.jpg",
        "pear/8.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "options", "suffix"),
    [
        ("bmp", {}, ".bmp"),
        ("tiff", {}, ".tif"),
        ("mpo", {"save_all": True, "append_images": [Image.new("RGB", (8, 6))]}, ".jpg"),
    ],
)
def test_suffix_is_that_of_the_detected_format(server, folder, name, options, suffix):
    content = picture(name, **options)
    fetch_images([server.entry("a.png", (200, content))], folder)
    assert names(folder) == [f"apple/a{suffix}"]
    assert (folder / f"apple/a{suffix}").read_bytes() == content


@pytest.mark.parametrize(
    "status, reason",
    [
        (404, "HTTP 404 Not Found"),
        (403, "HTTP 403 Forbidden"),
        (410, "HTTP 410 Gone"),
        (204, "HTTP 204 No Content"),
    ],
)
def test_client_error_is_permanent_and_the_others_are_fetched(server, folder, status, reason):
    entries = [server.entry("gone.jpg", (status,)), server.entry("a.jpg")]
    result = fetch_images(entries, folder)
    assert reasons(result) == [reason] and result.fetched == 1
    assert server.asked["/gone.jpg"] == 1


@pytest.mark.parametrize(
    "problem",
    [
        (500,),
        (503,),
        (429, b"", {"Retry_After": "0"}),
        (429, b"", {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    ],
)
def test_transient_error_is_retried(server, folder, problem):
    problem = (
        problem if len(problem) < 3 else (lambda handler: handler.give(problem[0], problem[1], **problem[2]))
    )
    assert fetch_images([server.entry("a.jpg", problem, problem, (200, JPEG))], folder).fetched == 1
    assert server.asked["/a.jpg"] == 3


def test_lasting_server_error_is_reported_and_retried_in_the_next_run(server, folder):
    entry = server.entry("a.jpg", (502,), (502,), (502,), (200, JPEG))
    result = fetch_images([entry], folder)
    assert reasons(result) == ["HTTP 502 Bad Gateway"] and result.failures_file == ""
    assert fetch_images([entry], folder).fetched == 1


def test_retry_after_is_waited_for(server, folder, monkeypatch):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append((timeout, server.asked["/a.jpg"]))
            return False  # not stopped

    monkeypatch.setattr(downloader, "Event", Stop)
    entry = server.entry("a.jpg", lambda handler: handler.give(429, b"", Retry_After="21"), (200, JPEG))
    assert fetch_images([entry], folder).fetched == 1
    assert waits == [(21, 1)] and server.asked["/a.jpg"] == 2  # after the first request, before the second


def test_long_retry_after_is_not_waited_for(server, folder):
    entry = server.entry("a.jpg", lambda handler: handler.give(429, b"", Retry_After="3600"))
    assert reasons(fetch_images([entry], folder)) == [
        "HTTP 429 Too Many Requests, and the server asks to wait 3600 seconds"
    ]
    assert server.asked["/a.jpg"] == 1


def test_redirects_are_followed_but_not_endlessly(server, folder):
    target = server.entry("real.png", (200, PNG)).source
    entries = [
        server.entry("a.jpg", redirect(target)),
        server.entry("loop.jpg", redirect("/loop.jpg")),
        server.entry("out.jpg", redirect("ftp://127.0.0.1/x")),
    ]
    result = fetch_images(entries, folder)
    assert names(folder) == ["apple/a.png"]
    assert reasons(result) == [
        "too many redirects",
        "not a URL that can be fetched (neither http nor https, but ftp)",
    ]


def test_broken_connection_is_retried(server, folder):
    def half(handler):
        handler.give(200, JPEG[:500], Content_Length=str(len(JPEG)))
        handler.close_connection = True

    entries = [server.entry("a.jpg", half, (200, JPEG)), server.entry("b.jpg", half)]
    assert reasons(fetch_images(entries, folder)) == ["the connection broke before the response was complete"]
    assert (folder / "apple/a.jpg").read_bytes() == JPEG
    assert server.asked == {"/a.jpg": 2, "/b.jpg": downloads.ATTEMPTS}


@pytest.mark.parametrize(
    "answer, reason",
    [
        ((200, b"<html>gone</html>"), "a web page instead of an image"),
        (
            lambda handler: handler.give(200, b"sorry", Content_Type="text/html; charset=utf-8"),
            "a web page instead of an image",
        ),
        ((200, b""), "the response is empty"),
        ((200, JPEG[:-200]), "the JPEG is truncated"),
        ((200, PNG[:-200]), "the PNG is damaged"),
        ((200, b"x" * 100), "not an image that can be read"),
    ],
)
def test_body_that_is_no_complete_image_is_not_stored(server, folder, answer, reason):
    assert reasons(fetch_images([server.entry("a.jpg", answer)], folder)) == [reason]
    assert not folder.exists()


def test_another_image_is_detected_by_its_sha256(server, folder):
    right = hashlib.sha256(JPEG).hexdigest()
    entries = [server.entry("a.jpg", sha256=right), server.entry("b.jpg", (200, PNG), sha256=right)]
    assert reasons(fetch_images(entries, folder)) == [
        "the image at this URL is not the one that the manifest lists"
    ]


def test_another_image_is_detected_by_its_length_without_sha256(server, folder):
    entries = [server.entry("a.jpg", bytes=len(JPEG)), server.entry("b.jpg", bytes=len(JPEG) + 1)]
    assert reasons(fetch_images(entries, folder)) == [
        "the image at this URL is not the one that the manifest lists"
    ]
    assert names(folder) == ["apple/a.jpg"]


def test_image_with_the_content_type_of_a_web_page_is_stored(server, folder):
    entry = server.entry("a.jpg", lambda handler: handler.give(200, JPEG, Content_Type="text/html"))
    assert fetch_images([entry], folder).fetched == 1


@pytest.mark.parametrize(
    "side, name, shape",
    [(100, "a.jpg", (50, 100, 3)), (0, "a.png", (200, 400, 3)), (400, "a.png", (200, 400, 3))],
)
def test_larger_images_are_downscaled_and_stored_as_jpeg(server, folder, side, name, shape):
    fetch_images(
        [server.entry("a.png", (200, picture("png", width=400, height=200)))], folder, max_image_side=side
    )
    assert names(folder) == [f"apple/{name}"]
    assert decoding.read(folder / "apple" / name).shape == shape


def drip(handler):
    handler.close_connection = True
    while not handler.server.ends.wait(0.05):
        handler.wfile.write(b"x")


def drip_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nServer: ")
    drip(handler)


def drip_body(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(handler)


@pytest.mark.parametrize("answer", [drip_head, drip_body])
def test_server_that_drips_bytes_runs_into_the_timeout(server, folder, monkeypatch, answer):
    monkeypatch.setattr(fetch, "IMAGE_SECONDS", 0.5)
    fetched = fetch_images([server.entry("drip.jpg", answer), server.entry("a.jpg")], folder)
    assert reasons(fetched) == ["no complete response within 0.5 seconds"] and fetched.fetched == 1
    assert server.disconnected.get(timeout=GIVE_UP_SECONDS) == "/drip.jpg"
    assert server.asked["/drip.jpg"] == 1 and not server.ends.is_set()


def test_silent_server_is_given_up_after_all_attempts(server, folder, monkeypatch):
    monkeypatch.setattr(downloads, "READ_SECONDS", 0.1)
    fetched = fetch_images([server.entry("a.jpg", lambda handler: handler.server.ends.wait(5))], folder)
    assert reasons(fetched) == ["the server sent nothing for 0.1 seconds"]
    assert server.asked["/a.jpg"] == downloads.ATTEMPTS


@pytest.mark.parametrize("declares", [True, False])
def test_body_over_the_size_limit_is_rejected(server, folder, monkeypatch, declares):
    def endless(handler):
        handler.send_response(200)
        if declares:
            handler.send_header("Content-Length", "9999999")
        handler.end_headers()
        handler.close_connection = True
        while not handler.server.ends.is_set():
            handler.wfile.write(b"x" * 10_000)

    monkeypatch.setattr(fetch, "MAX_BYTES", 100_000)
    assert reasons(fetch_images([server.entry("a.jpg", endless)], folder)) == ["larger than 0.1 MB"]
    assert server.asked["/a.jpg"] == 1


def test_understated_content_length_does_not_bypass_the_checks(server, folder):
    entry = server.entry("a.jpg", lambda handler: handler.give(200, JPEG, Content_Length="300"))
    assert reasons(fetch_images([entry], folder))[0] in (
        "the JPEG is truncated",
        "the connection broke before the response was complete",
    )
    assert not folder.exists()


def test_permanent_failures_are_reported_without_a_request_until_the_file_is_deleted(
    server, folder, tmp_path
):
    entries = [
        server.entry("gone.jpg", (404,)),
        server.entry("page.jpg", (200, b"<html>")),
        server.entry("a.jpg"),
    ]
    first = fetch_images(entries, folder)
    second = fetch_images(entries, folder)
    assert second.failures == first.failures and len(first.failures) == 2
    assert set(server.asked.values()) == {1}
    assert str(second) == (
        "1 of 3 images are there: 1 already present, 0 fetched, 2 failed; "
        "delete proc/fruit/fetch_failures.tsv to retry permanent failures"
    )
    (tmp_path / "proc/fruit/fetch_failures.tsv").unlink()
    server.pages["/gone.jpg"] = [(200, JPEG)]
    assert fetch_images(entries, folder).fetched == 1


def test_failure_of_a_corrected_line_is_retried(server, folder):
    entry = server.entry("a.jpg", sha256="0" * 64)
    assert len(fetch_images([entry], folder).failures) == 1
    assert fetch_images([server.entry("a.jpg", sha256=hashlib.sha256(JPEG).hexdigest())], folder).fetched == 1


def test_unreachable_server_is_a_permanent_failure_if_another_one_answers(server, folder, monkeypatch):
    dead = [Entry("apple", f"http://127.0.0.1:{closed_port()}/{i}.jpg") for i in range(3)]
    fetched = fetch_images([*dead, server.entry("a.jpg")], folder)
    assert fetched.fetched == 1 and all("no connection (" in reason for reason in reasons(fetched))
    monkeypatch.setattr(downloader.Downloader, "get", None)  # would fail when called
    assert fetch_images([*dead, server.entry("a.jpg")], folder).failures == fetched.failures


def test_unreachable_server_is_not_tried_for_each_image(folder, monkeypatch):
    tried = Counter()
    send = httpx.Client.send
    monkeypatch.setattr(
        httpx.Client, "send", lambda *args, **known: (tried.update(["ask"]), send(*args, **known))[1]
    )
    port = closed_port()
    entries = [Entry("apple", f"http://127.0.0.1:{port}/{i}.jpg") for i in range(50)]
    with pytest.raises(
        ImgclfError,
        match="^none of the 50 URLs could be reached: no connection .*; check the network or proxy",
    ):
        fetch_images(entries, folder, threads=1)
    assert tried["ask"] == downloads.ATTEMPTS


def test_present_images_can_be_used_offline(server, folder, tmp_path):
    entries = [server.entry("a.jpg"), server.entry("b.jpg")]
    fetch_images(entries, folder)
    lost = Entry("apple", f"http://127.0.0.1:{closed_port()}/c.jpg")
    assert len(fetch_images([*entries, lost], folder).failures) == 1
    assert not (tmp_path / "proc").exists()


def test_network_that_goes_down_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_CONSECUTIVE_UNREACHABLE", 5)
    entries = [Entry("apple", f"http://127.0.0.1:{closed_port()}/{i}.jpg") for i in range(40)]
    with pytest.raises(
        ImgclfError,
        match="5 URLs in a row could not be reached .*; check the network or proxy and run again",
    ):
        fetch_images(entries, folder)


def test_invalid_server_name_is_one_failure_of_many(server, folder, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    fetched = fetch_images([Entry("apple", "http://a..b/x.jpg"), server.entry("a.jpg")], folder)
    assert fetched.fetched == 1 and reasons(fetched)[0].startswith("not a URL that can be fetched")


def test_zero_threads_still_fetch(server, folder):
    assert fetch_images([server.entry("a.jpg")], folder, threads=0).fetched == 1


def test_unusable_proxy_is_named(folder, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "gopher://nowhere")
    with pytest.raises(
        ImgclfError, match="proxy set in the environment cannot be used: .*; correct HTTP_PROXY"
    ):
        fetch_images([Entry("apple", "http://127.0.0.1:9/a.jpg")], folder)


def test_killed_run_leaves_complete_files_and_the_next_one_resumes(server, folder, tmp_path):
    def slowly(handler):
        time.sleep(0.03)
        handler.give(200, JPEG)

    entries = [server.entry(f"{i}.jpg", slowly) for i in range(200)]
    manifest.write(tmp_path / "fruit.tsv", entries)
    program = (
        "import sys; from pathlib import Path; from imgclf.collect import downloader, fetch, manifest\n"
        "fetch.fetch_images(manifest.read(Path(sys.argv[1])), Path(sys.argv[2]), threads=4, private_addresses=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "fruit.tsv", folder]) as run:
        while sum(server.asked.values()) < 40 and run.poll() is None:
            time.sleep(0.005)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    visible = [folder / name for name in names(folder) if not name.startswith("apple/.")]
    assert 0 < len(visible) < 200 and all(path.read_bytes() == JPEG for path in visible)
    result = fetch_images(entries, folder)
    assert result == FetchResult(200, len(visible), 200 - len(visible), ())


def test_stale_partial_files_are_removed(server, folder):
    (folder / "apple").mkdir(parents=True)
    for name in (".old.part", ".new.part"):
        (folder / "apple" / name).write_bytes(b"half")
    os.utime(folder / "apple/.old.part", (0, 0))
    fetch_images([server.entry("a.jpg")], folder)
    assert names(folder) == ["apple/.new.part", "apple/a.jpg"]


@pytest.fixture
def small_disk(tmp_path):
    with small_disks.mounted(tmp_path / "disk", megabytes=1) as disk:
        yield disk


def test_full_disk_ends_the_run_and_keeps_complete_files(server, small_disk):
    large = picture("png", width=200, height=200)  # 120 kB: 8 of them fill the disk
    entries = [server.entry(f"{i}.png", (200, large)) for i in range(300)]
    with pytest.raises(ImgclfError, match="^cannot write .*the disk is full; free some space"):
        fetch_images(entries, small_disk, threads=2)
    assert 0 < len(names(small_disk)) < 10
    assert all((small_disk / name).read_bytes() == large for name in names(small_disk))
    assert sum(server.asked.values()) < 50


def test_file_in_place_of_a_folder_is_reported(server, folder):
    folder.mkdir(parents=True)
    (folder / "apple").write_text("")
    with pytest.raises(
        ImgclfError, match="cannot list the folder .*apple: .*; move away the file of that name"
    ):
        fetch_images([server.entry("a.jpg")], folder)


def test_interrupt_does_not_wait_for_servers(server, folder):
    is_waiting = threading.Event()

    def interrupt(done):
        raise KeyboardInterrupt

    def silent(handler):
        is_waiting.set()
        handler.connection.settimeout(GIVE_UP_SECONDS)
        if handler.connection.recv(1) == b"":
            raise ConnectionResetError

    def after_a_silent_one(handler):
        is_waiting.wait(GIVE_UP_SECONDS)
        handler.give(200, JPEG)

    slow = [server.entry(f"{i}.jpg", silent) for i in range(20)]
    with pytest.raises(KeyboardInterrupt):
        fetch_images(
            [server.entry("a.jpg", after_a_silent_one), *slow], folder, threads=4, progress=interrupt
        )
    asked = {path for path in server.asked if path != "/a.jpg"}
    assert 0 < len(asked) <= 4 and {server.asked[path] for path in asked} == {
        1
    }  # no attempt after the interrupt
    while asked:  # each of them sees that the client disconnects
        asked.discard(server.disconnected.get(timeout=GIVE_UP_SECONDS))


def test_demo_images_are_validated_too(folder, monkeypatch):
    demo = pytest.importorskip("imgclf.collect.demo")
    responses = {
        "demo:a": demo.Response(200, "image/jpeg", JPEG),
        "demo:b": demo.Response(200, "text/html", b"<p>"),
        "demo:c": demo.Response(404, "", b""),
    }
    monkeypatch.setattr(demo, "response", responses.get)
    result = fetch_images([Entry("apple", source) for source in responses], folder)
    assert names(folder) == ["apple/a.jpg"]
    assert reasons(result) == ["a web page instead of an image", "HTTP 404 Not Found"]


def test_the_demo_set_can_be_fetched(folder):
    demo = pytest.importorskip("imgclf.collect.demo")
    entries = [Entry(label, source) for label, source in demo.sources()]
    result = fetch_images(entries, folder, max_images=6)
    assert result.listed == 6 and result.fetched + len(result.failures) == 6
    assert {name.split("/")[0] for name in names(folder)} == {entry.label for entry in entries}


def test_list_of_test_images_has_their_stored_names(server, folder):
    entries = [
        server.entry("a.jpg", (200, PNG), split="test"),
        server.entry("b.jpg", split="train"),
        server.entry("c.jpg", (404,), split="test"),
        server.entry("d.jpg", label="pear", split="test"),
    ]
    assert fetch.write_test_list(entries, folder) == ""
    fetch_images(entries, folder)
    assert (
        fetch.write_test_list(entries, folder)
        == "dedicatedTestImages.tsv lists 2 of the manifest's 3 test images"
    )
    assert (folder / "dedicatedTestImages.tsv").read_text() == "apple\ta.png\npear\td.jpg\n"


def test_list_of_test_images_is_updated_unless_a_person_wrote_it(server, folder):
    entries = [server.entry(f"{i}.jpg", split="test") for i in range(3)]
    for number in (1, 2):
        fetch_images(entries, folder, max_images=number)
        assert fetch.write_test_list(entries, folder).startswith(f"dedicatedTestImages.tsv lists {number} of")
    (folder / "dedicatedTestImages.tsv").write_text("apple\t1.jpg\n")
    assert re.search(
        "fruit was written or changed by hand, so it is kept; delete it to have it written again",
        fetch.write_test_list(entries, folder),
    )
    assert (folder / "dedicatedTestImages.tsv").read_text() == "apple\t1.jpg\n"


def test_manifest_without_test_images_writes_no_list(server, folder):
    entries = [server.entry("a.jpg", split="train"), server.entry("b.jpg")]
    fetch_images(entries, folder)
    assert fetch.write_test_list(entries, folder) == ""
    assert names(folder) == ["apple/a.jpg", "apple/b.jpg"]


def test_relabelled_image_is_not_fetched_again_and_stays_in_the_list_of_test_images(server, folder):
    entries = [server.entry("a.jpg", split="test"), server.entry("b.jpg", label="pear")]
    fetch_images(entries, folder)
    opened = Journal(folder)
    with opened.hold():
        opened.carry_out([Step("relabel", "apple/a.jpg", "pear/a.jpg")])
    assert str(fetch_images(entries, folder)).startswith(
        "2 of 2 images are there: 2 already present, 0 fetched"
    )
    assert [name for name in names(folder) if "/" in name] == ["pear/a.jpg", "pear/b.jpg"]
    fetch.write_test_list(entries, folder)
    assert (folder / "dedicatedTestImages.tsv").read_text() == "apple\ta.jpg\n"


def test_fetching_never_overwrites_a_relabelled_image(server, folder):
    entries = [server.entry("a.jpg"), server.entry("other/a.jpg", label="pear")]
    fetch_images(entries[:1], folder)
    opened = Journal(folder)
    with opened.hold():
        opened.carry_out([Step("relabel", "apple/a.jpg", "pear/a.jpg")])
    before = (folder / "pear/a.jpg").read_bytes()
    result = fetch_images(entries, folder)
    assert reasons(result) == ["a relabelled image has the same file name; rename that one"]
    assert (folder / "pear/a.jpg").read_bytes() == before


def test_parameters_that_do_not_concern_the_images_that_are_there_are_said(server, folder):
    entries = [server.entry(f"{i}.jpg") for i in range(5)]
    assert fetch_images(entries, folder, max_images=2, max_image_side=20).notes == ()
    assert str(fetch_images(entries, folder, max_images=2, max_image_side=30)).splitlines()[1:] == [
        "max_image_side=30 has no effect on the 2 images that were present"
    ]
    fetch_images(entries, folder)
    assert str(fetch_images(entries, folder, max_images=2)).splitlines()[1:] == [
        "CAREFUL: max_images=2, but 3 more images of the list are in the folder and will be used; move them "
        "elsewhere if you want fewer"
    ]
    assert fetch_images([], folder).notes == ()
    assert fetch_images([], folder, max_image_side=30).notes == (
        "max_images and max_image_side have no effect: there is no list of images to fetch",
    )

"""A search, a fetch and a scan that are killed go on where they were, and ask for nothing again that was done."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgclf.collect import manifest
from imgclf.data import scan_cache
from support import search_results, search_server
from support.search_results import ATTRIBUTES, OBJECTS, PER_QUERY
from support.search_server import SearchServer

pytestmark = pytest.mark.slow

NAME = "own_images"
GIVE_UP_SECONDS = 60
THREADS = 8
KILLED_AT = 700  # scanned images
SEARCH = f"""
import sys
from imgclf.collect import queries, search
grid = queries.grid("{", ".join(OBJECTS)}", "{", ".join(ATTRIBUTES)}")
found = search.run(search.service("commons", url=sys.argv[1]), grid, dataset_name="{NAME}", images_per_query={PER_QUERY})
search.write_manifest(found, "{NAME}")
"""
FETCH = f"""
from imgclf.collect import fetch, manifest
from imgclf.data import dataset
fetch.IMAGE_SECONDS = 2  # of which the slow host uses all
entries = manifest.read(manifest.find("{NAME}"))
fetched = fetch.fetch_images(entries, dataset.images_folder("{NAME}"), threads={THREADS}, private_addresses=True)
print(fetched.fetched + fetched.present, len(fetched.failures))
"""
SCAN = f"""
import time
from imgclf.data import dataset, scan
from imgclf.images import duplicates
hashed, dhash = [], duplicates.dhash_of_grey
duplicates.dhash_of_grey = lambda grey: (hashed.append(1), dhash(grey))[1]
def report(done):
    time.sleep(0.001)
    print(done, flush=True)
scanned = scan.scan_folder("{NAME}", dataset.images_folder("{NAME}"), progress=report)
dataset.write(scanned)
print("hashed", len(hashed), len(scanned.images), len(scanned.duplicates))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SearchServer]:
    with search_server.running() as running:
        yield running


@pytest.fixture(autouse=True)
def counting_from_zero(server: SearchServer) -> None:
    server.forget()
    server.seconds = 0.0


def start(program: str, data: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "IMGCLF_DATA": str(data)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def finish(program: str, data: Path, *arguments: str) -> str:
    process = start(program, data, *arguments)
    output = process.communicate(timeout=GIVE_UP_SECONDS)[0]
    assert process.returncode == 0
    return output


def kill_when(is_time: Callable[[], bool], program: str, data: Path, *arguments: str) -> None:
    """Start a program and kill it by SIGKILL at a moment at which it is at work."""
    process = start(program, data, *arguments)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not is_time() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def again(server: SearchServer, undisturbed: Counter) -> Counter:
    """What was asked for more often than by a run that nobody killed."""
    return server.asked - undisturbed


def test_a_killed_search_goes_on_and_asks_for_no_answer_again(server, tmp_path):
    finish(SEARCH, tmp_path / "undisturbed", server.url)
    undisturbed = server.asked.copy()
    server.forget()
    server.seconds = 0.02
    for number in (5, 40):
        kill_when(
            lambda number=number: server.api_requests >= number, SEARCH, tmp_path / "killed", server.url
        )
    finish(SEARCH, tmp_path / "killed", server.url)
    assert again(server, undisturbed).total() <= 2  # the answers that were on their way
    written = [manifest_of(tmp_path / name) for name in ("killed", "undisturbed")]
    assert written[0] == written[1] and len(written[0].splitlines()) == 1037


def manifest_of(data: Path) -> str:
    return (data / "data_manifest" / f"{NAME}.tsv").read_text()


def test_a_killed_fetch_goes_on_and_asks_for_no_image_again(server, tmp_path):
    listed = search_results.listed()
    entries = [manifest.Entry(result.label, server.url_of(result)) for result in listed]
    for name in ("undisturbed", "killed"):
        (tmp_path / name / "data_manifest").mkdir(parents=True)
        manifest.write(tmp_path / name / "data_manifest" / f"{NAME}.tsv", entries)
    assert finish(FETCH, tmp_path / "undisturbed").split() == ["959", "77"]
    undisturbed = server.asked.copy()
    server.forget()
    server.seconds = 0.002
    for number in (200, 900):
        kill_when(lambda number=number: len(server.asked) >= number, FETCH, tmp_path / "killed")
    assert finish(FETCH, tmp_path / "killed").split() == ["959", "77"]
    tried_again = again(server, undisturbed)
    may_return = {
        result.path for result in listed if result.kind in ("503 for ever", "connection breaks", "slow host")
    }
    assert sum(number for path, number in tried_again.items() if path not in may_return) <= 2 * THREADS
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "undisturbed")


def files_of(data: Path) -> dict[str, bytes]:
    """Content of each file of the data set by its path, hidden ones left out."""
    folder = data / "images" / NAME
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_killed_scan_goes_on_and_hashes_no_image_again(tmp_path):
    folder = tmp_path / "images" / NAME
    images = [result for result in search_results.listed() if not result.failure]
    for result in images:
        path = folder / result.label / f"{result.number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(result.content)
    process = start(SCAN, tmp_path)
    for line in process.stdout:
        if int(line) == KILLED_AT:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    hashed, used, pairs = finish(SCAN, tmp_path).splitlines()[-1].split()[1:]
    assert len(images) - KILLED_AT <= int(hashed) <= len(images) - scan_cache.PART_IMAGES
    shutil.rmtree(tmp_path / "proc")
    assert finish(SCAN, tmp_path).splitlines()[-1].split()[2:] == [used, pairs]

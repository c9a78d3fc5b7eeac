"""Fetching: processor time of 50,000 images that are there, and of 5,000 small ones from servers on this machine."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from imgclf.collect.fetch import fetch_images
from imgclf.collect.manifest import Entry
from support.image_server import JPEG

PRESENT, FETCHED, HOSTS = 50_000, 5_000, 8
SERVERS = f"""
import sys
from contextlib import ExitStack
from support.image_server import JPEG, serving
with ExitStack() as running:
    servers = [running.enter_context(serving()) for _ in range({HOSTS})]
    for server in servers:
        server.pages = {{f"/{{i}}.jpg": [(200, JPEG)] for i in range({FETCHED})}}
    print(*(server.server_port for server in servers), flush=True)
    sys.stdin.read()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        os.environ["IMGCLF_DATA"] = data
        images = Path(data) / "images"
        there = [
            Entry(f"label{i % 21}", f"http://h{i % 997}.example/{i}.jpg", file_name=f"{i}.jpg")
            for i in range(PRESENT)
        ]
        for i in range(21):
            (images / "there" / f"label{i}").mkdir(parents=True)
        for entry in there:
            (images / "there" / entry.label / entry.file_name).write_bytes(JPEG)
        measured(f"{PRESENT:,} images that are there", there, images / "there")
        tests = str(Path(__file__).parents[1] / "tests")
        with subprocess.Popen(
            [sys.executable, "-c", SERVERS],
            env={**os.environ, "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as servers:
            assert servers.stdin and servers.stdout
            ports = servers.stdout.readline().split()
            entries = [Entry("label", f"http://127.0.0.1:{ports[i % HOSTS]}/{i}.jpg") for i in range(FETCHED)]
            measured(f"{FETCHED:,} images from {HOSTS} servers", entries, images / "fetched")
            servers.stdin.close()
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def measured(name: str, entries: list[Entry], folder: Path) -> None:
    """Fetch, and print what it took."""
    start, processor = time.perf_counter(), time.process_time()
    result = fetch_images(entries, folder, private_addresses=True)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    assert result.present + result.fetched == len(entries)
    print(
        f"{name}: {processor:.1f} s of processor time, "
        f"{1e6 * processor / len(entries):.0f} µs an image; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()

"""A cluster fetches what this machine would fetch: the same files, and the same reasons for what failed."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgclf.collect.fetch import fetch_images
from imgclf.collect.manifest import Entry
from imgclf.images.workers import Workers, connected

pytest.importorskip("distributed", reason="needs pip install 'imgclf[cluster]'")
from support import dask_cluster
from support.dask_cluster import Cluster
from support.image_server import JPEG, Server, picture

pytestmark = pytest.mark.slow
IMAGES = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with dask_cluster.running(tmp_path_factory.mktemp("cluster")) as running:
            yield running


def entries(server: Server) -> list[Entry]:
    """Images of a server, some with problems, and of the demo set."""
    found = [server.entry(f"{i}.jpg", (200, picture("jpeg", seed=i))) for i in range(IMAGES)]
    found.append(server.entry("large.png", (200, picture("png", width=300))))
    found.append(server.entry("gone.jpg", (404, b"")))
    found.append(server.entry("page.jpg", (200, b"<html>")))
    found.append(server.entry("cut.jpg", (200, JPEG[:-9])))
    found += [Entry("dotted", f"demo:dotted/{i:03d}") for i in (1, 2, 999)]
    return found


def fetched(server: Server, folder: Path, workers: Workers, **settings):
    """The files of a fetch by their paths, the reasons, and the counts."""
    result = fetch_images(
        entries(server), folder, private_addresses=True, max_image_side=100, workers=workers, **settings
    )
    contents = {path.relative_to(folder): path.read_bytes() for path in sorted(folder.glob("*/*"))}
    reasons = [(failure.entry.source, failure.reason) for failure in result.failures]
    return contents, reasons, (result.listed, result.present, result.fetched)


def test_a_cluster_fetches_the_same_files_and_names_the_same_failures(cluster, server, folder):
    alone = fetched(server, folder, Workers())
    counted = []
    with connected(cluster.address) as used:
        together = fetched(server, folder.with_name("pears"), used, progress=counted.append)
    assert together == alone and len(alone[0]) == IMAGES + 3
    failed = [source.rpartition("/")[2] for source, _ in alone[1]]
    assert failed == ["gone.jpg", "page.jpg", "cut.jpg", "999"]
    assert counted[-1] == len(entries(server)) and set(server.asked.values()) == {2}


def test_what_a_lost_cluster_did_not_fetch_this_machine_fetches(
    tmp_path, server, folder, monkeypatch, capsys
):
    alone = fetched(server, folder, Workers())
    with dask_cluster.running(tmp_path) as cluster, connected(cluster.address) as used:
        together = fetched(
            server,
            folder.with_name("pears"),
            used,
            progress=lambda done: done == 3 and cluster.scheduler.kill(),
        )
    assert together == alone
    assert "is lost; this machine goes on alone" in capsys.readouterr().out


WAITING = """
import sys
from pathlib import Path
from imgclf.collect.fetch import fetch_images
from imgclf.collect.manifest import Entry
from imgclf.images.workers import connected
try:
    with connected(sys.argv[1]) as used:
        fetch_images([Entry("dotted", f"demo:dotted/{i:03d}") for i in (1, 2)], Path(sys.argv[2]), workers=used)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_ends_the_wait_for_workers(tmp_path, folder):
    with (
        dask_cluster.running(tmp_path, workers=0) as cluster,
        subprocess.Popen(
            [sys.executable, "-c", WAITING, cluster.address, folder], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout
            said = process.stdout.readline()
            assert "has no workers; waiting for them (Ctrl-C, then cluster='', goes on without)" in said
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == "interrupted\n"
        finally:
            process.kill()

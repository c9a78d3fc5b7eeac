"""Work by a real cluster has the results of this process alone, to the bit, whoever dies on the way."""

import operator
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from imgclf import ImgclfError, features, files
from imgclf.data import scan
from imgclf.data.dataset import Dataset
from imgclf.features import Cache
from imgclf.images import loading, workers
from imgclf.images.workers import HERE, Workers, connected

pytest.importorskip("distributed", reason="needs pip install 'imgclf[cluster]'")
import dask

from support import dask_cluster
from support.dask_cluster import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def damaged(colour_folder: Path) -> Path:
    """A folder with a file that is no image, and a truncated one."""
    (colour_folder / "green" / "03.jpg").write_bytes(b"this is no image")
    whole = (colour_folder / "red" / "05.jpg").read_bytes()
    (colour_folder / "red" / "05.jpg").write_bytes(whole[: len(whole) // 2])
    return colour_folder


def computed(found: Dataset, network: Path, name: str, used: Workers = HERE, **settings):
    """Features by some workers, in a cache of their own; the skipped images; and the shards by name."""
    cache = Cache(files.proc_dir(name) / "features" / "tiny")
    skipped = features.compute(found, network, cache, workers=used, **settings)
    shards = {shard.name: shard.read_bytes() for shard in cache.folder.glob("*.npz")}
    return cache.features(found.images).matrix, skipped, shards


def assert_same(one, other) -> None:
    assert one[0].dtype == np.float32 and one[0].tobytes() == other[0].tobytes()
    assert one[1] == other[1] and one[2] == other[2]


def test_features_of_a_cluster_are_those_of_one_process_to_the_bit(cluster, colour_folder, tiny_network):
    found, counted = scan.scan_folder("colours", colour_folder), []
    (colour_folder / "blue" / "02.jpg").unlink()
    (colour_folder / "green" / "03.jpg").write_bytes(b"this is no image")
    alone = computed(found, tiny_network, "alone")
    with connected(cluster.address) as used:
        together = computed(found, tiny_network, "together", used, progress=counted.append)
    assert_same(alone, together)
    reasons = [skipped.reason for skipped in together[1]]
    assert "No such file" in reasons[0] and "has changed since 01_prepare_data" in reasons[1]
    assert counted == [*range(1, 37)]


def test_a_scan_by_a_cluster_is_that_of_one_process_with_the_same_reasons(cluster, damaged, monkeypatch):
    alone, counted = scan.scan_folder("fruit", damaged), []
    with connected(cluster.address) as used:
        together = scan.scan_folder("fruit", damaged, workers=used, progress=counted.append)
    assert together == alone and counted == [*range(1, 37)]
    assert {image.path for image in together.excluded} >= {"green/03.jpg", "red/05.jpg"}


def test_what_workers_do_not_see_is_sent_to_them(cluster, damaged, tiny_network, monkeypatch, capsys):
    found = scan.scan_folder("fruit", damaged)
    alone = computed(found, tiny_network, "alone")
    monkeypatch.setattr(loading, "_state", lambda path: (path.stat().st_size, 1))
    monkeypatch.setattr(workers, "SENT_BYTES", 3000)  # a few of them
    with connected(cluster.address) as used:
        together = computed(found, tiny_network, "together", used)
        assert scan.scan_folder("fruit", damaged, workers=used) == found
    assert_same(alone, together)
    said = capsys.readouterr().out
    assert said.count("this machine sends the images to the workers") == 1


def test_an_image_at_the_same_path_that_is_another_one_is_not_read(colour_folder):
    source = loading.Source(colour_folder / "red" / "00.jpg").marked()
    os.utime(source.path, ns=(0, 5))
    with pytest.raises(loading.Unseen, match="00.jpg is another file, or none"), source.content():
        pass


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path, colour_folder, tiny_network, capsys):
    found = scan.scan_folder("colours", colour_folder)
    alone = computed(found, tiny_network, "alone")
    with dask_cluster.running(tmp_path) as cluster, connected(cluster.address) as used:
        together = computed(
            found,
            tiny_network,
            "together",
            used,
            progress=lambda done: done == 1 and cluster.workers[0].kill(),
        )
        assert cluster.workers[0].wait(10) == -signal.SIGKILL
        assert list(used.stream(dask_cluster.squares, range(40), shared=3)) == [3 * k * k for k in range(40)]
    assert_same(alone, together)
    assert "is lost" not in capsys.readouterr().out


def test_a_scheduler_that_is_killed_leaves_the_rest_to_this_process(tmp_path, capsys):
    results = []
    with dask_cluster.running(tmp_path) as cluster, connected(cluster.address) as used:
        for result in used.stream(dask_cluster.squares, range(60), shared=3):
            results.append(result)
            if len(results) == 10:
                cluster.scheduler.kill()
        assert list(used.stream(dask_cluster.squares, [1, 2], shared=2)) == [2, 8]
    assert results == [3 * k * k for k in range(60)]
    said = capsys.readouterr().out
    assert said == f"cluster='{cluster.address}' is lost; this machine goes on alone\n"


def test_a_stop_leaves_no_work_with_the_cluster(cluster):
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), connected(cluster.address) as used:
        for _ in used.stream(dask_cluster.squares, range(5_000), shared=1):
            raise KeyboardInterrupt
    assert time.monotonic() - start < 20  # of 125
    end = time.monotonic() + 20
    while cluster.tasks() and time.monotonic() < end:
        time.sleep(0.2)
    assert cluster.tasks() == 0


def test_a_scheduler_that_is_gone_before_the_work_begins_leaves_it_to_this_process(tmp_path, capsys):
    with dask_cluster.running(tmp_path, workers=1) as cluster, connected(cluster.address) as used:
        assert used.threads() == 1
        cluster.scheduler.kill()
        assert list(used.stream(dask_cluster.squares, [1, 2], shared=2)) == [2, 8]
    assert capsys.readouterr().out.count("is lost; this machine goes on alone") == 1


def test_an_error_of_the_work_comes_back_as_it_is(cluster, colour_folder, tiny_network):
    found = scan.scan_folder("colours", colour_folder)
    cache = Cache(files.proc_dir("colours") / "features" / "tiny")
    with connected(cluster.address) as used:
        with pytest.raises(ImgclfError, match="^engine='warp': must be one of openvino"):
            features.compute(found, tiny_network, cache, engine="warp", workers=used)
        with pytest.raises(ZeroDivisionError):
            used.call(operator.truediv, 1, 0)


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [("imgclf", "9.9", r"0\..*, this machine 9\.9; install"), ("pillow", "", "this machine has not;")],
)
def test_workers_with_other_versions_are_refused(cluster, monkeypatch, name, version, said):
    others = workers._versions() | {name: version}
    monkeypatch.setattr(workers, "_versions", lambda: others)
    with (
        connected(cluster.address) as used,
        pytest.raises(ImgclfError, match=f"a worker of the cluster has {name} .*{said}"),
    ):
        used.call(operator.add, 1, 2)


def test_when_the_last_worker_dies_it_is_said_and_another_one_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workers, "REFRESH_SECONDS", 0.5)
    results = []
    with dask_cluster.running(tmp_path, workers=1) as cluster, connected(cluster.address) as used:
        for result in used.stream(dask_cluster.squares, range(40), shared=3):
            results.append(result)
            if len(results) == 10:
                cluster.workers[0].kill()
                timer = threading.Timer(5, cluster.start_worker)
                timer.start()
        timer.join()
    assert results == [3 * k * k for k in range(40)]
    assert capsys.readouterr().out.count(f"cluster='{cluster.address}' has no workers; waiting for them") == 1


def test_workers_that_come_later_get_work_too(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(workers, "PIECE_ITEMS", 4)
    with dask_cluster.running(tmp_path, workers=1) as cluster, connected(cluster.address) as used:
        processes = set()
        for number, process in enumerate(used.stream(dask_cluster.process_ids, range(2_000))):
            processes.add(process)
            if number == 10:
                cluster.start_worker()
            if len(processes) == 2:
                return
    pytest.fail("the second worker got nothing in 100 s")


def test_a_worker_computes_one_piece_at_a_time_with_all_its_cores(tmp_path):
    with dask_cluster.running(tmp_path, workers=1, threads=4) as cluster, connected(cluster.address) as used:
        assert used.threads() == 4
        spans = sorted(used.stream(dask_cluster.spans, range(32)))
    assert len({thread for _, _, thread in spans}) > 1
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(spans))


def test_local_processes_are_a_cluster_and_end_with_the_block(damaged, tiny_network, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    found = scan.scan_folder("fruit", damaged)
    alone = computed(found, tiny_network, "alone")
    with connected("local:2") as used:
        assert_same(alone, computed(found, tiny_network, "together", used))
        assert used.threads() == 2
        process = used.call(os.getpid)
        assert process != os.getpid()
        with pytest.raises(ImgclfError, match="several workers died .* give them more, or set cluster=''"):
            used.call(os._exit, 1)
    end = time.monotonic() + 10
    while Path(f"/proc/{process}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{process}").exists()


def test_a_scheduler_that_does_not_answer_is_an_error_at_once():
    start = time.monotonic()
    with (
        connected("tcp://127.0.0.1:9") as used,
        pytest.raises(
            ImgclfError, match="^cluster='tcp://127.0.0.1:9': no scheduler answers there .*docs/cluster.md"
        ),
    ):
        used.threads()
    assert time.monotonic() - start < 3 * workers.CONNECT_SECONDS


def test_missing_certificates_are_named(monkeypatch, tmp_path):
    variables = list(workers.CERTIFICATES.values())
    (tmp_path / "ca.pem").write_text("a certificate")
    monkeypatch.chdir(tmp_path)
    with dask.config.set({"distributed.comm.tls.ca-file": None}):
        assert_refused(f"{variables[0]} must name a file .*, and it is not set; see docs/cluster.md")
    with dask.config.set(
        {"distributed.comm.tls.ca-file": "ca.pem", "distributed.comm.tls.client.cert": "my.pem"}
    ):
        assert_refused(f"{variables[1]} must name .*, and there is no file {tmp_path}/my.pem")


def assert_refused(said: str) -> None:
    with connected("tls://127.0.0.1:9") as used, pytest.raises(ImgclfError, match=said):
        used.threads()


def test_a_cluster_that_is_not_needed_is_not_asked(colour_folder, tiny_network):
    found = scan.scan_folder("colours", colour_folder)
    computed(found, tiny_network, "alone")
    with connected("tcp://127.0.0.1:9") as used:
        assert isinstance(computed(found, tiny_network, "alone", used)[1], list)


def test_without_a_cluster_this_process_works():
    with connected("") as used:
        assert list(used.stream(dask_cluster.squares, [1, 2], shared=2)) == [2, 8]
        assert used.threads() == 1
        with pytest.raises(workers.Lost):
            used.call(os.getpid)

"""Networks that are exported beside the first notebooks of a run."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from imgclf import files
from imgclf.experiments import exporting_ahead
from imgclf.features import copy_detection
from imgclf.networks import backbones, exporting

VALUES = {"near_duplicates": "together", "backbone": "efficientnet_lite0", "input_size": 64}


def processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if exporting_ahead.MODULE in child.cmdline()]


@pytest.mark.parametrize("there_meanwhile", [False, True])
def test_an_export_waits_for_that_of_another_process(data_dir, there_meanwhile):
    path = exporting.cached("a_network")
    path.parent.mkdir(parents=True)
    held = files.acquire(path.with_name(exporting.LOCK), seconds=0)
    with ThreadPoolExecutor(1) as thread:
        try:
            waiting = thread.submit(exporting.exported, "a_network", lambda path: path.write_text("here"))
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            assert not path.exists()
            if there_meanwhile:
                path.write_text("there")
        finally:
            held.release()
        assert waiting.result(10).read_text() == ("there" if there_meanwhile else "here")


def test_the_process_exports_the_networks_of_its_arguments(monkeypatch):
    exported = []
    monkeypatch.setattr(copy_detection, "network", lambda: exported.append("copies"))
    monkeypatch.setattr(backbones, "exported", lambda backbone, size: exported.append((backbone.name, size)))
    exporting_ahead.main(["copies", "efficientnet_lite0", "64"])
    exporting_ahead.main(["efficientnet_lite0", "224"])
    assert exported == ["copies", ("efficientnet_lite0", 64), ("efficientnet_lite0", 224)]


def test_a_process_that_is_not_done_is_ended_with_the_run(data_dir):
    with exporting_ahead.exports(VALUES):
        assert len(processes()) == 1
    assert processes() == []


@pytest.mark.parametrize(
    ("changed", "arguments"),
    [
        ({}, ["copies", "efficientnet_lite0", "64"]),
        ({"near_duplicates": "ignored"}, ["efficientnet_lite0", "64"]),
        ({"input_size": 0}, ["copies", "efficientnet_lite0", "224"]),
        ({"backbone": "resnet18"}, ["copies"]),  # 02 shows its download
        ({"backbone": "/some/net.onnx"}, ["copies"]),
        ({"backbone": "resnet18", "near_duplicates": "ignored"}, []),
    ],
)
def test_what_is_exported_ahead(data_dir, changed, arguments):
    assert exporting_ahead._missing({**VALUES, **changed}) == arguments


def test_networks_that_are_there_are_not_exported_again(with_copy_descriptor):
    network = exporting.cached(backbones.export_name(backbones.BACKBONES["efficientnet_lite0"], 64))
    shutil.copy(copy_detection.network(), network)
    with exporting_ahead.exports(VALUES):
        assert processes() == []

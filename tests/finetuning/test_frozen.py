"""The frozen part of a network in the inference engine."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from imgclf import engines, files
from imgclf.finetuning import frozen
from imgclf.networks import backbones, exporting

LITE0 = backbones.BACKBONES["efficientnet_lite0"]


def test_a_frozen_part_that_another_process_exports_is_not_exported_again(data_dir, monkeypatch):
    monkeypatch.setattr(exporting, "export_network", lambda network, size, path, **_: path.write_text("here"))
    monkeypatch.setattr(engines, "start", lambda path, precision: path)
    path = exporting.cached(f"{backbones.cache_name(LITE0)}-front1-64")
    path.parent.mkdir(parents=True)
    held = files.acquire(path.with_name(exporting.LOCK), seconds=0)
    with ThreadPoolExecutor(1) as thread:
        try:
            part = nn.Sequential(nn.Identity())
            waiting = thread.submit(frozen.start_frozen_part, LITE0, part, 64, device="cpu")
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            path.write_text("there")
        finally:
            held.release()
        waiting.result(10)
    assert path.read_text() == "there"

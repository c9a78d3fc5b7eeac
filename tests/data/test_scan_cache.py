import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgclf import files
from imgclf.data import dataset, scan, scan_cache
from imgclf.images import decoding
from support.pictures import picture

KILLED = Path(__file__).parents[1] / "support" / "killed_while_scanning.py"
IMAGES = 3 * scan_cache.PART_IMAGES


@pytest.fixture
def folder(data_dir, tmp_path):
    for i in range(IMAGES):
        path = tmp_path / "own" / f"{'ab'[i % 2]}" / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(decoding.jpeg(picture((120, 120, 120), i, width=32, height=24)))
    return tmp_path / "own"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded to be hashed."""
    names, decode = [], decoding.decode_with_size

    def listed(encoded, name, **options):
        names.append(name)
        return decode(encoded, name, **options)

    monkeypatch.setattr(decoding, "decode_with_size", listed)
    return names


def scan_own(folder):
    return scan.scan_folder("own", folder, near_duplicates="ignored")


def kill_after(folder, images):
    """Scan in another process, and kill it when that many images are done."""
    command = [sys.executable, KILLED, "own", folder, str(images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.kill()


def test_killed_scan_goes_on_where_it_was(folder, decoded):
    kill_after(folder, IMAGES - 100)
    found = scan_own(folder)
    assert len(decoded) == scan_cache.PART_IMAGES
    dataset.write(found)
    assert not (files.proc_dir("own") / dataset.PARTS).exists()
    decoded.clear()
    assert scan_own(folder) == found and not decoded


def test_damaged_part_costs_its_images_alone(folder, decoded):
    found = scan_own(folder)
    first, *others = (files.proc_dir("own") / dataset.PARTS).iterdir()
    assert len(others) == 2
    first.write_bytes(np.random.default_rng(0).bytes(1000))
    decoded.clear()
    assert scan_own(folder) == found and len(decoded) == scan_cache.PART_IMAGES

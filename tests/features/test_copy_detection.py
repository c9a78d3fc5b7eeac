import errno
import io
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC

from imgclf import ImgclfError, files
from imgclf.data import copies, scan, split
from imgclf.data.dataset import Dataset
from imgclf.features import Cache, compute, copy_detection
from imgclf.images import alignment, decoding
from support.alterations import altered
from support.scenes import garment

SEEDS = 10
MADE = {"mirror": "mirrored", "crop": "cropped by 10 %, all sides"}


@pytest.fixture(autouse=True)
def network(with_copy_descriptor):
    return with_copy_descriptor


def write(folder: Path, pictures: dict[str, bytes]) -> Path:
    for path, content in pictures.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def each_beside_its_copies(pictures: list[np.ndarray]) -> dict[str, bytes]:
    """Files of pictures in two labels, each beside its mirror image and a crop."""
    return {
        f"{'ab'[i % 2]}/{i:03d} {kind}.jpg": altered(name, pixels)
        for i, pixels in enumerate(pictures)
        for kind, name in {"original": "saved again, quality 90", **MADE}.items()
    }


def named(found: Dataset) -> set[frozenset[str]]:
    return {frozenset(image.path for image in (pair.kept, pair.other)) for pair in found.duplicates}


def garments(count: int) -> list[np.ndarray]:
    """Different garments, each on a backdrop of its own."""
    return [garment(seed, backdrop=seed) for seed in range(count)]


def test_mirror_images_and_crops_are_near_duplicates_that_a_hash_does_not_find(tmp_path):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(12)))
    assert scan.scan_folder("shop", folder).duplicates == ()
    found = copy_detection.scan_folder("shop", folder)
    assert {pair.kind for pair in found.duplicates} == {"near"} and found.excluded == ()
    assert all(len({path[2:5] for path in pair}) == 1 for pair in named(found))
    assert len(found.duplicates) == 24  # as many as connect the three pictures of each garment


def test_copies_under_another_label_disagree_and_stay(tmp_path):
    one, *others = garments(12)
    pictures = {f"a/{i}.jpg": decoding.jpeg(pixels) for i, pixels in enumerate(others)}
    folder = write(
        tmp_path / "shop",
        {**pictures, "a/one.jpg": decoding.jpeg(one), "b/one.jpg": altered("mirrored", one)},
    )
    (pair,) = copy_detection.scan_folder("shop", folder).duplicates
    assert pair.disagree and {pair.kept.path, pair.other.path} == {"a/one.jpg", "b/one.jpg"}


def test_all_copies_but_the_largest_are_left_out_on_request(tmp_path):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(8)))
    found = copy_detection.scan_folder("shop", folder, near_duplicates="left out")
    assert len({image.path[2:5] for image in found.images}) == 8 and len(found.images) <= 9  # of 24
    assert not any(pair <= {image.path for image in found.images} for pair in named(found))
    assert {image.excluded.split("of")[0] for image in found.excluded} == {"near-duplicate "}


def test_ignored_copies_are_not_looked_for(tmp_path, monkeypatch):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(2)))
    monkeypatch.delattr(copy_detection, "altered_copies")
    found = copy_detection.scan_folder("shop", folder, near_duplicates="ignored")
    assert len(found.images) == 6 and found.duplicates == ()


def test_a_second_scan_compares_only_what_is_new(tmp_path, monkeypatch):
    pictures = each_beside_its_copies(garments(6))
    folder = write(tmp_path / "shop", pictures)
    first = copy_detection.scan_folder("shop", folder)
    compared, decide = [], alignment.may_align
    monkeypatch.setattr(
        alignment, "may_align", lambda one, others: compared.extend(others) or decide(one, others)
    )
    with monkeypatch.context() as nothing_is_written:
        nothing_is_written.delattr(tempfile, "TemporaryFile")
        assert copy_detection.scan_folder("shop", folder) == first and not compared
    write(folder, {"a/new.jpg": altered("turned by 90 degrees", garment(3, backdrop=3))})
    found = copy_detection.scan_folder("shop", folder)
    assert named(found) - named(first) and 0 < len(compared) <= len(pictures), "the new one with each"


KILLED_SCAN = """
import os, signal, sys
from pathlib import Path
from imgclf.features import copy_detection
from imgclf.images import alignment
copy_detection.VERDICTS, decide, compared = 20, alignment.may_align, []
def until_killed(one, others):
    compared.extend(others)
    if len(compared) >= 250:
        os.kill(os.getpid(), signal.SIGKILL)
    return decide(one, others)
alignment.may_align = until_killed
copy_detection.scan_folder("shop", Path(sys.argv[1]))
"""


def test_a_killed_scan_goes_on_with_the_verdicts_it_has_kept(tmp_path, monkeypatch):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(12)))
    killed = subprocess.run([sys.executable, "-c", KILLED_SCAN, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    compared, decide = [], alignment.may_align
    monkeypatch.setattr(
        alignment, "may_align", lambda one, others: compared.extend(others) or decide(one, others)
    )
    resumed, number = copy_detection.scan_folder("shop", folder), len(compared)
    shutil.rmtree(files.proc_dir("shop"))
    compared.clear()
    assert copy_detection.scan_folder("shop", folder) == resumed
    assert number <= len(compared) - 100, "of 250 that were compared before the kill"


@pytest.mark.parametrize("damage", [b"", b"PK no archive"], ids=["empty", "no archive"])
def test_damaged_verdicts_are_decided_again(damage, tmp_path, data_dir):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(3)))
    first = copy_detection.scan_folder("shop", folder)
    verdicts = data_dir / "proc" / "shop" / "copies" / "compared.npz"
    verdicts.write_bytes(damage)
    assert copy_detection.scan_folder("shop", folder) == first
    assert verdicts.stat().st_size > len(damage)


def test_an_image_that_cannot_be_read_for_a_moment_is_compared_again(tmp_path, monkeypatch):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(3)))

    def gone(pixels):
        raise ImgclfError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(alignment, "grey", gone)
        assert not named(copy_detection.scan_folder("shop", folder))
    assert named(copy_detection.scan_folder("shop", folder))


def test_pictures_are_decoded_again_only_of_pairs_that_align(tmp_path, monkeypatch):
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(4)))
    read, decoded = decoding.read, []
    monkeypatch.setattr(decoding, "read", lambda path, **how: (decoded.append(path), read(path, **how))[1])
    monkeypatch.setattr(alignment, "alignment", lambda one, other: None)
    copy_detection.scan_folder("shop", folder)
    assert sorted(decoded) == sorted(folder.rglob("*.jpg"))


def test_a_disk_that_fills_up_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):  # what is buffered is written
            self.write(b"")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(4)))
    with pytest.raises(ImgclfError, match=r"cannot write .*proc/shop: the disk is full; free some space"):
        copy_detection.scan_folder("shop", folder)


def test_an_installation_without_the_network_says_so(tmp_path, network, monkeypatch):
    network.unlink()
    folder = write(tmp_path / "shop", each_beside_its_copies(garments(2)))
    backbone = replace(copy_detection.BACKBONE, package="no_such_package")
    monkeypatch.setattr(copy_detection, "BACKBONE", backbone)
    with pytest.raises(ImgclfError, match="no_such_package is missing; pip install"):
        copy_detection.scan_folder("shop", folder)


def test_fewer_than_two_images_are_not_compared(tmp_path, network):
    network.unlink()
    folder = write(tmp_path / "shop", {"a/0.jpg": decoding.jpeg(garment(0))})
    assert copy_detection.scan_folder("shop", folder).duplicates == ()
    assert not network.exists()


def accuracy_of_tossed_labels(scanned: Dataset, network: Path) -> tuple[int, int]:
    """How many originals in test sets an SVM labels right, and of how many, if the labels are tosses of a coin.

    Each original and its copies get one label; the labels are tossed `SEEDS` times.
    """
    cache = Cache.for_network(scanned.name, network)
    compute(scanned, network, cache)
    features = cache.features(scanned.images)
    near = {(pair.kept.sha256, pair.other.sha256) for pair in scanned.duplicates}
    right = total = 0
    for seed in range(SEEDS):
        coin = np.random.default_rng(seed).integers(0, 2, len(scanned.files))
        images = tuple(replace(i, label="ab"[coin[int(i.path[2:5])]]) for i in scanned.files)
        tossed = copies.exclude_duplicates(replace(scanned, files=images), near)
        parts = split.split(tossed, seed=seed)
        label = {image.path: image.label for image in images}
        train, test = (features.subset(part) for part in (parts.train, parts.test))
        test = test.subset(image for image in test.images if "original" in image.path)
        svm = make_pipeline(Normalizer(), LinearSVC(C=10, random_state=0))
        trained = svm.fit(train.matrix, [label[i.path] for i in train.images])
        right += int((trained.predict(test.matrix) == [label[i.path] for i in test.images]).sum())
        total += len(test.images)
    return right, total


def check_chance(folder: Path, network: Path) -> None:
    """Check that labels by the toss of a coin are predicted well by a hash's split, and not by this one."""
    by_hash = scan.scan_folder("coin", folder)
    interval = binomtest(*accuracy_of_tossed_labels(by_hash, network)).proportion_ci(method="wilson")
    assert interval.low > 0.5
    found = copy_detection.scan_folder("coin", folder)
    interval = binomtest(*accuracy_of_tossed_labels(found, network)).proportion_ci(method="wilson")
    assert interval.low < 0.5 < interval.high


def test_labels_by_the_toss_of_a_coin_are_predicted_at_chance(tmp_path, network):
    check_chance(write(tmp_path / "coin", each_beside_its_copies(garments(50))), network)


def test_photographs_labelled_by_the_toss_of_a_coin_are_predicted_at_chance(tmp_path, network, shared_data):
    paths = sorted((shared_data / "clothing").rglob("*.jpg"))
    photographs = [decoding.read(path) for path in paths[:: len(paths) // 100][:100]]
    check_chance(write(tmp_path / "coin", each_beside_its_copies(photographs)), network)


def test_every_scan_of_the_package_and_the_notebooks_finds_altered_copies():
    root = Path(copy_detection.__file__).parents[2]
    sources = [*(root / "imgclf").rglob("*.py"), *(root / "notebooks").glob("*.ipynb")]
    without = re.compile(r"(?<!copy_detection)\bscan\.scan_folder\(")
    assert {p.name for p in sources if without.search(p.read_text(encoding="utf-8"))} == {"copy_detection.py"}

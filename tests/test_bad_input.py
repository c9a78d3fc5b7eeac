"""Bad input and bad environments are handled, or raise one sentence with the remedy."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from imgclf import ImgclfError, features, files
from imgclf.data import dataset, scan, split
from imgclf.images import decoding
from imgclf.images.loading import Skipped, Source, load
from imgclf.images.preprocessing import Preprocessing
from support import small_disks
from support.pictures import corners, encoded, picture, png, rotated


def scan_colours(folder):
    return scan.scan_folder("colours", folder)


def excluded(scanned):
    return {image.path: image.excluded for image in scanned.excluded}


def vectors(folder, network):
    """All features of a folder, computed or from the cache, and the images that were skipped."""
    found = scan_colours(folder)
    cache = features.Cache.for_network("colours", network)
    skipped = features.compute(found, network, cache)
    return cache.features(found.images), skipped


def half(content):
    return content[: len(content) // 2]


def test_missing_folder_names_the_notebook(tmp_path):
    with pytest.raises(
        ImgclfError, match=r"gone: no such folder; correct images_dir or dataset_name, or run 00"
    ):
        scan_colours(tmp_path / "gone")


def test_empty_folder_says_where_images_go(tmp_path):
    with pytest.raises(
        ImgclfError, match="no label folders in it; put the images of each label into a folder of that name"
    ):
        scan_colours(tmp_path)


def test_images_without_label_folders_say_where_they_go(tmp_path):
    (tmp_path / "0.jpg").write_bytes(decoding.jpeg(corners()))
    with pytest.raises(
        ImgclfError, match="no label folders in it; put the images of each label into a folder of that name"
    ):
        scan_colours(tmp_path)


def test_label_folders_without_images_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(
        ImgclfError,
        match=r"no usable images \(a \(empty\)\); put the images of each label into a folder of that name",
    ):
        dataset.check(scan_colours(tmp_path))


def test_folder_of_nothing_but_damaged_images_says_why(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(3):
        (tmp_path / "a" / f"{i}.jpg").write_bytes(b"text" * (i > 0))
    with pytest.raises(
        ImgclfError,
        match=r"no usable images \(2 x not an image that can be read; .*; 1 x the file is empty; ",
    ):
        dataset.check(scan_colours(tmp_path))


def test_one_class_alone_is_refused(colour_folder):
    for label in ("red", "green"):
        shutil.rmtree(colour_folder / label)
    with pytest.raises(
        ImgclfError, match="only the label 'blue' has images; add a folder for at least one more label"
    ):
        dataset.check(scan_colours(colour_folder))


@pytest.mark.parametrize(("count", "train", "test"), [(1, 1, 0), (2, 1, 1)])
def test_class_with_one_or_two_images_is_split(colour_folder, count, train, test):
    for path in sorted((colour_folder / "red").iterdir())[count:]:
        path.unlink()
    found = scan_colours(colour_folder)
    dataset.check(found)
    assert split.split(found).counts().loc["red"].to_dict() == {"train": train, "test": test}


BROKEN = {
    "a text file named .jpg": (
        "x.jpg",
        lambda: b"hello",
        "not an image that can be read; replace or delete it",
    ),
    "a truncated JPEG": (
        "x.jpg",
        lambda: half(decoding.jpeg(picture((90, 90, 90), 1, width=300))),
        "the JPEG is truncated; fetch or copy it again",
    ),
    "a zero-byte file": ("x.png", bytes, "the file is empty; replace or delete it"),
    "a PNG of 30,000 x 30,000": (
        "x.png",
        lambda: png(30_000, 30_000),
        "30000 x 30000 pixels, more than 200,000,000; shrink it",
    ),
    "a truncated PNG": (
        "x.png",
        lambda: half(encoded(picture((90, 90, 90), 1), "PNG")),
        "the PNG is damaged; replace or delete it",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_image_is_excluded_and_the_others_are_processed(colour_folder, tiny_network, kind):
    name, content, reason = BROKEN[kind]
    (colour_folder / "red" / name).write_bytes(content())
    assert excluded(scan_colours(colour_folder)) == {f"red/{name}": reason}
    found, skipped = vectors(colour_folder, tiny_network)
    assert (found.matrix.shape, skipped) == ((36, 8), [])


@pytest.mark.parametrize("kind", BROKEN)
def test_image_that_breaks_after_the_scan_is_skipped_as_changed(colour_folder, tiny_network, kind):
    found, cache = scan_colours(colour_folder), features.Cache.for_network("colours", tiny_network)
    (colour_folder / "red" / "03.jpg").write_bytes(BROKEN[kind][1]())
    (skipped,) = features.compute(found, tiny_network, cache)
    assert skipped.path == str(colour_folder / "red" / "03.jpg")
    assert skipped.reason == "03.jpg: has changed since 01_prepare_data; run 01_prepare_data again"
    assert cache.features(found.images).matrix.shape == (35, 8)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_image_that_was_not_scanned_is_skipped_with_the_reason(tmp_path, kind):
    name, content, reason = BROKEN[kind]
    (tmp_path / name).write_bytes(content())
    assert list(load([Source(tmp_path / name)], Preprocessing(32))) == [
        Skipped(str(tmp_path / name), f"{name}: {reason}")
    ]


UNUSUAL = {
    "CMYK": ("x.jpg", lambda: encoded(PillowImage.fromarray(corners()).convert("CMYK"), "JPEG")),
    "grey": ("x.jpg", lambda: encoded(PillowImage.fromarray(corners()).convert("L"), "JPEG")),
    "16 bits": ("x.png", lambda: encoded(corners()[:, :, 0].astype(np.uint16) * 257, "PNG")),
    "alpha": ("x.png", lambda: encoded(PillowImage.fromarray(corners()).convert("RGBA"), "PNG")),
    "animated GIF": (
        "x.gif",
        lambda: encoded(
            corners(), "GIF", save_all=True, append_images=[PillowImage.fromarray(corners()[::-1].copy())]
        ),
    ),
    "WebP": ("x.webp", lambda: encoded(corners(), "WEBP")),
    "upper-case suffix": ("X.JPG", lambda: encoded(corners(), "JPEG")),
    "PNG named .jpg": ("x.jpg", lambda: encoded(corners(), "PNG")),
    "spaces and non-ASCII letters": (
        "größte Hüte/ein Bild \u2013 图片.jpg",
        lambda: encoded(corners(), "JPEG"),
    ),
    **{f"EXIF orientation {k}": ("x.jpg", lambda k=k: rotated(k, "JPEG", corners())) for k in range(1, 9)},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_image_is_processed_like_the_others(colour_folder, tiny_network, kind):
    name, content = UNUSUAL[kind]
    (colour_folder / "red" / name).parent.mkdir(exist_ok=True)
    (colour_folder / "red" / name).write_bytes(content())
    found, skipped = vectors(colour_folder, tiny_network)
    (image,) = (image for image in found.images if image.path == f"red/{name}")
    assert (image.width, image.height) == (96, 64)
    assert (found.matrix.shape, skipped) == ((37, 8), [])


def test_name_that_is_not_utf8_is_excluded_and_the_others_are_processed(colour_folder):
    try:
        (colour_folder / "red" / os.fsdecode(b"gr\xfcn.jpg")).write_bytes(decoding.jpeg(corners()))
    except OSError:
        pytest.skip("this file system takes no names that are not UTF-8")
    found = scan_colours(colour_folder)
    dataset.write(found)
    assert excluded(found) == {"red/gr?n.jpg": "the name is not UTF-8; rename it"} and len(found.images) == 36


def test_links_in_a_loop_end_and_list_no_image_twice(colour_folder):
    (colour_folder / "red" / "loop").symlink_to(colour_folder / "red")
    (colour_folder / "red" / "above").symlink_to("../..")
    (colour_folder / "red" / "itself.jpg").symlink_to("itself.jpg")
    (colour_folder / "circle").symlink_to("circle")
    found = scan_colours(colour_folder)
    assert len(found.images) == 36 and found.duplicates == ()
    assert excluded(found) == {
        "red/itself.jpg": "Too many levels of symbolic links; check that it exists and that you may read it"
    }


def test_link_to_a_folder_elsewhere_is_followed(colour_folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").write_bytes(decoding.jpeg(corners()))
    (colour_folder / "red" / "more").symlink_to(tmp_path / "elsewhere")
    assert [image.path for image in scan_colours(colour_folder).images if image.group] == ["red/more/x.jpg"]


def test_broken_link_is_excluded(colour_folder):
    (colour_folder / "red" / "gone.jpg").symlink_to("nowhere.jpg")
    assert excluded(scan_colours(colour_folder)) == {
        "red/gone.jpg": "No such file or directory; check that it exists and that you may read it"
    }


@pytest.mark.slow
def test_photographs_of_108_megapixels_are_used_within_bounded_memory(tmp_path, data_dir):
    """Decoded whole each has 324 MB: one is decoded at a time, and at reduced scale wherever that does."""
    pixels = np.kron(corners(90, 120), np.ones((100, 100, 1), np.uint8))
    for label, photograph in (("a", pixels), ("b", 255 - pixels)):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.jpg").write_bytes(decoding.jpeg(photograph))
    program = (
        "import pathlib, re, resource, sys\nfrom imgclf.data import scan\n"
        "from imgclf.images.loading import Source, load\nfrom imgclf.images.preprocessing import Preprocessing\n"
        "def limit(more):\n"
        "    used = re.search(r'VmData:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())\n"
        "    resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(used[1]) + more, -1))\n"
        "limit(1_600_000_000)\nfound = scan.scan_folder('large', pathlib.Path(sys.argv[1]))\nprint(found)\n"
        "limit(400_000_000)\nsources = [Source(found.file(image)) for image in found.images]\n"
        "print([pixels.shape for pixels in load(sources, Preprocessing(240))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "large: 2 images in 2 labels, 0 excluded",
        "[(240, 240, 3), (240, 240, 3)]",
    ], done.stderr


def test_what_is_no_regular_file_is_excluded_and_the_others_are_processed(colour_folder, data_dir):
    """In a process with little memory and a time limit: a pipe would block it, a device would fill it."""
    os.mkfifo(colour_folder / "red" / "pipe.jpg")
    (colour_folder / "green" / "endless.png").symlink_to("/dev/zero")
    (colour_folder / "blue" / "random.JPEG").symlink_to("/dev/urandom")
    with (colour_folder / "blue" / "sparse.jpg").open("wb") as file:
        file.truncate(2**40)
    program = (
        "import pathlib, resource, sys\nfrom imgclf.data import scan\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))\n"
        "for image in scan.scan_folder('colours', pathlib.Path(sys.argv[1])).excluded:\n"
        "    print(image.path, image.excluded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, colour_folder], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "blue/random.JPEG a device instead of a regular file; move it away",
        "blue/sparse.jpg more than 1,073,741,824 bytes; move it away, or make it smaller",
        "green/endless.png a device instead of a regular file; move it away",
        "red/pipe.jpg a named pipe instead of a regular file; move it away",
    ], done.stderr


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 1 MB that holds $IMGCLF_DATA."""
    with small_disks.mounted(tmp_path / "disk", megabytes=1) as disk:
        monkeypatch.setenv("IMGCLF_DATA", str(disk))
        yield disk


@pytest.fixture
def foreign_folder():
    """A folder of another user than the one that the test runs as."""
    folder = Path(tempfile.mkdtemp())
    (folder / "red").mkdir()
    (folder / "red").chmod(0)
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(os.getuid())
    folder.chmod(0o755)
    (folder / "red").chmod(0o755)
    shutil.rmtree(folder)


def fill(disk):
    with pytest.raises(OSError, match="No space left"), (disk / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))


def test_full_disk_stops_features_with_a_message_and_keeps_what_was_computed(
    colour_folder, tiny_network, small_disk
):
    found, cache = scan_colours(colour_folder), features.Cache.for_network("colours", tiny_network)
    with pytest.raises(
        ImgclfError, match=r"cannot write .*\.npz: the disk is full; free some space and run again"
    ):
        features.compute(
            found, tiny_network, cache, shard_images=12, progress=lambda done: done == 12 and fill(small_disk)
        )
    assert len(cache.known()) == 12 and [path.suffix for path in cache.folder.iterdir()] == [".npz"]
    (small_disk / "filler").unlink()
    assert features.compute(found, tiny_network, cache) == [] and len(cache.known()) == 36


def test_full_disk_keeps_the_old_table(colour_folder, small_disk):
    table = dataset.write(scan_colours(colour_folder))
    before = table.read_bytes()
    fill(small_disk)
    with pytest.raises(
        ImgclfError, match=r"cannot write .*images.tsv: the disk is full; free some space and run again"
    ):
        dataset.write(scan_colours(colour_folder))
    assert table.read_bytes() == before and [path.name for path in table.parent.iterdir()] == [
        "images.json",
        "images.tsv",
    ]


def test_read_only_data_directory_raises_a_message(colour_folder, tiny_network, small_disk):
    found, cache = scan_colours(colour_folder), features.Cache.for_network("colours", tiny_network)
    small_disks.remount(small_disk, "ro")
    remedy = "the file system is read-only; set IMGCLF_DATA to a folder that you may write to"
    for write in (
        lambda: dataset.write(found),
        lambda: split.write(found, split.split(found)),
        lambda: features.compute(found, tiny_network, cache),
        lambda: files.lock(files.proc_dir("colours")).__enter__(),
    ):
        with pytest.raises(ImgclfError, match=f"^cannot write .*: {remedy}$"):
            write()


def test_folder_of_another_user_raises_a_message(foreign_folder):
    with pytest.raises(
        ImgclfError,
        match="^cannot write .*a.txt: no permission to write there; set IMGCLF_DATA to a folder that you may write to$",
    ):
        files.write_text(foreign_folder / "a.txt", "")


def test_label_folder_that_may_not_be_read_is_named(foreign_folder):
    with pytest.raises(
        ImgclfError, match="red: Permission denied; make it readable, or move it out of the label folders"
    ):
        scan_colours(foreign_folder)


def test_second_run_on_a_data_directory_waits_for_the_first(data_dir):
    program = "from imgclf import files\nwith files.lock(files.proc_dir('colours')):\n    print('in', flush=True)\n    input()\n"
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    with first, second:
        ahead, behind = (first, second) if first.stdout.readline() == "in\n" else (second, first)
        if behind is second:
            assert behind.stdout.readline() == "another run works on colours; waiting for it\n"
        else:
            assert ahead.stdout.readline() == "in\n"
        ahead.communicate("\n")
        assert behind.stdout.readline() == "in\n"
        behind.communicate("\n")
    assert (first.returncode, second.returncode) == (0, 0)


def test_after_a_kill_only_unwritten_features_are_computed_again(colour_folder, tiny_network, data_dir):
    program = (
        "import sys, time, pathlib\nfrom imgclf import features\nfrom imgclf.data import scan\n"
        "folder, network = map(pathlib.Path, sys.argv[1:])\n"
        "features.compute(scan.scan_folder('colours', folder), network, features.Cache.for_network('colours', network),\n"
        "                 batch_size=2, shard_images=2, progress=lambda done: print(done, flush=True) or time.sleep(0.05))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, colour_folder, tiny_network], stdout=subprocess.PIPE, text=True
    ) as run:
        assert [run.stdout.readline() for _ in range(6)] == [f"{n}\n" for n in range(1, 7)]
        run.send_signal(signal.SIGKILL)
    cache = features.Cache.for_network("colours", tiny_network)
    (cache.folder / ".half.part").write_bytes(b"PK")  # what a kill within a write leaves
    assert 6 <= len(cache.known()) < 36
    assert cache.features(scan_colours(colour_folder).images).matrix.shape == (len(cache.known()), 8)
    resumed, _ = vectors(colour_folder, tiny_network)
    shutil.rmtree(data_dir)
    undisturbed, _ = vectors(colour_folder, tiny_network)
    assert resumed.images == undisturbed.images and np.allclose(resumed.matrix, undisturbed.matrix, rtol=1e-6)

import errno
import fcntl
import json
import math
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import Timeout

from imgclf import ImgclfError, files, parameters


def test_data_dir_is_taken_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IMGCLF_DATA", str(tmp_path / "here"))
    assert files.data_dir() == tmp_path / "here"
    assert files.proc_dir("fruit") == tmp_path / "here" / "proc" / "fruit"


def test_data_dir_is_in_the_home_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IMGCLF_DATA", "")
    assert files.data_dir() == tmp_path / "imgclf_data"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project."""
    folder = tmp_path / "a b"
    (folder / "images" / "fruit" / "red").mkdir(parents=True)
    (folder / files.PROJECT_FILE).touch()
    return folder


@pytest.mark.parametrize("below", ["", "images", "images/fruit/red"])
def test_a_project_is_found_in_and_far_below_its_folder_and_is_the_data_folder(project, below, monkeypatch):
    monkeypatch.chdir(project / below)
    assert files.project_dir() == files.data_dir() == project


def test_the_nearest_project_is_used(project, monkeypatch):
    (project / "images" / files.PROJECT_FILE).touch()
    monkeypatch.chdir(project / "images" / "fruit")
    assert files.project_dir() == project / "images"


def test_without_a_project_the_data_folder_is_that_of_the_environment(project, data_dir, monkeypatch):
    monkeypatch.chdir(project.parent)
    assert files.project_dir() is None
    assert files.data_dir() == data_dir


def test_a_data_folder_with_a_project_file_is_a_project(project, monkeypatch):
    monkeypatch.setenv("IMGCLF_DATA", str(project))
    assert files.project_dir() == files.data_dir() == project


def test_a_deleted_working_directory_is_in_no_project(project, data_dir, monkeypatch):
    (project / "gone").mkdir()
    monkeypatch.chdir(project / "gone")
    (project / "gone").rmdir()
    assert files.project_dir() is None
    assert files.data_dir() == data_dir
    monkeypatch.undo()  # back to a folder that exists


def test_a_project_is_found_through_a_link_and_by_the_links_of_the_shell(project, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(project)
    monkeypatch.chdir(tmp_path / "link")
    assert files.project_dir() == project
    (tmp_path / "pictures").mkdir()
    (project / "elsewhere").symlink_to(tmp_path / "pictures")
    monkeypatch.chdir(project / "elsewhere")  # of which the system says tmp_path / "pictures"
    assert files.project_dir() is None
    monkeypatch.setenv("PWD", str(project / "elsewhere"))
    assert files.project_dir() == project


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_a_project_file_that_somebody_else_put_into_an_open_folder_does_not_count(project, monkeypatch):
    project.chmod(0o1777)  # as /tmp
    monkeypatch.chdir(project / "images")
    assert files.project_dir() == project
    os.chown(project / files.PROJECT_FILE, 65534, 65534)
    assert files.project_dir() is None
    project.chmod(0o755)
    assert files.project_dir() == project


def test_a_parent_that_cannot_be_read_is_no_error(project, data_dir, monkeypatch):
    monkeypatch.chdir(project / "images" / "fruit")
    project.chmod(0)
    own = os.geteuid()
    try:
        if own == 0:
            os.seteuid(65534)  # root may read everything
        assert (files.project_dir(), files.data_dir()) == (None, data_dir)
    finally:
        os.seteuid(own)
        project.chmod(0o755)


def test_display_path_is_relative_to_the_data_folder(data_dir, tmp_path):
    assert files.display_path(data_dir / "proc" / "fruit" / "roc.png") == "proc/fruit/roc.png"
    assert files.display_path(tmp_path / "elsewhere" / "roc.png") == "roc.png"


def test_replaced_file_has_the_new_content_and_no_temporary_file_is_left(tmp_path):
    files.write_text(tmp_path / "new folder" / "a.txt", "first")
    files.write_text(tmp_path / "new folder" / "a.txt", "größer")
    assert (tmp_path / "new folder" / "a.txt").read_bytes() == "größer".encode()
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_interrupted_write_keeps_the_old_content_and_leaves_no_temporary_file(tmp_path, stop):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(stop), files.replace_file(tmp_path / "a.txt") as file:
        file.write(b"half of the new")
        raise stop
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_write_is_atomic_for_readers(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with files.replace_file(tmp_path / "a.txt") as file:
        file.write(b"new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_json_is_indented_and_not_escaped(tmp_path):
    files.write_json(tmp_path / "a.json", {"label": "Rüsche"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "label": "Rüsche"\n}\n'
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"label": "Rüsche"}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run again"),
        (errno.EDQUOT, "the disk quota is used up; free some space and run again"),
        (
            errno.EFBIG,
            "no file of this size is allowed, by the file system or by ulimit -f; set IMGCLF_DATA to a folder that you may write to",
        ),
        (errno.EROFS, "the file system is read-only; set IMGCLF_DATA to a folder that you may write to"),
        (errno.EACCES, "no permission to write there; set IMGCLF_DATA to a folder that you may write to"),
        (errno.EPERM, "no permission to write there; set IMGCLF_DATA to a folder that you may write to"),
    ],
)
def test_unwritable_file_is_named_with_the_remedy(tmp_path, number, remedy):
    with pytest.raises(ImgclfError) as caught, files.writable(tmp_path / "a.txt"):
        raise OSError(number, "as the system says it")
    assert str(caught.value) == f"cannot write {tmp_path / 'a.txt'}: {remedy}"


def test_in_a_project_the_remedy_is_about_its_folder(tmp_path, monkeypatch):
    (tmp_path / files.PROJECT_FILE).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImgclfError) as caught, files.writable(tmp_path / "a.txt"):
        raise OSError(errno.EACCES, "as the system says it")
    assert str(caught.value).endswith(
        f"no permission to write there; allow writing to the project folder, {tmp_path}, or copy it to where "
        "you may write"
    )


def test_other_system_errors_keep_their_traceback(tmp_path):
    with pytest.raises(IsADirectoryError, match="as the system says it"), files.writable(tmp_path):
        raise OSError(errno.EISDIR, "as the system says it")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (str, ["", "a"], [None, 1, ["a"]]),
        (int, [0, -1, 2**70], [True, 1.0, "1"]),
        (float, [1, 1.5, -(2**60)], [math.nan, math.inf, 2**70, True, "1"]),
        (float | None, [None, 0.5], ["", []]),
        (list[str], [[], ["a"]], ["a", [1], {"a": "b"}]),
        (dict[str, float], [{}, {"a": 1}], [[], {"a": "b"}]),
        (list[dict[str, Any]], [[{"a": []}]], [[[]]]),
    ],
)
def test_values_from_json_are_of_a_type_or_not(kind, right, wrong):
    assert all(files.is_of(value, kind) for value in right)
    assert not any(files.is_of(value, kind) for value in wrong)


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 10_000, '{"a": "x"}', "{}", '{"a": NaN}'])
def test_json_that_is_damaged_or_of_other_types_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json"):
        files.read_json(tmp_path / "a.json", {"a": float})


@pytest.mark.parametrize(
    ("before", "after"), [(b"(3, 2)", b"(3, 0)"), (b"(3, 2)", b"(2, 2)"), (b"<f8", b">f8")]
)
def test_array_whose_header_is_damaged_is_refused(tmp_path, before, after):
    np.savez(tmp_path / "a.npz", a=np.ones((3, 2)))
    content = (tmp_path / "a.npz").read_bytes()
    assert files.read_npz(tmp_path / "a.npz")["a"].shape == (3, 2)
    (tmp_path / "a.npz").write_bytes(content.replace(before, after))
    with pytest.raises(ValueError, match=r"a\.npz: damaged"):
        files.read_npz(tmp_path / "a.npz", "a")


def test_an_archive_with_a_member_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("b.npy", "no array")
    with pytest.raises(ValueError, match=r"a\.npz: damaged"):
        files.read_npz(tmp_path / "a.npz")


def test_temporary_files_of_killed_processes_are_removed_a_day_later(tmp_path):
    for name in (".old.part", ".new.part", "own.part"):
        (tmp_path / name).write_bytes(b"half")
    for name in (".old.part", "own.part"):
        os.utime(tmp_path / name, (0, 0))
    files.write_text(tmp_path / "a.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.part", "a.txt", "own.part"]


def test_lock_is_released_after_an_error(tmp_path, capsys):
    with pytest.raises(ValueError, match="stopped"), files.lock(tmp_path / "fruit"):
        raise ValueError("stopped")
    with files.lock(tmp_path / "fruit"):
        assert capsys.readouterr().out == ""


def in_time(work, *, seconds=30):
    """The ImgclfError that `work` raises, in a thread: a read that blocks fails the test and does not stop it."""
    raised = []

    def run():
        try:
            work()
        except ImgclfError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "reading blocks"
    return raised[0]


def test_named_pipe_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert in_time(lambda: files.read_bytes(tmp_path / "a.jpg")) == (
        f"{tmp_path / 'a.jpg'}: a named pipe instead of a regular file; move it away"
    )


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/urandom", "/dev/tty", "/dev/stdin"])
def test_link_to_a_device_is_refused(tmp_path, device):
    if device == "/dev/stdin":
        pipe, _ = os.pipe()
        device = f"/dev/fd/{pipe}"
    (tmp_path / "a.jpg").symlink_to(device)
    assert re.search(
        "a.jpg: a (device|named pipe) instead of a regular file; move it away$",
        in_time(lambda: files.read_bytes(tmp_path / "a.jpg")),
    )


def test_socket_and_folder_are_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a.jpg"))
        with pytest.raises(ImgclfError, match="a.jpg: a socket instead of a regular file; move it away$"):
            files.read_bytes(tmp_path / "a.jpg")
    with pytest.raises(ImgclfError, match=": a folder instead of a regular file; move it away$"):
        files.read_bytes(tmp_path)


def test_sparse_file_of_a_terabyte_is_refused_unread(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImgclfError, match="a.jpg: more than 1,073,741,824 bytes; move it away, or make"):
        files.read_bytes(tmp_path / "a.jpg")


def test_regular_file_without_end_is_refused():
    with pytest.raises(ImgclfError, match="pagemap: more than 5,000,000 bytes"):
        files.read_bytes(Path("/proc/self/pagemap"), max_bytes=5_000_000)  # its size is said to be 0


def test_file_of_unknown_size_is_read_whole():
    assert files.read_bytes(Path("/proc/self/status")).startswith(b"Name:")


def test_name_with_a_nul_is_refused(tmp_path):
    with pytest.raises(ImgclfError, match="null byte; check that it exists"):
        files.read_bytes(tmp_path / "a\0.jpg")


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EIO], ids=errno.errorcode.get)
def without_flock(request, monkeypatch):
    """A file system on which flock fails, as on many mounts of NFS and SMB."""

    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_flock_a_folder_is_locked_and_released_too(tmp_path, without_flock):
    for _ in range(2):
        with files.lock(tmp_path), pytest.raises(Timeout):
            files.acquire(tmp_path / ".lock", seconds=0)


def test_without_flock_the_lock_of_a_killed_process_does_not_count(tmp_path):
    program = (
        "import errno, fcntl, os, signal, sys\n"
        "from pathlib import Path\n"
        "from imgclf import files\n"
        "def refuse(*_): raise OSError(errno.ENOLCK, 'no locks')\n"
        "fcntl.flock = refuse\n"
        "held = files.acquire(Path(sys.argv[1]), seconds=0)\n"
        "if sys.argv[2:]: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path / ".lock", "kill"], check=False)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / ".lock.held").exists()
    subprocess.run([sys.executable, "-c", program, tmp_path / ".lock"], check=True, timeout=60)


def test_a_data_folder_that_is_not_utf8_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("IMGCLF_DATA", os.fsdecode(os.fsencode(tmp_path) + b"/gr\xfcn"))
    with pytest.raises(ImgclfError, match=r"^IMGCLF_DATA=.*: the path is not UTF-8; rename the folder"):
        files.data_dir()


def test_without_a_home_folder_the_remedy_is_named(monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "IMGCLF_DATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ImgclfError, match="^IMGCLF_DATA=~/imgclf_data: there is no such home folder; give a whole path"
    ):
        files.data_dir()


def test_an_unknown_user_in_a_path_is_named():
    with pytest.raises(
        ImgclfError, match=r"^images_dir=~nobody-has-this-name/x: there is no such home folder"
    ):
        parameters.parse(["images_dir=~nobody-has-this-name/x"])

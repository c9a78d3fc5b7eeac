"""The worker and its failures, all with the real CNTK."""

import os
import signal
import subprocess
import sys
import time
from threading import Timer

import numpy as np
import pytest

from imgclf import ImgclfError
from imgclf.cntk import WorkerProcess, install, process
from imgclf.cntk.worker import messages
from support.cntk import convolution, is_running, noise

LARGE = 512  # pixels; so large that a batch of 64 takes seconds


def start_large(cntk: WorkerProcess) -> None:
    convolution(cntk, LARGE, 64)


def wait_until_gone(pid: int, seconds: float = 10) -> None:
    """Fail if a process still runs after so many seconds."""
    end = time.monotonic() + seconds
    while is_running(pid):
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.05)


def test_make_cntk_verifies_the_environment_with_a_network(installed):
    assert install.verify(installed)["cntk"] == "2.7"


def test_prints_of_cntk_go_to_the_log_and_not_into_a_reply(cntk):
    convolution(cntk)
    assert "parameter" in cntk.log()
    assert cntk.request("run", {"images": noise(2, 8)})[1]["0"].shape == (2, 4)


def test_worker_killed_during_a_batch_is_reported_and_not_used_again(cntk):
    start_large(cntk)
    Timer(0.5, os.kill, (cntk.pid, signal.SIGKILL)).start()
    with pytest.raises(
        ImgclfError,
        match=r"(?s)CNTK worker, run: the process was killed by signal 9 during the request; .*The end of its log: .*parameter",
    ):
        cntk.request("run", {"images": noise(64, LARGE)})
    with pytest.raises(ImgclfError, match="the process has ended before"):
        cntk.request("run", {"images": noise(1, LARGE)})


def test_worker_that_hangs_is_killed_after_the_timeout(cntk):
    convolution(cntk)
    os.kill(cntk.pid, signal.SIGSTOP)
    with pytest.raises(
        ImgclfError, match="CNTK worker, run: timed out after 1 seconds, and was killed; .*`make cntk` again"
    ):
        cntk.request(
            "run", {"images": noise(64, 8).repeat(2000, axis=0)}, timeout_seconds=1
        )  # more than the pipe buffers: writing blocks too
    wait_until_gone(cntk.pid)


def test_interrupt_kills_the_worker_and_is_raised(cntk):
    start_large(cntk)

    def stop_and_interrupt() -> None:
        os.kill(cntk.pid, signal.SIGSTOP)  # no answer would ever come, so nobody can have waited for it
        os.kill(os.getpid(), signal.SIGINT)

    Timer(0.5, stop_and_interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        cntk.request("run", {"images": noise(64, LARGE)}, timeout_seconds=60)
    wait_until_gone(cntk.pid)


def test_interrupt_of_the_terminal_does_not_reach_the_worker(cntk):
    assert os.getpgid(cntk.pid) != os.getpgid(os.getpid())


CHILD = """
import sys
from imgclf.cntk import WorkerProcess
running = WorkerProcess()
print(running.pid, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_is_left_when_its_parent_is_killed(by):
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(by)
    wait_until_gone(pid)


def test_no_worker_is_left_when_its_parent_ends_or_deletes_it():
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD], input="\n", capture_output=True, text=True, check=True
    )
    wait_until_gone(int(ended.stdout))
    assert ended.stderr == ""
    deleted = WorkerProcess()
    pid = deleted.pid
    del deleted
    wait_until_gone(pid)


def test_another_python_is_reported(wrapped):
    home = wrapped(f'exec {sys.executable} "$@"')
    with pytest.raises(
        ImgclfError,
        match=r"CNTK worker, start: the process ended at once, as it is not Python 3\.6, .*The end of its log: this is Python 3\.1",
    ):
        WorkerProcess(home=home)


def test_a_python_without_cntk_is_reported(wrapped, tmp_path):
    bare = tmp_path / "bare"
    home = wrapped(
        f'test -e {bare} || "$(dirname "$(readlink -f "$PYTHON")")/python3.6" -m venv --without-pip {bare} 2>/dev/null; exec {bare}/bin/python "$@"'
    )
    with pytest.raises(
        ImgclfError,
        match="(?s)CNTK worker, start: the process ended with status 1 .*No module named '(cntk|numpy)'",
    ):
        WorkerProcess(home=home)


def test_an_environment_without_python_is_reported(tmp_path):
    with pytest.raises(ImgclfError, match="bin/python: No such file or directory; run `make cntk` again"):
        WorkerProcess(home=tmp_path)


def test_output_before_the_first_reply_is_reported(wrapped):
    with pytest.raises(ImgclfError, match="CNTK worker, start: wrote something that is no reply .*Welcome"):
        WorkerProcess(home=wrapped('echo "Welcome to this machine"; exec "$PYTHON" "$@"'))


@pytest.mark.parametrize("count", [5, 40])
def test_a_truncated_reply_is_reported(count, wrapped):
    with pytest.raises(
        ImgclfError, match="CNTK worker, start: the process ended with status .* during the request"
    ):
        WorkerProcess(home=wrapped(f'"$PYTHON" "$@" < /dev/null | head -c {count}'))


def test_an_error_is_reported_and_the_worker_lives_on(cntk):
    with pytest.raises(ImgclfError, match="CNTK worker, run: "):
        cntk.request("run", {"images": noise(1, 8)})  # there is no network yet
    with pytest.raises(ImgclfError, match="CNTK worker, dance: .*has no attribute 'dance'"):
        cntk.request("dance")
    convolution(cntk)
    assert len(cntk.request("run", {"images": noise(3, 8)})[1]["0"]) == 3


def test_two_workers_at_once_compute_the_same(cntk):
    with WorkerProcess() as other:
        for each in (cntk, other):
            convolution(each)
        images = noise(5, 8)
        first, second = (each.request("run", {"images": images})[1]["0"] for each in (cntk, other))
        np.testing.assert_array_equal(first, second)
        other.close()
        assert len(cntk.request("run", {"images": images})[1]["0"]) == 5


def test_messages_carry_arrays_of_any_shape(tmp_path):
    arrays = {"scalar": np.float32(3), "empty": np.zeros((0, 3)), "turned": np.arange(6).reshape(2, 3).T}
    with (tmp_path / "message").open("wb") as file:
        messages.write(file, {"command": "run"}, arrays)
    with (tmp_path / "message").open("rb") as file:
        values, arrays_read = messages.read(file)
    assert values == {"command": "run"}
    assert all(
        (arrays_read[name] == value).all() and arrays_read[name].shape == np.shape(value)
        for name, value in arrays.items()
    )


@pytest.mark.parametrize(
    "broken",
    [
        b"hello world, this is noise",
        messages.MAGIC + messages.SIZES.pack(2**31, 0),
        messages.MAGIC + messages.SIZES.pack(14, 4) + b'{"arrays": [] }'[:14] + b"1234",
        messages.MAGIC + messages.SIZES.pack(29, 2) + b'{"arrays": [["a", "<f4", [1]]]}'[:29],
    ],
)
def test_invalid_messages_are_rejected(broken, tmp_path):
    (tmp_path / "message").write_bytes(broken)
    with (tmp_path / "message").open("rb") as file, pytest.raises(ValueError):
        messages.read(file)


def test_without_python_3_6_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    for name in ("PATH", "PYENV_ROOT"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("CNTK_PYTHON", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ImgclfError,
        match=r"CNTK 2\.7 needs Python 3\.6, and there is none here; .*Debian.*Fedora.*conda env create.*CNTK_PYTHON=",
    ):
        install.install(tmp_path / ".cntk")
    assert not (tmp_path / ".cntk").exists()


def test_cntk_python_of_another_version_is_rejected(monkeypatch, tmp_path):
    monkeypatch.setenv("CNTK_PYTHON", sys.executable)
    with pytest.raises(ImgclfError, match=r"CNTK_PYTHON=.*: is 3\.1\d, and CNTK 2\.7 needs Python 3\.6"):
        install.install(tmp_path / ".cntk")


def test_the_conda_environment_installs_what_make_cntk_installs():
    described = process.WORKER.with_name("environment.yml").read_text()
    assert "- python=3.6" in described and "-r requirements.txt" in described

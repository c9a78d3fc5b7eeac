"""Kernels of this interpreter; on Linux they are forked from a process that has loaded their libraries."""

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, cast

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from imgclf import files

NAME = "python3"
# The kernel logs its sockets and its shutdown, and keeps no history of what it executes.
ARGUMENTS = ["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:"]
START_SECONDS = 60
SERVER = [sys.executable, "-P", "-m", "imgclf.experiments.kernel_server"]


class Kernels:
    """The kernels of notebooks that are executed one after the other.

    As a context manager it starts a process that forks them, and ends it and them. Without, or where a fork
    is not safe or that process has ended, each kernel is started by itself, which takes seconds.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        ensure_home()
        if hasattr(os, "pidfd_open"):  # Linux; on macOS, libraries do not survive a fork
            with suppress(OSError):
                os.close(os.pidfd_open(os.getpid()))  # some containers refuse it
                self._server = subprocess.Popen(
                    SERVER,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                    start_new_session=True,  # Ctrl-C reaches this process alone, which then ends them
                )
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def _stop(self) -> None:
        """End the server, and with it the kernels that it forked."""
        server, self._server = self._server, None
        if not server:
            return
        with suppress(OSError, subprocess.TimeoutExpired):  # it does not read while it loads
            server.communicate(timeout=1)  # closes its stdin
        server.kill()
        with suppress(OSError):
            server.communicate()

    def fork(self, arguments: Sequence[str], environment: dict[str, str]) -> "ForkedProcess | None":
        """Return the process of a new kernel; None if there is no process to fork it from."""
        if not (self._server and self._server.stdin and self._server.stdout):
            return None
        try:
            print(json.dumps([arguments, environment]), file=self._server.stdin, flush=True)
            if not _is_readable(self._server.stdout.fileno(), START_SECONDS):
                raise TimeoutError
            return ForkedProcess(int(self._server.stdout.readline()))
        except (OSError, ValueError):  # it was killed, or stalls
            self._stop()  # or its kernel would take the ports of another
            return None


class ForkedProcess:
    """A process that this one did not start, with the methods of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        """Take the process id.

        Raises
        ------
        OSError : there is no such process.
        """
        self.pid, self._handle = pid, os.pidfd_open(pid)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def poll(self) -> int | None:
        """Return 0 if it ended, however it did."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises
        ------
        TimeoutExpired : it did not end.
        """
        if (ended := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(SERVER, timeout or 0)
        return ended

    def send_signal(self, number: int) -> None:
        """Send a signal; none if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        return 0 if _is_readable(self._handle, seconds) else None


def _is_readable(handle: int, seconds: float | None) -> bool:
    """Whether a file, or a process that ended, can be read within so many seconds; None: wait for ever."""
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(None if seconds is None else 1000 * seconds))


class _Provisioner(LocalProvisioner):
    """Forks a kernel if it can."""

    kernels: Kernels

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        options = cmd[cmd.index("ipykernel_launcher") + 1 :]
        if not (process := self.kernels.fork(options, kwargs["env"])):
            return await super().launch_kernel(cmd, **kwargs)
        self.process = cast("subprocess.Popen[bytes]", process)
        self.pid = self.pgid = process.pid
        return self.connection_info


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter; another one that Jupyter knows as python3 may lack imgclf."""

    def __init__(self, kernels: Kernels) -> None:
        super().__init__(kernel_name=NAME)
        self._kernels = kernels

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    async def _async_pre_start_kernel(self, **settings: Any) -> tuple[list[str], dict[str, Any]]:
        self.kernel_id = self.kernel_id or str(uuid.uuid4())
        self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        self.provisioner.kernels = self._kernels
        found: tuple[list[str], dict[str, Any]] = await super()._async_pre_start_kernel(**settings)
        return found

    pre_start_kernel = _async_pre_start_kernel


def ensure_home() -> None:
    """Set HOME for a user without a home folder, as in a container with any user id; a kernel needs it."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(files.data_dir())

"""Executing one notebook through papermill, in a kernel of the interpreter that runs this."""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import unescape
from pathlib import Path
from subprocess import Popen
from typing import Any, Self, TextIO

# Before papermill, which loads nbformat.
from imgclf.experiments import notebook_format  # noqa: F401

# isort: split
import papermill
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from imgclf import ImgclfError, files, parameters
from imgclf.experiments import preloading
from imgclf.parameters import Value

ENGINE = "imgclf"
KERNEL = "python3"
START_SECONDS = 60
# The kernel logs its sockets and its shutdown, and keeps no history of what it executes.
ARGUMENTS = ["--log-level=CRITICAL", "--HistoryManager.hist_file=:memory:"]


class _Kernel(AsyncKernelManager):
    """A kernel of this interpreter; another one that Jupyter knows as python3 may lack imgclf."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    @property
    def _process(self) -> "Popen[bytes] | None":
        return self.provisioner.process if isinstance(self.provisioner, LocalProvisioner) else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the process without the event loop, which after Ctrl-C still has a cell to execute."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self.cleanup_connection_file()
        self.context.destroy(linger=0)


class Kernels:
    """The kernels of one notebook after another: while one is executed, the next one's kernel starts.

    As a context manager it ends, in the end, the kernel that no notebook took.
    """

    def __init__(self) -> None:
        self._waiting: _Kernel | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._waiting:
            self._waiting.kill()

    def take(self) -> _Kernel:
        """Return the kernel that was started ahead; if none lives, one that is not started."""
        kernel, self._waiting = self._waiting, None
        if kernel and kernel.is_running:
            return kernel
        if kernel:
            kernel.kill()
        return _Kernel(kernel_name=KERNEL)

    def start_ahead(self) -> None:
        """Start a kernel, which loads what notebooks need. If that fails, the notebook starts its own."""
        self._waiting = kernel = _Kernel(kernel_name=KERNEL)
        with suppress(RuntimeError, OSError):
            run_sync(kernel.start_kernel)(
                extra_arguments=[*ARGUMENTS, f"--IPKernelApp.exec_lines={preloading.LINE}"]
            )


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Executes the cells of a notebook, and passes on what their progress bars show."""

    def __init__(
        self,
        *args: Any,
        progress: Callable[[str], None] | None,
        kernels: Kernels,
        is_last: bool,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self._progress, self._kernels, self._is_last = progress, kernels, is_last

    def create_kernel_manager(self) -> _Kernel:
        self.km = self._kernels.take()
        return self.km

    def papermill_execute_cells(self) -> None:
        if not self._is_last:
            self._kernels.start_ahead()
        try:
            super().papermill_execute_cells()
        except BaseException:
            self.shutdown_kernel = "immediate"  # a cell that computes would keep the kernel for seconds
            raise

    def process_message(self, message: dict[str, Any], *cell: Any) -> Any:
        if self._progress and (html := progress_bar(message)):
            self._progress(html)
        return super().process_message(message, *cell)


class _Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's own engine, with our kernel and client."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **settings: Any) -> None:
        taken = {name: settings[name] for name in ("stdout_file", "progress", "kernels", "is_last")}
        _Client(
            nb_man,
            kernel_name=kernel_name,
            extra_arguments=ARGUMENTS,
            startup_timeout=START_SECONDS,
            log=logging.getLogger("papermill"),
            **taken,
        ).execute()


def progress_bar(message: Mapping[str, Any]) -> str:
    """Return the text beside the progress bar that a message of a kernel shows; empty if it shows none."""
    data = message.get("content", {}).get("data", {})
    html = data.get("text/html", "") if isinstance(data, dict) else ""
    if "<progress" not in html:
        return ""
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def execute(
    path: Path,
    folder: Path,
    values: Mapping[str, Value],
    *,
    output: TextIO | None = None,
    progress: Callable[[str], None] | None = None,
    kernels: Kernels | None = None,
    is_last: bool = True,
) -> float:
    """Execute one notebook through papermill; return the seconds it took.

    Parameters
    ----------
    folder : for the executed copy.
    values : parameters; the notebook gets those that it takes.
    output : stream to which the output of the cells is copied as it is printed.
    progress : called with the text of the progress bars in the notebook, such as "3 of 10 images".
    kernels : of this notebook and later ones. is_last : whether none follows.

    Raises
    ------
    ImgclfError : a cell failed, or the kernel died or did not start; the message holds the error and the path
        of the executed copy.
    """
    executed = folder / path.name
    taken = {
        parameter.name: values[parameter.name]
        for parameter in parameters.for_notebook(path.name[:2])
        if parameter.name in values
    }
    start = time.perf_counter()
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    papermill_engines.register(ENGINE, _Engine)
    _ensure_home()
    try:
        papermill.execute_notebook(
            _literally(path),
            _literally(executed),
            parameters=taken,
            engine_name=ENGINE,
            kernel_name=KERNEL,
            language="python",  # a notebook without metadata does not say it
            progress_bar=False,
            progress=progress,
            stdout_file=output,
            kernels=kernels or Kernels(),
            is_last=is_last or kernels is None,
        )
    except PapermillExecutionError as error:
        name = "" if error.ename == ImgclfError.__name__ else f"{error.ename}: "
        raise ImgclfError(f"{name}{error.evalue} (cell [{error.exec_count}] of {executed})") from None
    except DeadKernelError:
        raise ImgclfError(
            f"{executed}: its kernel process was killed, most often for lack of memory; "
            "close other programs and run again"
        ) from None
    except RuntimeError as error:  # of jupyter_client
        raise ImgclfError(f"{path.name}: its kernel does not start ({error}); run again") from error
    except OSError as error:
        with files.writable(Path(error.filename or executed)):
            raise error
    return time.perf_counter() - start


def _ensure_home() -> None:
    """Set HOME for a user without a home folder, as in a container with any user id; a kernel needs it."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(files.data_dir())


def _literally(path: Path) -> str:
    """Return a path for papermill, which formats paths: braces are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")

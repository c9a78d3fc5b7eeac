"""Executing one notebook through papermill, in a kernel of the interpreter that runs this."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path
from typing import Any, TextIO

# Before papermill, which loads nbformat.
from imgclf.experiments import notebook_format  # noqa: F401

# isort: split
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from imgclf import ImgclfError, files, parameters
from imgclf.experiments.kernels import ARGUMENTS, NAME, START_SECONDS, Kernel, Kernels, ensure_home
from imgclf.parameters import Value

ENGINE = "imgclf"


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Executes the cells of a notebook, and passes on what their progress bars show."""

    def __init__(
        self,
        *args: Any,
        progress: Callable[[str], None] | None,
        kernels: Kernels,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self._progress, self._kernels = progress, kernels

    def create_kernel_manager(self) -> Kernel:
        self.km = Kernel(self._kernels)
        return self.km

    def papermill_execute_cells(self) -> None:
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
        taken = {name: settings[name] for name in ("stdout_file", "progress", "kernels")}
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
) -> float:
    """Execute one notebook through papermill; return the seconds it took.

    Parameters
    ----------
    folder : for the executed copy.
    values : parameters; the notebook gets those that it takes.
    output : stream to which the output of the cells is copied as it is printed.
    progress : called with the text of the progress bars in the notebook, such as "3 of 10 images".
    kernels : of this notebook and others.

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
    ensure_home()
    try:
        papermill.execute_notebook(
            _literally(path),
            _literally(executed),
            parameters=taken,
            engine_name=ENGINE,
            kernel_name=NAME,
            language="python",  # a notebook without metadata does not say it
            progress_bar=False,
            progress=progress,
            stdout_file=output,
            kernels=kernels or Kernels(),
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


def _literally(path: Path) -> str:
    """Return a path for papermill, which formats paths: braces are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")

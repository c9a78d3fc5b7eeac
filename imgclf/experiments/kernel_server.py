"""A process that forks kernels: what notebooks need is loaded once for all of them. `kernels` starts it."""

import atexit
import ctypes
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module

# What most notebooks load sooner or later. None of it asks for IPython's shell when it is loaded, as
# matplotlib.pyplot and widgets do; its threads (of OpenBLAS, of Arrow's memory) are prepared for a fork.
# Torch is not one of them: it takes as much memory as all.
LIBRARIES = (
    "imgclf.experiments.notebook_format",
    "imgclf.experiments.provenance",
    "imgclf.features.pretrained",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "matplotlib.axes",
    "matplotlib.backends.backend_agg",
    "openvino",
    "pandas",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.model_selection",
)
MOST_COLUMNS = 20  # of a table; pandas' default in a kernel
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends


def load() -> None:
    """Load the libraries; one that is missing or broken is left to the notebook that needs it."""
    for name in LIBRARIES:
        with suppress(Exception):
            import_module(name)
    with suppress(Exception):
        # pandas takes this process for a terminal, and would fit tables to its width.
        import_module("pandas").set_option("display.max_columns", MOST_COLUMNS)


def main() -> None:
    """Fork a kernel for each line of stdin, which has its arguments and environment as JSON; print its id.

    A kernel ends when this process does, and this one when its stdin is closed.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    # As ipykernel does; matplotlib reads it when it is loaded.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets kernels that ended
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        server = os.getpid()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            kernel = os.fork()  # from Python 3.12 on it warns of threads
        if not kernel:
            answers.close()
            _become_kernel(server, arguments, environment)
        with suppress(OSError):  # it did it itself, or ended
            os.setpgid(kernel, kernel)
        print(kernel, file=answers, flush=True)


def _become_kernel(server: int, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a kernel in this process until it is shut down, or until the server ends.

    Raises
    ------
    SystemExit : then.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it ended before that
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    atexit.unregister(shutil.rmtree)  # matplotlib's temporary folder is the server's
    with suppress(OSError):  # the server did it
        os.setpgid(0, 0)  # signals to its group reach the processes that it starts, too
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance([*arguments, f"--IPKernelApp.parent_handle={server}"])
    raise SystemExit


if __name__ == "__main__":
    main()

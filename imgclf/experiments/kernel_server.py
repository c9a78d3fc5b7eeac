"""A process that forks kernels: what notebooks need is loaded once for all of them. `kernels` starts it."""

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module

# What most notebooks load sooner or later; none of it starts threads or asks for IPython's shell when it is
# loaded, as matplotlib.pyplot and widgets do. Torch is not one of them: it takes as much memory as all.
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


def load() -> None:
    """Load the libraries; one that is missing or broken is left to the notebook that needs it."""
    for name in LIBRARIES:
        with suppress(Exception):
            import_module(name)


def main() -> None:
    """Fork a kernel for each line of stdin, which has its arguments and environment as JSON; print its id.

    A kernel ends when this process does, and this one when its stdin is closed.
    """
    # As ipykernel does; matplotlib reads it when it is loaded.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets kernels that ended
    for line in sys.stdin:
        arguments, environment = json.loads(line)
        server = os.getpid()
        kernel = os.fork()
        if not kernel:
            _become_kernel([*arguments, f"--IPKernelApp.parent_handle={server}"], environment)
        with suppress(OSError):  # it did it itself, or ended
            os.setpgid(kernel, kernel)
        print(kernel, flush=True)


def _become_kernel(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a kernel in this process until it is shut down.

    Raises
    ------
    SystemExit : then.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(OSError):  # the server did it
        os.setpgid(0, 0)  # signals to its group reach the processes that it starts, too
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # the pipe is for process ids
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(arguments)
    raise SystemExit


if __name__ == "__main__":
    main()

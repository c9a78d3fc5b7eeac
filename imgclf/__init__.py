"""From a folder of images to an image classifier you can trust and serve."""

import os
import sys
from collections.abc import Sequence
from traceback import walk_tb
from types import TracebackType
from typing import Any

__version__ = "0.1.0"

# `import openvino` writes a client id into the home folder and sends an event if it finds this package.
# None makes its import fail, and OpenVINO uses its own stub, which does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is allowed here

# ONNX Runtime writes a device id into the home folder on import, before its own switch can be set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# With two busy cores, torch is 3 to 5 times slower if its idle OpenMP threads spin. OpenMP reads this
# variable when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class ImgclfError(Exception):
    """An error that the user can fix. The message says what is wrong, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of a traceback: the message alone."""
        return [f"{type(self).__name__}: {self}"]


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _show_interrupt(
    shell: Any, kind: type[BaseException], error: BaseException, frames: TracebackType, tb_offset: int | None
) -> None:
    """Show in a notebook that a cell was interrupted; in one line if it was at work in this package."""
    stack = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame, _ in walk_tb(frames)]
    if any(module.split(".")[0] == __name__ for module, _ in stack):
        line = f"{kind.__name__}: stopped; to go on, run this cell again"
        if any(name == "<module>" for module, name in stack if module != "__main__"):
            # Half a module would stay, with which nothing works.
            line = f"{kind.__name__}: stopped while a library was loaded; to go on, restart the kernel"
        error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]  # IPython looks for it
    shell.showtraceback((kind, error, frames), tb_offset=tb_offset)


# `set_custom_exc` keeps one handler for all exceptions, so that of the user stays.
_shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
if _shell and not _shell.custom_exceptions:
    _shell.set_custom_exc((KeyboardInterrupt,), _show_interrupt)

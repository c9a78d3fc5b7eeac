"""What the cells of this kernel printed and showed; the notebook file may be older than what ran.

JupyterLab saves a notebook every two minutes. So the outputs are collected from the messages that the kernel
sends to whoever shows the notebook. IPython's own history of outputs is no replacement: ipykernel leaves
displays out of it, and each update of a progress bar would be one more output.
"""

import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf import __version__, parameters
from imgclf.experiments import notebooks

if TYPE_CHECKING:
    from nbformat import NotebookNode

METADATA = "imgclf"  # key in the metadata of a notebook with outputs: our version, and when it ran
WIDGET = "application/vnd.jupyter.widget-view+json"

Message = dict[str, Any]


@dataclass
class _Execution:
    """The last execution of a cell.

    Attributes
    ----------
    request : id of the message that asked for it. displays : outputs by their display_id.
    is_stale : the next output replaces all others, after `clear_output(wait=True)`.
    """

    source: str
    count: int
    request: str
    outputs: "list[NotebookNode]" = field(default_factory=list)
    displays: "dict[str, NotebookNode]" = field(default_factory=dict)
    is_stale: bool = False


class _Collector:
    """The last execution of each cell of one kernel since `restart`."""

    def __init__(self, shell: Any) -> None:
        self._shell, self._lock = shell, threading.Lock()
        self.restart()
        shell.events.register("pre_run_cell", self._start)
        shell.events.register("post_run_cell", self._stop)
        shell.display_pub.register_hook(self._collect)
        shell.displayhook.register_hook(self._collect)
        streams: list[Any] = [sys.stdout, sys.stderr]
        # A thread of their own sends what they print, and each thread has its own hooks.
        for stream in streams:
            stream.pub_thread.schedule(partial(stream.register_hook, self._collect))

    def restart(self) -> None:
        """Forget all executions but that of the cell that is running."""
        self.executions: dict[str, _Execution] = {}  # by id of the cell; by its source without one
        self._seconds, self._started = 0.0, time.monotonic()
        self._add(self._shell.user_ns["In"][-1], None)

    @property
    def seconds(self) -> float:
        """Run time of the cells, with that of the cell that is running."""
        return self._seconds + time.monotonic() - self._started

    def _start(self, info: Any) -> None:
        self._started = time.monotonic()
        if info.store_history:
            self._add(info.raw_cell, info.cell_id)

    def _stop(self, result: Any) -> None:
        self._seconds = self.seconds

    def _add(self, source: str, cell_id: str | None) -> None:
        request = self._shell.display_pub.parent_header.get("msg_id", "")
        with self._lock:
            key = cell_id or source.strip()
            self.executions.pop(key, None)  # so that the last execution comes last
            self.executions[key] = _Execution(source, self._shell.execution_count - 1, request)

    def _collect(self, message: Message) -> Message:
        """Store the output in a message that the kernel is about to send; return the message."""
        with suppress(Exception), self._lock:  # whatever is wrong here, the notebook shows its output
            self._store(message["header"]["msg_type"], message["content"], message)
        return message

    def _store(self, kind: str, content: Mapping[str, Any], message: Message) -> None:
        from nbformat.v4 import output_from_msg

        display_id = content.get("transient", {}).get("display_id")
        if kind == "update_display_data":
            for execution in self.executions.values():
                if display_id in execution.displays:
                    execution.displays[display_id].update(data=content["data"], metadata=content["metadata"])
            return
        request = message["parent_header"]["msg_id"]
        execution = next(each for each in self.executions.values() if each.request == request)
        if kind == "clear_output" and content["wait"]:
            execution.is_stale = True
            return
        if kind == "clear_output" or execution.is_stale:
            execution.outputs.clear()
            execution.is_stale = False
        if kind == "clear_output" or WIDGET in content.get("data", {}):  # the kernel takes its model away
            return
        output = output_from_msg(message)
        last = execution.outputs[-1] if execution.outputs else {}
        if kind == "stream" and last.get("name") == output.name:
            last["text"] += output.text
            return
        execution.outputs.append(output)
        if display_id:
            execution.displays[display_id] = output


def _shell() -> Any:
    """Return the shell of this kernel; None in a plain Python, or in IPython on a terminal."""
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    return shell if hasattr(shell, "kernel") and hasattr(sys.stdout, "pub_thread") else None


_collector = cache(_Collector)  # one for each kernel, whose process has no other


def watch() -> None:
    """Collect what the cells of this kernel print and show from now on; forget what earlier cells did.

    Does nothing outside a kernel.
    """
    if shell := _shell():
        _collector(shell).restart()


def seconds() -> float:
    """Return the run time of the cells since `watch`; 0 outside a kernel."""
    shell = _shell()
    return _collector(shell).seconds if shell else 0.0


def notebook(path: Path) -> "NotebookNode":
    """Return a notebook with the outputs that its cells had in this kernel since `watch`.

    Of a cell that ran several times, the last execution counts; one that did not run has no outputs. Widgets
    and errors are left out. The parameters cell has the values that the notebook ran with.

    Parameters
    ----------
    path : its file. A cell that was edited since it was saved is found by its id, and has the code that ran.
    """
    from imgclf.experiments.notebook_format import nbformat

    found, shell = nbformat.read(path, as_version=4), _shell()
    executions: dict[str, _Execution] = {}
    if shell:
        sys.stdout.flush()
        sys.stderr.flush()
        executions = _collector(shell).executions
    by_source = {each.source.strip(): each for each in executions.values()}
    for cell in found.cells:
        if cell.cell_type != "code":
            continue
        execution = executions.get(cell.get("id", "")) or by_source.get(cell.source.strip())
        cell.outputs, cell.execution_count = [], None
        if execution:
            cell.source, cell.execution_count = execution.source, execution.count
            cell.outputs = deepcopy(execution.outputs)
        if shell and notebooks.TAG in cell.metadata.get("tags", []):
            values = parameters.from_namespace(shell.user_ns)
            cell.source = notebooks.cell_source(path.name[:2], values)
    ended = datetime.now().astimezone().isoformat(timespec="seconds")
    found.metadata[METADATA] = {"version": __version__, "ended": ended}
    return found

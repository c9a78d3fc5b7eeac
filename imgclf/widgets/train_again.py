"""The button Train again: `imgclf run --changed` from a notebook, with its progress and its result."""

import codecs
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from html import escape

from ipywidgets import HTML, Button, HBox, Layout, VBox

from imgclf import ImgclfError, files
from imgclf.data.dataset import Dataset
from imgclf.data.journal import Journal
from imgclf.evaluation.metrics import Evaluation

# -P: no modules from the working directory, such as a folder of images called imgclf
COMMAND = (sys.executable, "-P", "-m", "imgclf.cli", "run", "--changed", "-p")
TIP = "Run what follows from changed labels and images, and compare the accuracy before and after"
NEXT = "To see the new results in this notebook, run all its cells again."
LABELS_CHANGED = "Labels were changed while it ran: press Train again."
INTERRUPTED = 130  # the exit code of the command after Ctrl-C or SIGTERM
CHUNK_BYTES = 2**16


class TrainAgain(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A button that trains again in another process, which leaves this kernel free.

    Attributes
    ----------
    start, stop : the buttons; the second one is shown while it runs.
    text : what the command prints, as a terminal shows it; then the accuracies, or the error.
    follower : the thread that waits for the process; None before the first click.
    """

    def __init__(self, dataset: Dataset, *, on_end: Callable[[], object] = lambda: None) -> None:
        """Show the button for a data set.

        Parameters
        ----------
        on_end : called, in the other thread, after the results were made anew.
        """
        self._dataset, self._on_end = dataset, on_end
        self.start = Button(description="Train again", tooltip=TIP, layout=Layout(width="auto"))
        self.stop = Button(description="Stop", layout=Layout(width="auto", display="none"))
        self.text = HTML()
        self.follower: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__([HBox([self.start, self.stop]), self.text])
        self.add_class("imgclf-train-again")
        self.start.on_click(lambda _: self._begin())
        self.stop.on_click(lambda _: self._end())

    def _begin(self) -> None:
        from imgclf.experiments import retraining, sequence  # not before: they load papermill

        own = {
            "IMGCLF_DATA": str(files.data_dir()),
            "PYTHONIOENCODING": "utf-8",
            **dict.fromkeys(("PYTHONUNBUFFERED", sequence.LIVE), "1"),
        }
        try:
            before = retraining.earlier(self._dataset.name)
            labels = Journal(self._dataset.folder).fingerprint()
            self._process = subprocess.Popen(
                [*COMMAND, f"dataset_name={self._dataset.name}"],
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except (ImgclfError, OSError) as error:  # OSError: the machine starts no process
            self._show(f"Not done: {error}")
            return
        self._set_running(True)
        self.follower = threading.Thread(
            target=self._follow, args=(self._process, before, labels), daemon=True
        )
        self.follower.start()

    def _end(self) -> None:
        """Stop as Ctrl-C does; a process that a shell started in the background may ignore that signal."""
        self.stop.disabled = True
        if self._process:
            self._process.terminate()

    def _follow(self, process: "subprocess.Popen[bytes]", before: Evaluation, labels: str) -> None:
        """Show what the process prints, then its result; in another thread, where nothing is printed."""
        try:
            said = self._show_output(process).strip().rpartition("\n")[2].removeprefix("imgclf: ")
            if self.stop.disabled and process.returncode != INTERRUPTED:  # before it could say so
                said = "stopped"
            lines = [f"Not done: {said}"] if process.returncode else self._result(before)
            if _labels_changed(self._dataset, labels):
                lines.append(LABELS_CHANGED)
            self._show(*lines)
        finally:
            self._set_running(False)

    def _show_output(self, process: "subprocess.Popen[bytes]") -> str:
        """Show what the process prints until it ends, and return it."""
        from imgclf.experiments import sequence

        decoder, printed = codecs.getincrementaldecoder("utf-8")("replace"), ""
        with process:
            assert process.stdout
            while chunk := os.read(process.stdout.fileno(), CHUNK_BYTES):
                printed = sequence.as_shown(printed + decoder.decode(chunk))
                self.text.value = f"<pre>{escape(printed)}</pre>"
        return printed

    def _result(self, before: Evaluation) -> list[str]:
        from imgclf.experiments import retraining

        try:
            compared = retraining.compared(self._dataset.name, before)
        except ImgclfError as error:  # another run has just begun
            return [f"Not compared: {error}"]
        self._on_end()
        is_new = not compared.startswith(retraining.NOTHING_CHANGED)
        return [*compared.splitlines(), *([NEXT] if is_new else [])]

    def _show(self, *lines: str) -> None:
        self.text.value = "<br>".join(map(escape, lines))

    def _set_running(self, is_running: bool) -> None:
        self.start.disabled, self.stop.disabled = is_running, False
        self.stop.layout.display = None if is_running else "none"


def _labels_changed(dataset: Dataset, labels: str) -> bool:
    """Whether labels differ from those of which the journal had this fingerprint."""
    try:
        return Journal(dataset.folder).fingerprint() != labels
    except ImgclfError:  # they are being changed just now
        return True

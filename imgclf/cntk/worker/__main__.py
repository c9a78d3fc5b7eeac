"""The worker: runs in Python 3.6 with cntk and numpy alone, and answers what comes through a pipe.

It is started as `python -I worker FOLDER_OF_MPI_STUB`, the folder of this file, whose other modules it then finds by their bare names.
"""

import ctypes
import os
import sys
import threading
import time
import traceback
import warnings

import layers
import learning
import messages
import models
import numpy as np

PARENT_EVERY = 1.0  # seconds between two looks whether the parent is still there


class Worker:
    """What the worker holds between two requests; each public method is a command.

    A command takes what the message says of it and its arrays, and gives the same two for the reply.
    """

    def __init__(self):
        self.entry = self.network = self.learning = None
        self.parts, self.weights = [], {}

    def build(self, about, arrays):
        """Make a network of steps; its input has the shape `about["shape"]` for each image."""
        import cntk

        graph = layers.Graph(arrays, about.get("learns", []))
        self.entry = graph.made[about["input"]] = cntk.input_variable(
            tuple(about["shape"]), name=about["input"]
        )
        for step in about["steps"]:
            try:
                graph.made[step["output"]] = layers.OPERATORS[step["operator"]](
                    graph, step["inputs"], step["attributes"]
                )
            except Exception as error:
                raise RuntimeError(
                    "%s, which gives %s: %s" % (step["operator"], step["output"], first_line(error))
                )
        self.weights = graph.weights
        self._take([graph.made[name] for name in about["outputs"]])
        cntk.logging.log_number_of_parameters(self.network)
        return {"shapes": [list(part.shape) for part in self.parts]}, {}

    def _take(self, parts):
        import cntk

        self.parts = [part if isinstance(part, cntk.Function) else cntk.alias(part) for part in parts]
        self.network = cntk.combine(self.parts)
        self.learning = None

    def load(self, about, arrays):
        """Open a network in CNTK's own format; what it takes and gives."""
        import cntk

        network = cntk.load_model(about["path"])
        if len(network.arguments) != 1:
            raise ValueError("it takes %d inputs, and must take one, the images" % len(network.arguments))
        self.entry = network.arguments[0]
        self._take([network])
        return {
            "input": self.entry.name,
            "shape": list(self.entry.shape),
            "shapes": [list(output.shape) for output in network.outputs],
        }, {}

    def cut(self, about, arrays):
        """Open an old model; its outputs are then its features and its scores. Tells what it takes, and gives its last layer."""
        old = models.OldModel(about["path"])
        self._take([old.features, old.scores])
        self.entry = self.network.arguments[0]
        return old.about(), {"weights": old.weights, "offsets": old.offsets}

    def export(self, about, arrays):
        """Write what computes the first output as an ONNX file; only for one image, and by opset 9, which is the newest that CNTK knows."""
        import cntk

        self.parts[0].save(about["path"], format=cntk.ModelFormat.ONNX)
        return {}, {}

    def run(self, about, arrays):
        """The outputs for a batch, each float32 (n, ...)."""
        return {}, {str(k): value for k, value in enumerate(self._values(arrays["images"]))}

    def _values(self, batch):
        values = self.network.eval({self.entry: batch.astype(np.float32)})
        if len(self.parts) == 1:
            return [np.asarray(values, np.float32)]
        by_name = {output.uid: value for output, value in values.items()}
        return [np.asarray(by_name[part.output.uid], np.float32) for part in self.parts]

    def save(self, about, arrays):
        """Write the network in CNTK's own format."""
        self.network.save(about["path"])
        return {}, {}

    def learn(self, about, arrays):
        """Put a last layer behind the first output, and make all ready to learn; the only output is then the scores."""
        made = learning.Learning(self.parts[0], self.weights, about, arrays)
        self._take([made.scores])
        self.learning = made
        return {}, {}

    def step(self, about, arrays):
        """Learn from a batch."""
        return self.learning.step(self.entry, arrays["images"], arrays["truth"], about["rate"]), {}

    def values(self, about, arrays):
        """All that may change."""
        return {}, self.learning.values()

    def assign(self, about, arrays):
        """Change what may change."""
        self.learning.assign(arrays)
        return {}, {}

    def checkpoint(self, about, arrays):
        """Where the learning stands."""
        return {}, self.learning.checkpoint()

    def restore(self, about, arrays):
        """Go on with the learning from there."""
        self.learning.restore(arrays)
        return {}, {}


def first_line(error):
    """What went wrong, without CNTK's list of calls."""
    text = str(error).split("[CALL STACK]")[0].strip()
    return text.splitlines()[0] if text else type(error).__name__


def answer(worker, about, arrays):
    """The reply to a request; what goes wrong is told in it, and the worker lives on."""
    try:
        told, found = getattr(worker, about["command"])(about, arrays)
    except Exception as error:  # whatever it is, the parent is to hear of it
        traceback.print_exc()
        told, found = {"error": first_line(error)}, {}
    return dict(told, id=about["id"]), found


def own_pipes():
    """The two pipes for messages; from now on whatever prints goes to the log, and whatever reads finds nothing."""
    requests, replies = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr = os.fdopen(2, "w", 1)  # a line at a time: the last ones tell why it died
    return requests, replies


def end_with(parent):
    """End when the parent is gone, even if it was killed while this computes."""
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY)
    os._exit(0)


def main():
    """Answer requests until the pipe ends."""
    requests, replies = own_pipes()
    if sys.version_info[:2] != (3, 6):
        sys.stderr.write("this is Python %d.%d; CNTK 2.7 needs 3.6\n" % sys.version_info[:2])
        sys.exit(messages.WRONG_PYTHON)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    for name in (
        "libmpi.so.12",
        "libmpi_cxx.so.1",
    ):  # what CNTK is linked against, for training on several machines
        ctypes.CDLL(os.path.join(sys.argv[1], name), ctypes.RTLD_GLOBAL)
    warnings.simplefilter("ignore")
    import cntk

    worker = Worker()
    messages.write(
        replies, {"cntk": cntk.__version__, "devices": [str(device) for device in cntk.all_devices()]}
    )
    while True:
        try:
            about, arrays = messages.read(requests)
        except EOFError:
            return
        messages.write(replies, *answer(worker, about, arrays))


if __name__ == "__main__":
    main()

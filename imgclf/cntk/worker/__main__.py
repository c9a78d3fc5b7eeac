"""The worker: runs in Python 3.6 with cntk and numpy alone, and replies to requests through a pipe.

It is started as `python -I worker FOLDER_OF_MPI_STUB`: the folder of this file, so that the other modules are
imported by their bare names.
"""

import ctypes
import os
import sys
import threading
import time
import traceback
import warnings

import layers
import messages
import models
import numpy as np
import training

PARENT_POLL_SECONDS = 1.0


class Worker:
    """State of the worker between requests; each public method is a command.

    A command takes the parameters and arrays of a request, and returns the values and arrays of the reply.
    """

    def __init__(self):
        self.entry = self.network = self.training = None
        self.outputs, self.weights = [], {}

    def build(self, parameters, arrays):
        """Build a network from nodes; its input has the shape `parameters["shape"]` for each image."""
        import cntk

        graph = layers.Graph(arrays, parameters.get("trainable", []))
        self.entry = graph.tensors[parameters["input"]] = cntk.input_variable(
            tuple(parameters["shape"]), name=parameters["input"]
        )
        for node in parameters["nodes"]:
            try:
                graph.tensors[node["output"]] = layers.OPERATORS[node["operator"]](
                    graph, node["inputs"], node["attributes"]
                )
            except Exception as error:
                raise RuntimeError(
                    "%s, which computes %s: %s" % (node["operator"], node["output"], first_line(error))
                ) from error
        self.weights = graph.weights
        self._set_outputs([graph.tensors[name] for name in parameters["outputs"]])
        cntk.logging.log_number_of_parameters(self.network)
        return {"shapes": [list(output.shape) for output in self.outputs]}, {}

    def _set_outputs(self, outputs):
        import cntk

        self.outputs = [
            output if isinstance(output, cntk.Function) else cntk.alias(output) for output in outputs
        ]
        self.network = cntk.combine(self.outputs)
        self.training = None

    def load(self, parameters, arrays):
        """Load an old model: the outputs are then its features and scores. Returns its last layer."""
        old = models.OldModel(parameters["path"])
        self._set_outputs([old.features, old.scores])
        self.entry = self.network.arguments[0]
        return old.description(), {"weights": old.weights, "offsets": old.offsets}

    def export(self, parameters, arrays):
        """Write the graph of the first output as ONNX, of batch size 1 and opset 9, the newest in CNTK."""
        import cntk

        self.outputs[0].save(parameters["path"], format=cntk.ModelFormat.ONNX)
        return {}, {}

    def run(self, parameters, arrays):
        """The outputs for a batch, each float32 (n, ...)."""
        return {}, {str(k): value for k, value in enumerate(self._evaluate(arrays["images"]))}

    def _evaluate(self, batch):
        values = self.network.eval({self.entry: batch.astype(np.float32)})
        if len(self.outputs) == 1:
            return [np.asarray(values, np.float32)]
        by_uid = {output.uid: value for output, value in values.items()}
        return [np.asarray(by_uid[output.output.uid], np.float32) for output in self.outputs]

    def save(self, parameters, arrays):
        """Write the network in CNTK's format."""
        self.network.save(parameters["path"])
        return {}, {}

    def start_training(self, parameters, arrays):
        """Append a last layer to the first output, and create its trainer. The only output is the scores."""
        started = training.Training(self.outputs[0], self.weights, parameters, arrays)
        self._set_outputs([started.scores])
        self.training = started
        return {}, {}

    def train_step(self, parameters, arrays):
        """Train on a batch; return its mean loss and the number of errors in it."""
        return self.training.step(self.entry, arrays["images"], arrays["labels"], parameters["rate"]), {}

    def get_weights(self, parameters, arrays):
        """All trainable weights."""
        return {}, self.training.get_weights()

    def set_weights(self, parameters, arrays):
        """Set trainable weights."""
        self.training.set_weights(arrays)
        return {}, {}

    def checkpoint(self, parameters, arrays):
        """The state of training."""
        return {}, self.training.checkpoint()

    def restore(self, parameters, arrays):
        """Resume training from a checkpoint."""
        self.training.restore(arrays)
        return {}, {}


def first_line(error):
    """The first line of an error message, without CNTK's call stack."""
    text = str(error).split("[CALL STACK]")[0].strip()
    return text.splitlines()[0] if text else type(error).__name__


def reply(worker, parameters, arrays):
    """The reply to a request. An exception is returned in it, and the worker keeps running."""
    try:
        values, results = getattr(worker, parameters["command"])(parameters, arrays)
    except Exception as error:  # the parent reports it, whatever it is
        traceback.print_exc()
        values, results = {"error": first_line(error)}, {}
    return dict(values, id=parameters["id"]), results


def claim_pipes():
    """The two pipes for messages. From now on prints go to the log, and reads from stdin find nothing."""
    requests, replies = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr = os.fdopen(2, "w", 1)  # line-buffered: the last lines say why it died
    return requests, replies


def exit_with_parent(parent):
    """Exit when the parent process is gone, even if it was killed during a computation."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)


def main():
    """Reply to requests until the pipe is closed."""
    requests, replies = claim_pipes()
    if sys.version_info[:2] != (3, 6):
        sys.stderr.write("this is Python %d.%d; CNTK 2.7 needs 3.6\n" % sys.version_info[:2])
        sys.exit(messages.WRONG_PYTHON)
    threading.Thread(target=exit_with_parent, args=(os.getppid(),), daemon=True).start()
    # CNTK is linked against them, for training on several machines.
    for name in ("libmpi.so.12", "libmpi_cxx.so.1"):
        ctypes.CDLL(os.path.join(sys.argv[1], name), ctypes.RTLD_GLOBAL)
    warnings.simplefilter("ignore")
    import cntk

    worker = Worker()
    messages.write(
        replies, {"cntk": cntk.__version__, "devices": [str(device) for device in cntk.all_devices()]}
    )
    while True:
        try:
            parameters, arrays = messages.read(requests)
        except EOFError:
            return
        messages.write(replies, *reply(worker, parameters, arrays))


if __name__ == "__main__":
    main()

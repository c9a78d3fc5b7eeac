"""Training of a new last layer, and of all other trainable weights. Python 3.6 runs this."""

import os
import tempfile

import numpy as np

HEAD = ("head.weights", "head.offsets")  # names of the last layer's weights, (d, k) and (k,)
CHECKPOINT_FILES = ("network", "network.ckp")


class Training:
    """A network with a last layer, and its trainer.

    Parameters
    ----------
    features : function that computes (d,) for each image. weights : of the network, by name.
    settings : `optimizer`, `momentum`, `weight_decay`, `dropout`, `seed`, and `decayed`, the names of the
        weights with weight decay.
    arrays : initial values of the last layer.
    """

    def __init__(self, features, weights, settings, arrays):
        import cntk

        self.settings = settings
        self.weights = {name: weight for name, weight in weights.items() if weight.is_parameter}
        for name in HEAD:
            self.weights[name] = cntk.parameter(
                init=np.ascontiguousarray(arrays[name], np.float32), name=name
            )
        if settings["dropout"]:
            features = cntk.dropout(features, dropout_rate=settings["dropout"], seed=settings["seed"])
        self.scores = cntk.plus(
            cntk.times(features, self.weights[HEAD[0]]), self.weights[HEAD[1]], name="prediction"
        )
        self.targets = cntk.input_variable(len(arrays[HEAD[1]]))
        loss = cntk.cross_entropy_with_softmax(self.scores, self.targets)
        self.trainer = cntk.Trainer(
            self.scores, (loss, cntk.classification_error(self.scores, self.targets)), self._learners()
        )

    def _learners(self):
        """One for the weights with weight decay, one for the others."""
        decayed = [weight for name, weight in self.weights.items() if name in self.settings["decayed"]]
        others = [weight for name, weight in self.weights.items() if name not in self.settings["decayed"]]
        return [
            self._learner(group, decay)
            for group, decay in ((decayed, self.settings["weight_decay"]), (others, 0.0))
            if group
        ]

    def _learner(self, group, decay):
        """Learning rate and momentum are per step, whatever the batch size, and the gradient is the mean."""
        import cntk

        per_step = {"minibatch_size": cntk.learners.IGNORE}
        rate, momentum = (
            cntk.learning_parameter_schedule(0.0, **per_step),
            cntk.momentum_schedule(self.settings["momentum"], **per_step),
        )
        if self.settings["optimizer"] == "sgd":
            return cntk.momentum_sgd(group, rate, momentum, unit_gain=False, l2_regularization_weight=decay)
        return cntk.adam(
            group,
            rate,
            momentum,
            unit_gain=True,
            variance_momentum=cntk.momentum_schedule(0.999, **per_step),
            epsilon=1e-8,
            use_mean_gradient=True,
        )

    def step(self, entry, images, labels, rate):
        """Train on a batch; return its mean loss and the number of errors in it."""
        import cntk

        if self.settings["optimizer"] == "adamw":  # decoupled weight decay
            for name in self.settings["decayed"]:
                self.weights[name].value = self.weights[name].value * np.float32(
                    1 - rate * self.settings["weight_decay"]
                )
        for learner in self.trainer.parameter_learners:
            learner.reset_learning_rate(
                cntk.learning_parameter_schedule(rate, minibatch_size=cntk.learners.IGNORE)
            )
        one_hot = np.eye(self.targets.shape[0], dtype=np.float32)[labels]
        self.trainer.train_minibatch({entry: images.astype(np.float32), self.targets: one_hot})
        error_rate = self.trainer.previous_minibatch_evaluation_average
        return {
            "loss": float(self.trainer.previous_minibatch_loss_average),
            "errors": round(float(error_rate) * len(images)),
        }

    def get_weights(self):
        """Copies of all trainable weights, by name."""
        return {name: np.array(weight.value, np.float32) for name, weight in self.weights.items()}

    def set_weights(self, arrays):
        """Set trainable weights; arrays are reshaped to the weights' shapes."""
        for name, value in arrays.items():
            self.weights[name].value = np.ascontiguousarray(value.reshape(self.weights[name].shape))

    def checkpoint(self):
        """The state of the trainer as bytes: weights and optimizer state."""
        with tempfile.TemporaryDirectory() as folder:
            self.trainer.save_checkpoint(os.path.join(folder, CHECKPOINT_FILES[0]))
            return {name: np.fromfile(os.path.join(folder, name), np.uint8) for name in CHECKPOINT_FILES}

    def restore(self, arrays):
        """Resume from a `checkpoint`."""
        with tempfile.TemporaryDirectory() as folder:
            for name in CHECKPOINT_FILES:
                arrays[name].tofile(os.path.join(folder, name))
            self.trainer.restore_from_checkpoint(os.path.join(folder, CHECKPOINT_FILES[0]))

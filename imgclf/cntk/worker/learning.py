"""A new last layer, and the learning of it and of all that may change. Python 3.6 runs this."""

import os
import tempfile

import numpy as np

HEAD = ("head.weights", "head.offsets")  # names of the last layer's weights, (d, k) and (k,)
KEPT = ("network", "network.ckp")  # the two files of a checkpoint


class Learning:
    """A network with a last layer, and what learns it.

    Parameters
    ----------
    features : function that gives (d,) for each image. weights : what may change in it, by name.
    about : `optimizer`, `momentum`, `weight_decay`, `dropout`, `seed`, and `decays`, the names of the weights that are drawn towards 0.
    arrays : the last layer as it begins.
    """

    def __init__(self, features, weights, about, arrays):
        import cntk

        self.about = about
        self.weights = dict({name: weight for name, weight in weights.items() if weight.is_parameter})
        for name in HEAD:
            self.weights[name] = cntk.parameter(
                init=np.ascontiguousarray(arrays[name], np.float32), name=name
            )
        seen = (
            cntk.dropout(features, dropout_rate=about["dropout"], seed=about["seed"])
            if about["dropout"]
            else features
        )
        self.scores = cntk.plus(
            cntk.times(seen, self.weights[HEAD[0]]), self.weights[HEAD[1]], name="prediction"
        )
        self.truth = cntk.input_variable(len(arrays[HEAD[1]]))
        loss = cntk.cross_entropy_with_softmax(self.scores, self.truth)
        self.trainer = cntk.Trainer(
            self.scores, (loss, cntk.classification_error(self.scores, self.truth)), self._learners()
        )

    def _learners(self):
        """One for the weights that are drawn towards 0, one for the others."""
        decaying = [weight for name, weight in self.weights.items() if name in self.about["decays"]]
        others = [weight for name, weight in self.weights.items() if name not in self.about["decays"]]
        return [
            self._learner(group, decay)
            for group, decay in ((decaying, self.about["weight_decay"]), (others, 0.0))
            if group
        ]

    def _learner(self, group, decay):
        """Rates and momentum are those of a step, whatever its number of images, and the gradient is the mean, as elsewhere."""
        import cntk

        a_step = {"minibatch_size": cntk.learners.IGNORE}
        rate, momentum = (
            cntk.learning_parameter_schedule(0.0, **a_step),
            cntk.momentum_schedule(self.about["momentum"], **a_step),
        )
        if self.about["optimizer"] == "sgd":
            return cntk.momentum_sgd(group, rate, momentum, unit_gain=False, l2_regularization_weight=decay)
        return cntk.adam(
            group,
            rate,
            momentum,
            unit_gain=True,
            variance_momentum=cntk.momentum_schedule(0.999, **a_step),
            epsilon=1e-8,
            use_mean_gradient=True,
        )

    def step(self, entry, images, truth, rate):
        """Learn from a batch; its mean loss and the number of mistakes in it."""
        import cntk

        if self.about["optimizer"] == "adamw":  # its decay stands apart from the gradient
            for name in self.about["decays"]:
                self.weights[name].value = self.weights[name].value * np.float32(
                    1 - rate * self.about["weight_decay"]
                )
        for learner in self.trainer.parameter_learners:
            learner.reset_learning_rate(
                cntk.learning_parameter_schedule(rate, minibatch_size=cntk.learners.IGNORE)
            )
        wanted = np.eye(self.truth.shape[0], dtype=np.float32)[truth]
        self.trainer.train_minibatch({entry: images.astype(np.float32), self.truth: wanted})
        return {
            "loss": float(self.trainer.previous_minibatch_loss_average),
            "mistakes": int(round(self.trainer.previous_minibatch_evaluation_average * len(images))),
        }

    def values(self):
        """Copies of all that may change, by name."""
        return {name: np.array(weight.value, np.float32) for name, weight in self.weights.items()}

    def assign(self, arrays):
        """Give weights other values, whatever shape they come in."""
        for name, value in arrays.items():
            self.weights[name].value = np.ascontiguousarray(value.reshape(self.weights[name].shape))

    def checkpoint(self):
        """The trainer as bytes: weights, and what the optimizer remembers."""
        with tempfile.TemporaryDirectory() as folder:
            self.trainer.save_checkpoint(os.path.join(folder, KEPT[0]))
            return {name: np.fromfile(os.path.join(folder, name), np.uint8) for name in KEPT}

    def restore(self, arrays):
        """Go on from a `checkpoint`."""
        with tempfile.TemporaryDirectory() as folder:
            for name in KEPT:
                arrays[name].tofile(os.path.join(folder, name))
            self.trainer.restore_from_checkpoint(os.path.join(folder, KEPT[0]))

"""Trials whose files are on disk, without running a notebook."""

from pathlib import Path

import numpy as np

from imgclf import files, parameters
from imgclf.evaluation import metrics, report
from imgclf.evaluation.metrics import Evaluation
from imgclf.experiments import trials
from imgclf.experiments.trials import Trial


def write_trial(
    seconds: float,
    correct: int,
    *,
    held_out: int,
    images: int = 100,
    milliseconds: float = 12.5,
    others: bool = False,
    side: int = 0,
    **values: parameters.Value,
) -> Trial:
    """Write a trial with `correct` of `images` test images and `held_out` of 50 held-out ones.

    `side` is the input size of its network. With `others` its test images are not those of the other trials.
    """
    trial = Trial(
        trials.trial_name("fruit", values),
        values,
        "",
        {"02": seconds, "03": 1.0, "04": 2.0, "05": 3.0},
        milliseconds,
        input_size=side,
    )
    folder = files.proc_dir(trial.name)
    trials.write(trial)
    tested = evaluated(images, correct, prefix="new" if others else "")
    report.write(tested, folder, evaluated_on="test")
    write_scores(folder / files.HELD_OUT, 50, held_out)
    return trial


def write_scores(path: Path, count: int, correct: int) -> None:
    """Write scores of `count` images, see `evaluated`."""
    report.write_scores(evaluated(count, correct), path)


def evaluated(count: int, correct: int, *, prefix: str = "") -> Evaluation:
    """Return an evaluation of two labels, of whose images the first `correct` are predicted correctly."""
    truth = np.array(["apple", "pear"] * (count // 2))
    is_correct = np.arange(count) < correct
    scores = (is_correct[:, None] == (truth[:, None] == ["apple", "pear"])).astype(np.float32)
    paths = [f"{prefix}{i}" for i in range(count)]
    return metrics.evaluate(["apple", "pear"], paths, truth.tolist(), scores, scores)

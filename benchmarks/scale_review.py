"""Processor time and memory of what 04 and 05 do besides training SVMs, and of the widgets, over the number of images.

`python benchmarks/scale_review.py [IMAGES ...]`; by default 2,000 and 4,000. `scale_review.py 5000 20000 100000` takes ten minutes, and
two gigabytes of disk for small JPEGs. Features and scores are synthetic, of 20 labels; each number of images has a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.special import softmax

from imgclf import files, plots
from imgclf.annotation import exchange, findings, hard_negatives, label_files
from imgclf.annotation.annotations import Annotations
from imgclf.annotation.consequences import consequences
from imgclf.annotation.suspects import (
    out_of_fold_evaluation,
    out_of_sample_scores,
    read_label_scores,
    suspected_label_errors,
)
from imgclf.classifier import familiarity
from imgclf.classifier.model import Prediction
from imgclf.data import compaction, dataset, previous_split, split
from imgclf.data.changes import Step, to_lines
from imgclf.data.dataset import Dataset, DuplicatePair, Image
from imgclf.data.journal import NAME, Journal
from imgclf.data.layout import Layout
from imgclf.data.split import Split
from imgclf.evaluation import calibration, comparison, curves, metrics, report, training_size, unfamiliar
from imgclf.evaluation.metrics import Evaluation
from imgclf.features import Features
from imgclf.svm import CSearch, Head

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from imgclf.widgets.annotator import Annotator
    from imgclf.widgets.feature_map import FeatureMap
    from imgclf.widgets.results import ResultsBrowser

LABELS = tuple(f"label_{k:02d}" for k in range(20))
DIMENSIONS = 1280
DEFAULT = (2_000, 4_000)
JOURNAL_LINES = 3  # for each image
NAMED = "scaled"  # the data set


class Meter:
    """Processor seconds of named steps, and bytes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.sent: dict[str, int] = {}  # bytes that the browser gets

    def __call__(self, name: str, work: Callable, *arguments, repeat: int = 1, **options):
        start = time.process_time()
        for _ in range(repeat):
            result = work(*arguments, **options)
        self.seconds[name] = (time.process_time() - start) / repeat
        return result


def write_images(folder: Path, count: int) -> Dataset:
    """Write small JPEGs, all different; every twentieth is a near-duplicate of the one before it."""
    draws, images = np.random.default_rng(0), []
    base = cv2.resize(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48))
    for label in LABELS:
        (folder / label).mkdir(parents=True)
    for i in range(count):
        pixels = np.roll(base, i % 64, axis=1)
        pixels[:, 0, :] = np.frombuffer((i * 2654435761 % 2**32).to_bytes(4) * 36, np.uint8).reshape(48, 3)
        path = f"{LABELS[i % len(LABELS)]}/{i:06d}.jpg"
        (folder / path).write_bytes(cv2.imencode(".jpg", pixels)[1])
        content = files.sha256(folder / path)
        images.append(
            Image(
                path,
                path.partition("/")[0],
                content,
                f"{i:064x}",
                64,
                48,
                shadows=1,
                highlights=250,
                sharpness=0.5,
            )
        )
    pairs = tuple(DuplicatePair(images[i - 20], images[i]) for i in range(20, count, 400))
    return Dataset(NAMED, folder, tuple(images), pairs, layout=Layout(LABELS))


def features_of(images: tuple[Image, ...]) -> Features:
    draws = np.random.default_rng(1)
    centres = draws.normal(size=(len(LABELS), DIMENSIONS)).astype(np.float32)
    matrix = np.empty((len(images), DIMENSIONS), np.float32)
    for start in range(0, len(images), 1000):
        chosen = [LABELS.index(image.label) for image in images[start : start + 1000]]
        matrix[start : start + 1000] = centres[chosen] + 4 * draws.standard_normal(
            (len(chosen), DIMENSIONS), np.float32
        )
    return Features(matrix, images)


def scores_of(images: tuple[Image, ...], seed: int) -> np.ndarray:
    """Scores by which about one image in ten is misclassified."""
    draws = np.random.default_rng(seed)
    truth = [LABELS.index(image.label) for image in images]
    return (
        draws.normal(size=(len(images), len(LABELS))).astype(np.float32)
        + 3.3 * np.eye(len(LABELS), dtype=np.float32)[truth]
    )


class Scorer:
    """Stands for a classifier: it has synthetic predictions."""

    labels = LABELS
    familiar_from = 0.5

    def __init__(self, images: tuple[Image, ...], seed: int = 2) -> None:
        self.metadata = {"familiarity": {"unfamiliar_rate": 0.05, "held_out_images": 5000}}
        self.scores = scores_of(images, seed)
        self.probabilities = softmax(self.scores, axis=1)

    def predict(self, sources) -> Iterator[tuple[int, Prediction]]:
        for i, source in enumerate(sources):
            scores, shares = self.scores[i], self.probabilities[i]
            best = int(scores.argmax())
            yield (
                i,
                Prediction(
                    str(source.path), LABELS[best], float(scores[best]), scores, shares, float(shares[best])
                ),
            )


def train_stage(measure: Meter, found: Dataset, parts: Split) -> None:
    """What 04 does besides the SVMs."""
    train = features_of(parts.train)
    scores = scores_of(parts.train, 3)
    head = Head(
        LABELS,
        np.zeros((len(LABELS), DIMENSIONS), np.float32),
        np.zeros(len(LABELS), np.float32),
        True,
        1.0,
        1.0,
    )
    search = CSearch(head, scores)
    clusters = measure("04 names of the clusters", parts.clusters_of, train.images)
    compared, familiar = measure(
        "04 familiarity", familiarity.fit, search, train.matrix, train.labels, clusters
    )
    held_out = measure(
        "04 out-of-fold evaluation", out_of_fold_evaluation, search, train.images, parts.cluster, familiar
    )
    proc = files.proc_dir(NAMED)
    for name in (files.HELD_OUT, files.LABEL_SCORES):
        measure("04 scores written", report.write_scores, held_out, proc / name)
    measure("04 overall accuracy", lambda: str(held_out.overall_accuracy))
    measure("04 learning curve, from its points", learning_curve, held_out)
    assert compared.threshold


def learning_curve(held_out: Evaluation) -> None:
    draws, n = np.random.default_rng(4), len(held_out.truth)
    sizes = n * 2 / 3 / np.array([16, 8, 4, 2, 1])
    right = [held_out.correct[:, None] & (draws.random((n, parts)) < 0.9) for parts in (2, 2, 2, 1, 1)]
    found = training_size.extended(LABELS, n, sizes, right, held_out.truth, held_out.cluster_number)
    assert str(found)


def evaluate_stage(measure: Meter, found: Dataset, parts: Split) -> Evaluation:
    """What 05 does besides inference and the widgets."""
    proc = files.proc_dir(NAMED)
    result, _ = measure(
        "05 scores collected", metrics.score, Scorer(parts.test), found, parts.test, cluster=parts.cluster
    )
    measure(
        "05 evaluation.json, scores.npz",
        report.write,
        result,
        proc,
        dataset_name=NAMED,
        evaluated_on="test",
        familiarity=unfamiliar.alarms(result, Scorer(parts.test[:1])),
    )
    measure(
        "05 report read, in words",
        lambda: (report.in_words(report.read(proc)), report.frame(report.read(proc))),
    )
    for name in ("confusion", "roc", "precision_recall", "rejection"):
        measure(f"05 plot: {name}", getattr(plots, name), result)
    measure("05 average ROC areas", lambda: [curves.average_auc(result, kind) for kind in ("macro", "micro")])
    measure("05 reliability", lambda: plots.reliability(calibration.reliability(result)))
    measure(
        "05 mistakes, least familiar",
        lambda: (result.captions(result.worst(12)), unfamiliar.least_familiar(result)),
    )
    other = metrics.score(Scorer(parts.test, seed=5), found, parts.test, cluster=parts.cluster)[0]
    measure("05 comparison of two classifiers", comparison.compare, result, other)
    measure("05 comparison after changes", lambda: str(comparison.compare_after_changes(result, other)))
    return result


def suspects_stage(measure: Meter, found: Dataset):
    judged = measure("05 scores read", read_label_scores, NAMED)
    suspects = measure("05 suspected label errors", suspected_label_errors, judged)
    scores = measure("05 out-of-sample scores read", out_of_sample_scores, NAMED)
    measure("hard negatives", hard_negatives.candidates, found, Scorer(found.files))
    return suspects, scores


def press(widget, key: str) -> None:
    widget.keyboard._handle_custom_msg({"key": key, "shift": False, "ctrl": False}, [])


def pause(widget) -> None:
    """Handle a pause as the kernel does."""
    widget.keyboard._handle_custom_msg({"idle": True}, [])


def annotator(measure: Meter, found: Dataset, suspects, scores) -> None:
    sides = previous_split.read(NAMED)
    notes = measure("labels opened", Annotations, found)
    shown = measure(
        "annotator: first page", Annotator, notes, sides=sides, out_of_sample=scores, suspects=suspects
    )
    shown.filter.value = "all images"
    measure("annotator: page change", press, shown, "PageDown", repeat=20)
    measure("annotator: arrow key", press, shown, "ArrowRight", repeat=20)
    measure("annotator: sorted by label quality", setattr, shown.sorting, "value", "label quality")
    measure("annotator: filter not reviewed", setattr, shown.filter, "value", "not reviewed")
    measure("annotator: label changed", press, shown, "2", repeat=20)
    measure("annotator: undo", press, shown, "z", repeat=20)
    measure("annotator: page confirmed", press, shown, "Enter", repeat=20)
    press(shown, "x")
    measure("annotator: pause", pause, shown)
    if computing := getattr(shown, "computing", None):  # in a thread
        computing.join()
    measure("annotator: consequences of changes", consequences, notes, sides)
    press(shown, "z")
    measure.sent["annotator: tiles of a page"] = len(json.dumps(shown.sheet.tiles))


def review_widget(measure: Meter, found: Dataset, result: Evaluation) -> None:
    notes = Annotations(found)
    shown = measure("review: first view", ResultsBrowser, result, notes)
    measure("review: a step", press, shown, "ArrowRight", repeat=20)
    measure("review: filter wrong", press, shown, "w")
    measure("review: threshold", setattr, shown.threshold, "value", 0.7)
    measure("review: label changed", press, shown, "2", repeat=20)
    measure("review: undo", press, shown, "z", repeat=20)
    measure.sent["review: ROC curves"] = sum(line.x.nbytes + line.y.nbytes for line in shown.roc.marks[:-1])


def feature_map(measure: Meter, found: Dataset) -> None:
    features = features_of(found.files)
    measure("08 findings", findings.find, found, features)
    shown = measure("feature map: first view", FeatureMap, Annotations(found), features)
    mark = shown._marks[LABELS[0]]
    measure.sent["feature map: points"] = sum(each.x.nbytes + each.y.nbytes for each in shown._marks.values())
    measure("feature map: lasso", setattr, mark, "selected", np.arange(50))
    measure("feature map: page change", press, shown, "PageDown", repeat=20)


def write_journal(folder: Path, images: tuple[Image, ...]) -> int:
    """Confirm each image, exclude every other one and include it again, and undo every tenth change."""
    steps: list[Step] = []
    for change in range(1, JOURNAL_LINES * len(images) + 1):
        image = images[change % len(images)]
        action = "confirm" if change % 2 else ("exclude", "include")[change // len(images) % 2]
        step = Step(action, image.path, sha256=image.sha256)
        step = steps[-1].inverse() if change % 10 == 9 else step
        steps.append(replace(step, change=change, time="2026-11-30T12:00:00.000+00:00"))
    (folder / NAME).write_bytes(to_lines(steps))
    return len(steps)


def labels_stage(measure: Meter, found: Dataset) -> None:
    """Export labels, and import changed ones."""
    listed = measure("labels: folder listed", exchange.list_folder, found.folder)
    rows, _ = measure("labels: rows to export", exchange.rows_of, listed)
    table = files.proc_dir(NAMED) / "labels.csv"
    for kind in label_files.FORMATS:
        measure(f"labels: written as {kind}", label_files.write, table, kind, rows)
        measure(f"labels: read from {kind}", label_files.read, table)
    changed = [
        label_files.Labelled(row.path, (LABELS[LABELS.index(row.labels[0]) - (k % 10 == 0)],))
        for k, row in enumerate(rows)
    ]
    planned = measure(
        "labels: import planned", exchange.plan, listed, label_files.LabelFile("CSV", tuple(changed))
    )
    assert len(planned.relabel) == -(-len(rows) // 10)
    measure("labels: import carried out", exchange.carry_out, listed, planned)
    undone = Annotations(found)
    measure("labels: import undone", undone.undo)
    measure("labels: import redone", undone.redo)
    undone.undo()


def journal_stage(measure: Meter, found: Dataset) -> None:
    lines = write_journal(found.folder, found.files)
    opened = measure("journal read", Journal, found.folder)
    measure("journal: fingerprint", opened.fingerprint)
    notes = measure("journal: labels opened", Annotations, found)
    shown = measure("journal: annotator, first page", Annotator, notes)
    measure("journal: page change", press, shown, "PageDown", repeat=20)
    measure("journal: label changed", press, shown, "2", repeat=20)
    measure("journal: undo", press, shown, "z", repeat=20)
    shorter = measure("journal compacted", compaction.compact, found.folder)
    assert shorter.before >= lines and shorter.helps
    measure("journal read after that", Journal, found.folder)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(count: int) -> dict:
    """Return processor seconds and bytes by step, and the peak memory after each stage, MB."""
    measure, peaks = Meter(), {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMGCLF_DATA"] = folder
        written = write_images(dataset.images_folder(NAMED), count)
        dataset.write(written)
        split.write(written, split.split(written))
        found = measure("images.tsv read", dataset.read, NAMED)
        parts = measure("split.tsv read", split.read, found)
        train_stage(measure, found, parts)
        peaks["04"] = peak_mb()
        result = evaluate_stage(measure, found, parts)
        suspects, scores = suspects_stage(measure, found)
        peaks["05"] = peak_mb()
        review_widget(measure, found, result)
        annotator(measure, found, suspects, scores)
        peaks["widgets"] = peak_mb()
        feature_map(measure, found)
        peaks["feature map"] = peak_mb()
        (found.folder / NAME).unlink()
        labels_stage(measure, found)
        journal_stage(measure, found)
        peaks["journal"] = peak_mb()
    return {"seconds": measure.seconds, "sent": measure.sent, "peaks": peaks}


def report_table(results: dict[int, dict]) -> None:
    counts = list(results)
    print(f"{'processor ms':44s}", *(f"{count:>10,}" for count in counts), "  last : first, for an image")
    for name in results[counts[0]]["seconds"]:
        values = [1000 * results[count]["seconds"][name] for count in counts]
        growth = values[-1] / counts[-1] / (values[0] / counts[0]) if values[0] else 0
        print(f"{name:44s}", *(f"{value:10,.1f}" for value in values), f"{growth:8.2f}")
    for name in results[counts[0]]["sent"]:
        print(f"{name + ', bytes':44s}", *(f"{results[count]['sent'][name]:10,}" for count in counts))
    for name in results[counts[0]]["peaks"]:
        print(
            f"{'peak memory after ' + name + ', MB':44s}",
            *(f"{results[count]['peaks'][name]:10,.0f}" for count in counts),
        )


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(int(sys.argv[2]))))
        return
    results = {}
    for count in map(int, sys.argv[1:] or DEFAULT):
        run = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], check=True, stdout=subprocess.PIPE
        )
        results[count] = json.loads(run.stdout.splitlines()[-1])
    report_table(results)


if __name__ == "__main__":
    main()

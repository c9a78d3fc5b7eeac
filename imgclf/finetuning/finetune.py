"""Refining a pretrained network: its last stages, and a new last layer, learn from our own images."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.data import dataset, split
from imgclf.data.dataset import Dataset, Image
from imgclf.files import FIXED_NETWORK, REFINED_NETWORK
from imgclf.finetuning import checkpoint, frozen, learning_curve, record, training_set
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.loop import Progress, Training
from imgclf.finetuning.recipe import ALL, Recipe, schedule_note
from imgclf.finetuning.record import Record
from imgclf.finetuning.training_set import TrainingSet
from imgclf.images.loading import skipped_note
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.backbones import Backbone
from imgclf.parameters import SVM
from imgclf.svm import Head

if TYPE_CHECKING:
    import torch

    from imgclf.finetuning.cntk_loop import CntkTraining

FOLDER, CHECKPOINT = "refining", "checkpoint.npz"
PROBE_C = 10.0  # of the logistic regression that the last layer begins as, on features of mean length 1
VERSION = 2  # part of the fingerprint: raise it when the same recipe gives another result

Show = Callable[[Sequence[Epoch]], None]


@dataclass(frozen=True)
class Result:
    """What notebook 02 shows of a refinement.

    Attributes
    ----------
    epochs : its curve; empty if nothing was refined. notes : sentences about it.
    """

    epochs: tuple[Epoch, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.notes)


def refine(
    dataset_name: str,
    images_dir: str,
    classifier: str,
    backbone: Backbone,
    recipe: Recipe,
    *,
    engine: str = "openvino",
    show: Show = lambda epochs: None,
    progress: Progress = lambda done, total: None,
) -> Result:
    """Refine a backbone on the training images, and write `dnn_refined.onnx`, `dnn_head.npz` and `dnn_refined.json` into the data set's folder.

    With `classifier="svm"` it does nothing and needs no images. What was refined before with the same images, labels and knobs is not refined
    again. A run that was killed goes on behind its last whole epoch, and comes to the same result; one that is interrupted keeps the best so far.

    Parameters
    ----------
    engine : "cntk" learns in CNTK; with any other, torch learns.
    show : called with the curve so far after each epoch. progress : called with the images done and those in all of an epoch.

    Raises
    ------
    ImgclfError : no split, no label to tell from another, no image that can be read, too little memory on the GPU.
    """
    if classifier == SVM:
        return Result((), (f"classifier='{SVM}': the network stays as it is, nothing is refined",))
    found = dataset.read(dataset_name, images_dir)
    parts = split.read(found)
    proc = files.proc_dir(dataset_name)
    preprocessing = engines.preprocessing(proc / FIXED_NETWORK)
    fingerprint = _fingerprint(recipe, preprocessing, proc / FIXED_NETWORK, parts.train, engine)
    done, skipped = record.read(proc), []
    if done is None or done.fingerprint != fingerprint or done.was_interrupted:
        examples, skipped = training_set.prepare(
            found,
            parts.train,
            parts.clusters_of(parts.train),
            preprocessing=preprocessing,
            folder=proc / FOLDER,
            seed=recipe.seed,
        )
        learn = _refine_in_cntk if engine == engines.CNTK else _refine
        done = learn(found, examples, backbone, recipe, fingerprint=fingerprint, show=show, progress=progress)
    show(done.epochs)
    return Result(
        done.epochs,
        (
            *notes(done, recipe, len(parts.train) - len(skipped)),
            *([skipped_note(skipped)] if skipped else []),
        ),
    )


def notes(done: Record, recipe: Recipe, images: int) -> list[str]:
    """What there is to say of a refinement that was examples so many images, in sentences."""
    first = f"{images - len(done.held_back)} images to learn from, {len(done.held_back)} to tell which epoch is best"
    stopped = f"interrupted after {done.epochs[-1].number} of {recipe.epochs} epochs; the best so far is kept, and running this again goes on from there"
    schedule = schedule_note(recipe)
    return [
        first,
        *[schedule] * bool(schedule),
        learning_curve.gained(done.epochs),
        *[stopped] * done.was_interrupted,
        *learning_curve.diagnoses(done.epochs, recipe, validate=len(done.held_back)),
    ]


def _fingerprint(
    recipe: Recipe, preprocessing: Preprocessing, network: Path, train_images: Sequence[Image], engine: str
) -> str:
    parts = [
        VERSION,
        recipe.about(),
        preprocessing.as_json(),
        files.sha256(network),
        dataset.fingerprint(train_images),
        *[engine] * (engine == engines.CNTK),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _refine(
    found: Dataset,
    examples: TrainingSet,
    backbone: Backbone,
    recipe: Recipe,
    *,
    fingerprint: str,
    show: Show,
    progress: Progress,
) -> Record:
    """Train, and write what comes of it."""
    proc, preprocessing = (
        files.proc_dir(found.name),
        engines.preprocessing(files.proc_dir(found.name) / FIXED_NETWORK),
    )
    network, head = backbones.build(backbone), probe(found, examples, recipe.seed)
    kept = proc / FOLDER / CHECKPOINT
    with _enough_memory(recipe, preprocessing.input_size):
        training = _prepared_training(network, backbone, examples, recipe, head)
        if before := checkpoint.read(kept, fingerprint=fingerprint):
            training.restore(*before)
        was_interrupted = not _train(training, kept, fingerprint, show, progress)
        training.finish()
    frozen.export(backbone, network, preprocessing, proc / REFINED_NETWORK)
    last = training.model[-1]
    return _write(
        found,
        examples,
        training,
        last.weight.detach().cpu().numpy(),
        last.bias.detach().cpu().numpy(),
        fingerprint=fingerprint,
        was_interrupted=was_interrupted,
    )


def _refine_in_cntk(
    found: Dataset,
    examples: TrainingSet,
    backbone: Backbone,
    recipe: Recipe,
    *,
    fingerprint: str,
    show: Show,
    progress: Progress,
) -> Record:
    """The same with CNTK; the network is read from `dnn_fixed.onnx`, so any backbone will do."""
    from imgclf.finetuning.cntk_loop import CntkTraining

    proc = files.proc_dir(found.name)
    training = CntkTraining(
        found,
        examples,
        recipe,
        begin=probe(found, examples, recipe.seed) if recipe.trainable_stages == ALL else None,
    )
    kept = proc / FOLDER / CHECKPOINT
    if before := checkpoint.read(kept, fingerprint=fingerprint):
        training.restore(*before)
    was_interrupted = not _train(training, kept, fingerprint, show, progress)
    weights, offsets = training.finish()
    return _write(
        found, examples, training, weights, offsets, fingerprint=fingerprint, was_interrupted=was_interrupted
    )


def _write(
    found: Dataset,
    examples: TrainingSet,
    training: "Training | CntkTraining",
    weights: np.ndarray,
    offsets: np.ndarray,
    *,
    fingerprint: str,
    was_interrupted: bool,
) -> Record:
    """Write the last layer and the record beside the refined network."""
    proc, recipe = files.proc_dir(found.name), training.recipe
    done = Record(
        fingerprint,
        dataset.fingerprint(split.read(found).train),
        files.sha256(proc / REFINED_NETWORK),
        tuple(examples.images[row].sha256 for row in examples.held_back),
        tuple(training.epochs),
        recipe.about(),
        was_interrupted,
    )
    record.write(proc, own_head(weights, offsets, examples, proc / REFINED_NETWORK), done)
    _clear(proc, with_training=not was_interrupted)
    return done


def _clear(proc: Path, *, with_training: bool) -> None:
    """Remove what nobody will read again: features by earlier refined networks and, of a refinement that is done, its decoded images and checkpoint."""
    for folder in (proc / "features").glob(f"{Path(REFINED_NETWORK).stem}-*"):
        shutil.rmtree(folder)
    if with_training:
        shutil.rmtree(proc / FOLDER)


def _prepared_training(
    network: "torch.nn.Module", backbone: Backbone, examples: TrainingSet, recipe: Recipe, head: Head
) -> Training:
    """The network cut in two, with its new last layer, before the first step."""
    import torch
    from torch import nn

    device, size = frozen.chosen_device(), examples.pixels.side
    front, learner = frozen.cut(network, recipe.trainable_stages)
    frozen.freeze(front, also_depthwise=True)
    frozen.freeze(learner, also_depthwise=recipe.trainable_stages != "all")
    last = nn.Linear(head.weights.shape[1], len(examples.labels))
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(head.weights))
        last.bias.copy_(torch.from_numpy(head.offsets))
    held_back = training_set.unchanged(examples, examples.held_back, batch_size=frozen.AT_ONCE)
    maps = list(frozen.start_front(backbone, front, size, device=device)(held_back))
    return Training(
        nn.Sequential(*learner, nn.Dropout(recipe.dropout), last),
        examples,
        recipe,
        device=device,
        held_back=maps,
        front=frozen.start_front(backbone, front, recipe.train_size(size), device=device),
    )


def _train(
    training: "Training | CntkTraining", kept: Path, fingerprint: str, show: Show, progress: Progress
) -> bool:
    """Run the epochs that are left, with a checkpoint after each; whether all of them were done."""
    try:
        training.start()
        show(training.epochs)
        while len(training.epochs) <= training.recipe.epochs:
            training.epoch(progress)
            arrays, about = training.state()
            checkpoint.write(kept, arrays, about={**about, "fingerprint": fingerprint})
            show(training.epochs)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _enough_memory(recipe: Recipe, input_size: int) -> Iterator[None]:
    """Turn "out of memory" of the GPU into a sentence that names what to make smaller."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ImgclfError(
            f"batch_size={recipe.batch_size}, input_size={input_size}: the memory of the GPU is too small for that; make one of them smaller. "
            "The epochs that were done are kept: with the same parameters, once other programs have left the GPU, it goes on behind them"
        ) from error


def probe(found: Dataset, examples: TrainingSet, seed: int) -> Head:
    """The linear classifier on the features of the network as it is, from which the new last layer begins.

    Begun at random it would spoil, in the first steps, what the network knows. The features are those of 03_run_dnn, kept in the same place.

    Source: A. Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", arXiv 2202.10054.
    """
    from sklearn.linear_model import LogisticRegression

    network = files.proc_dir(found.name) / FIXED_NETWORK
    cache = features.Cache.of(found.name, network)
    features.compute(found, network, cache, subset=examples.images)
    learned = [examples.images[row] for row in examples.learned]
    matrix = cache.features(learned).matrix
    length = float(np.linalg.norm(matrix, axis=1).mean()) or 1.0
    machine = LogisticRegression(C=PROBE_C, max_iter=300, random_state=seed).fit(
        matrix / length, examples.truth[examples.learned]
    )
    weights, offsets = machine.coef_ / length, machine.intercept_
    if len(weights) == 1:  # of two labels it only keeps the difference
        weights, offsets = np.vstack([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
    return Head(
        examples.labels,
        weights.astype(np.float32),
        offsets.astype(np.float32),
        l2_normalize=False,
        c=PROBE_C,
        temperature=1.0,
    )


def own_head(weights: np.ndarray, offsets: np.ndarray, examples: TrainingSet, network: Path) -> Head:
    """The network's own last layer, with the temperature that fits the images that validated, as the written network describes them."""
    head = Head(examples.labels, weights, offsets, l2_normalize=False, c=float("nan"), temperature=1.0)
    rows = examples.held_back
    scores = (
        head.scores(features.of_pixels(network, examples.pixels.of(rows)))
        if len(rows)
        else np.empty((0, len(examples.labels)), np.float32)
    )
    return Head(
        examples.labels,
        weights,
        offsets,
        l2_normalize=False,
        c=head.c,
        temperature=svm.temperature(scores, examples.truth[rows]),
    )

"""Fine-tuning: train the last stages of a pretrained network, and a new last layer, on our images."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgclf import ImgclfError, engines, features, files, svm
from imgclf.data import dataset as datasets
from imgclf.data import split
from imgclf.data.dataset import Dataset, Image
from imgclf.files import FIXED_NETWORK, REFINED_NETWORK
from imgclf.finetuning import checkpoint, frozen, learning_curve, record, training_set
from imgclf.finetuning.learning_curve import Epoch
from imgclf.finetuning.loop import Progress, Training
from imgclf.finetuning.recipe import ALL, Recipe, schedule_note
from imgclf.finetuning.record import Record
from imgclf.finetuning.training_set import TrainingSet
from imgclf.images.loading import Skipped, skipped_note
from imgclf.images.preprocessing import Preprocessing
from imgclf.networks import backbones
from imgclf.networks.backbones import Backbone
from imgclf.parameters import SVM
from imgclf.svm import Head

if TYPE_CHECKING:
    import torch

    from imgclf.finetuning.cntk_loop import CntkTraining

FOLDER, CHECKPOINT = "refining", "checkpoint.npz"
PROBE_C = 10.0  # of the linear probe, on features of mean length 1
VERSION = 2  # part of the fingerprint: raise it when the same recipe has another result

Show = Callable[[Sequence[Epoch]], None]


@dataclass(frozen=True)
class Result:
    """What notebook 02 shows of a fine-tuning.

    Attributes
    ----------
    epochs : the learning curve; empty if nothing was fine-tuned. notes : sentences about it.
    """

    epochs: tuple[Epoch, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.notes)


def finetune(
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
    """Fine-tune a backbone on the training images of a data set.

    Writes `dnn_refined.onnx`, `dnn_head.npz` and `dnn_refined.json` into the data set's folder. With
    `classifier="svm"` it does nothing and needs no images. A result of the same images, labels and
    hyperparameters is reused. A killed run resumes from the checkpoint of its last complete epoch, with the
    same result; an interrupted one keeps the best epoch so far.

    Parameters
    ----------
    engine : "cntk" trains in CNTK; with any other, torch trains.
    show : called with the learning curve so far after each epoch.
    progress : called with the number of images done and of all images of an epoch.

    Raises
    ------
    ImgclfError : no split, fewer than two labels, no readable image, or too little memory on the GPU.
    """
    if classifier == SVM:
        return Result((), (f"classifier='{SVM}': the network stays as it is, nothing is fine-tuned",))
    dataset = datasets.read(dataset_name, images_dir)
    parts = split.read(dataset)
    proc = files.proc_dir(dataset_name)
    preprocessing = engines.preprocessing(proc / FIXED_NETWORK)
    fingerprint = _fingerprint(recipe, preprocessing, proc / FIXED_NETWORK, parts.train, engine)
    finished = record.read(proc)
    skipped: list[Skipped] = []
    if finished is None or finished.fingerprint != fingerprint or finished.was_interrupted:
        examples, skipped = training_set.prepare(
            dataset,
            parts.train,
            parts.clusters_of(parts.train).tolist(),
            preprocessing=preprocessing,
            folder=proc / FOLDER,
            seed=recipe.seed,
        )
        train = _finetune_in_cntk if engine == engines.CNTK else _finetune_in_torch
        finished = train(
            dataset, examples, backbone, recipe, fingerprint=fingerprint, show=show, progress=progress
        )
    show(finished.epochs)
    sentences = notes(finished, recipe, len(parts.train) - len(skipped))
    if skipped:
        sentences.append(skipped_note(skipped))
    return Result(finished.epochs, tuple(sentences))


def notes(finished: Record, recipe: Recipe, images: int) -> list[str]:
    """Return sentences about a fine-tuning on so many images, validation images included."""
    validation = len(finished.held_back)
    sentences = [
        training_set.split_note(images - validation, validation),
        schedule_note(recipe),
        learning_curve.summary(finished.epochs, validation_images=validation),
    ]
    if finished.was_interrupted:
        sentences.append(
            f"interrupted after {finished.epochs[-1].number} of {recipe.epochs} epochs; "
            "the best so far is kept, and running this again resumes from there"
        )
    sentences += learning_curve.diagnose(finished.epochs, recipe, validation_images=validation)
    return [sentence for sentence in sentences if sentence]


def _fingerprint(
    recipe: Recipe, preprocessing: Preprocessing, network: Path, train_images: Sequence[Image], engine: str
) -> str:
    parts = [
        VERSION,
        recipe.as_json(),
        preprocessing.as_json(),
        files.sha256(network),
        datasets.fingerprint(train_images),
    ]
    if engine == engines.CNTK:
        parts.append(engine)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finetune_in_torch(
    dataset: Dataset,
    examples: TrainingSet,
    backbone: Backbone,
    recipe: Recipe,
    *,
    fingerprint: str,
    show: Show,
    progress: Progress,
) -> Record:
    """Train in torch, and write the network, its last layer and the record."""
    proc = files.proc_dir(dataset.name)
    preprocessing = engines.preprocessing(proc / FIXED_NETWORK)
    network, probe = backbones.build(backbone), linear_probe(dataset, examples, recipe.seed)
    checkpoint_path = proc / FOLDER / CHECKPOINT
    with _explained_gpu_memory(recipe, preprocessing.input_size):
        training = _prepare_training(network, backbone, examples, recipe, probe)
        if state := checkpoint.read(checkpoint_path, fingerprint=fingerprint):
            training.restore(*state)
        was_interrupted = not _train(training, checkpoint_path, fingerprint, show, progress)
        weights, offsets = training.finish()
    frozen.export(backbone, network, preprocessing, proc / REFINED_NETWORK)
    return _write(
        dataset,
        examples,
        training,
        weights,
        offsets,
        fingerprint=fingerprint,
        was_interrupted=was_interrupted,
    )


def _finetune_in_cntk(
    dataset: Dataset,
    examples: TrainingSet,
    backbone: Backbone,
    recipe: Recipe,
    *,
    fingerprint: str,
    show: Show,
    progress: Progress,
) -> Record:
    """Do the same in CNTK; the network is read from `dnn_fixed.onnx`, so it may be any backbone."""
    from imgclf.finetuning.cntk_loop import CntkTraining

    checkpoint_path = files.proc_dir(dataset.name) / FOLDER / CHECKPOINT
    probe = linear_probe(dataset, examples, recipe.seed) if recipe.trainable_stages == ALL else None
    training = CntkTraining(dataset, examples, recipe, initial_head=probe)
    if state := checkpoint.read(checkpoint_path, fingerprint=fingerprint):
        training.restore(*state)
    was_interrupted = not _train(training, checkpoint_path, fingerprint, show, progress)
    weights, offsets = training.finish()
    return _write(
        dataset,
        examples,
        training,
        weights,
        offsets,
        fingerprint=fingerprint,
        was_interrupted=was_interrupted,
    )


def _write(
    dataset: Dataset,
    examples: TrainingSet,
    training: "Training | CntkTraining",
    weights: np.ndarray,
    offsets: np.ndarray,
    *,
    fingerprint: str,
    was_interrupted: bool,
) -> Record:
    """Write the last layer and the record beside the fine-tuned network."""
    proc = files.proc_dir(dataset.name)
    finished = Record(
        fingerprint,
        datasets.fingerprint(split.read(dataset).train),
        files.sha256(proc / REFINED_NETWORK),
        tuple(examples.images[row].sha256 for row in examples.validation_rows),
        tuple(training.epochs),
        training.recipe.as_json(),
        was_interrupted,
    )
    record.write(proc, calibrated_head(weights, offsets, examples, proc / REFINED_NETWORK), finished)
    _remove_intermediate_files(proc, with_training=not was_interrupted)
    return finished


def _remove_intermediate_files(proc: Path, *, with_training: bool) -> None:
    """Remove features of earlier fine-tuned networks and, if finished, decoded images and checkpoint."""
    for folder in (proc / "features").glob(f"{Path(REFINED_NETWORK).stem}[-.]*"):  # .int8: quantized
        shutil.rmtree(folder)
    if with_training:
        shutil.rmtree(proc / FOLDER)


def _prepare_training(
    network: "torch.nn.Module", backbone: Backbone, examples: TrainingSet, recipe: Recipe, probe: Head
) -> Training:
    """Return the training before its first step: the split network, with the probe as its last layer."""
    import torch
    from torch import nn

    device, size = frozen.default_device(), examples.pixels.side
    train_size = backbones.train_size(backbone, recipe.train_size(size), size)
    network.to(device)  # before it is split: the parts of a model of the Hub hold not all of its buffers
    frozen_part, trainable_part = frozen.split_network(network, recipe.trainable_stages)
    frozen.freeze(frozen_part, also_depthwise=True)
    frozen.freeze(trainable_part, also_depthwise=recipe.trainable_stages != ALL)
    last = nn.Linear(probe.weights.shape[1], len(examples.labels))
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(probe.weights))
        last.bias.copy_(torch.from_numpy(probe.offsets))
    validation = training_set.plain_batches(
        examples, examples.validation_rows, batch_size=frozen.INFERENCE_BATCH_SIZE
    )
    return Training(
        nn.Sequential(*trainable_part, nn.Dropout(recipe.dropout), last),
        examples,
        recipe,
        device=device,
        validation_maps=list(
            frozen.start_frozen_part(backbone, frozen_part, size, device=device)(validation)
        ),
        frozen_part=frozen.start_frozen_part(backbone, frozen_part, train_size, device=device),
        train_size=train_size,
        frozen_weights=frozen_part.parameters(),
    )


def _train(
    training: "Training | CntkTraining",
    checkpoint_path: Path,
    fingerprint: str,
    show: Show,
    progress: Progress,
) -> bool:
    """Train the remaining epochs, with a checkpoint after each; return whether all of them were done."""
    try:
        training.start()
        show(training.epochs)
        while len(training.epochs) <= training.recipe.epochs:
            training.train_epoch(progress)
            arrays, about = training.state()
            checkpoint.write(checkpoint_path, arrays, about={**about, "fingerprint": fingerprint})
            show(training.epochs)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _explained_gpu_memory(recipe: Recipe, input_size: int) -> Iterator[None]:
    """Turn "out of memory" of the GPU into an error that names the parameters to make smaller."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ImgclfError(
            f"batch_size={recipe.batch_size}, input_size={input_size}: the memory of the GPU is too small "
            "for that; make one of them smaller. Or wait until other programs have left the GPU: with the "
            "same parameters, training resumes after the last complete epoch"
        ) from error


def linear_probe(dataset: Dataset, examples: TrainingSet, seed: int) -> Head:
    """Return a logistic regression on the pretrained network's features: the last layer's initial weights.

    With random initial weights, the first gradient steps would distort the pretrained features. The features
    are those of 03_run_dnn, in the same cache.

    Source: A. Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", arXiv 2202.10054.
    """
    from sklearn.linear_model import LogisticRegression

    network = files.proc_dir(dataset.name) / FIXED_NETWORK
    cache = features.Cache.for_network(dataset.name, network)
    features.compute(dataset, network, cache, subset=examples.images)
    matrix = cache.features([examples.images[row] for row in examples.train_rows]).matrix
    length = float(np.linalg.norm(matrix, axis=1).mean()) or 1.0
    estimator = LogisticRegression(C=PROBE_C, max_iter=300, random_state=seed).fit(
        matrix / length, examples.targets[examples.train_rows]
    )
    weights, offsets = estimator.coef_ / length, estimator.intercept_
    if len(weights) == 1:  # for two labels scikit-learn has only the difference
        weights, offsets = np.vstack([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
    return Head(
        examples.labels,
        weights.astype(np.float32),
        offsets.astype(np.float32),
        l2_normalize=False,
        c=PROBE_C,
        temperature=1.0,
    )


def calibrated_head(weights: np.ndarray, offsets: np.ndarray, examples: TrainingSet, network: Path) -> Head:
    """Return the network's own last layer, with a temperature fitted to the validation images.

    Their features are those of the written network.
    """
    head = Head(examples.labels, weights, offsets, l2_normalize=False, c=float("nan"), temperature=1.0)
    rows = examples.validation_rows
    if not len(rows):
        return head
    scores = head.scores(features.extract(network, examples.pixels.batch(rows)))
    return replace(head, temperature=svm.fit_temperature(scores, examples.targets[rows]))

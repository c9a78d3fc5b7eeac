"""How many images are called unfamiliar: of the test images, of labels never seen, of other things."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imgclf import files, svm
from imgclf.classifier import familiarity
from imgclf.classifier.model import Classifier, Prediction
from imgclf.data import layout
from imgclf.data.dataset import Dataset
from imgclf.data.labels import NONE, UNFAMILIAR, in_words
from imgclf.data.split import Split
from imgclf.data.split_check import TRAIN
from imgclf.evaluation import intervals
from imgclf.evaluation.metrics import Accuracy, Evaluation
from imgclf.features import Features, pretrained
from imgclf.images.loading import Source
from imgclf.parameters import SVM
from imgclf.svm import CSearch

if TYPE_CHECKING:
    import pandas as pd

# Of `leave_each_out`, which trains an SVM without each label: images, labels trained on, labels left out.
MOST_IMAGES, MOST_TRAINED, MOST_LABELS = 4000, 50, 20
MOST_NAMED = 3  # labels without a result
NEVER = (
    "no image is called unfamiliar: the classifier is of an earlier version or a converted model, "
    "unfamiliar_rate was 0, or too few training images were held out to choose a threshold"
)


def _share(is_one: np.ndarray, cluster: np.ndarray) -> Accuracy:
    return Accuracy(float(is_one.mean()), intervals.accuracy(is_one, cluster), len(is_one))


def alarms(evaluation: Evaluation, classifier: Classifier) -> dict[str, Any] | None:
    """Return how many of the images are called unfamiliar, for `evaluation.json`.

    None with classifiers of older versions, and with those that call no image unfamiliar.
    """
    if not (classifier.familiar_from and len(evaluation.familiarity)):
        return None
    about = classifier.metadata["familiarity"]
    rate, held_out = about["unfamiliar_rate"], about["held_out_images"]
    is_below, cluster = evaluation.familiarity < classifier.familiar_from, evaluation.cluster_number
    found = _share(is_below, cluster)
    independent = len(is_below) / intervals.design_effect(is_below - found.value, cluster)
    return {
        "threshold": classifier.familiar_from,
        "unfamiliar_rate": rate,
        "held_out_images": held_out,
        "expected_interval": list(
            intervals.below_threshold(familiarity.rank(held_out, rate), held_out, independent)
        ),
        "unfamiliar": found.value,
        "unfamiliar_interval": list(found.interval),
    }


def alarms_in_words(figures: dict[str, Any]) -> str:
    """Return how many images of an `evaluation.json` are called unfamiliar, and whether that was expected.

    Both the share and the threshold are estimates: the share is compared with what is expected of a threshold
    that was chosen on so many held-out images. Files of older versions have the interval of the share alone.
    """
    found = figures.get("familiarity")
    if not found:
        return NEVER
    value, (low, high), rate = found["unfamiliar"], found["unfamiliar_interval"], found["unfamiliar_rate"]
    if figures.get("evaluated_on") == TRAIN:
        return f"{value:.1%} are called unfamiliar, but these are TRAINING IMAGES, each compared with itself"
    text = (
        f"{round(value * figures['images'])} of {figures['images']:,} test images are called unfamiliar: "
        f"{value:.1%} ({low:.1%} to {high:.1%}); expected were {rate:.1%}, "
    )
    if low <= rate <= high:
        return f"{text}which is within the interval"
    least, most = found.get("expected_interval", (rate, rate))
    if value > most:
        return f"{text}which is less: something about these test images differs from the training images"
    if value < least:
        return f"{text}which is more: these test images are more like the training images than those are"
    held_out = found["held_out_images"]
    return f"{text}or {least:.1%} to {most:.1%} with a threshold chosen on {held_out:,} held-out images"


def least_familiar(evaluation: Evaluation, *, most: int = 6) -> np.ndarray:
    """Return the rows of the images of lowest familiarity, lowest first; those without any are left out."""
    rows = np.argsort(evaluation.familiarity, kind="stable")  # NaN is last
    return rows[~np.isnan(evaluation.familiarity[rows])][:most]


def captions(evaluation: Evaluation, rows: np.ndarray) -> list[str]:
    """Return label and familiarity of some of the images."""
    return [
        f"{in_words(evaluation.labels[evaluation.truth[row]])}\n{evaluation.familiarity[row]:.3f}"
        for row in rows
    ]


@dataclass(frozen=True)
class LeftOut:
    """What a classifier does with the images of a label that it was not trained on.

    Attributes
    ----------
    unfamiliar : share of the images that are called unfamiliar.
    unsure : share that are rejected by the smallest probability that rejects as many images of other labels.
    taken_for : the label that most of the images get. share : of the images that get it, 0 to 1.
    """

    label: str
    unfamiliar: Accuracy
    unsure: Accuracy
    taken_for: str
    share: float


@dataclass(frozen=True)
class LeftOutLabels:
    """The results of each label, the largest share of unfamiliar images first, and how they were made."""

    results: tuple[LeftOut, ...]
    note: str

    def frame(self) -> "pd.DataFrame | None":
        """Return the results as a table of texts; None without any."""
        import pandas as pd

        cells = [
            {
                "images": f"{one.unfamiliar.images:,}",
                "unfamiliar": f"{one.unfamiliar.value:.0%}",
                "95 % interval": "{:.0%} to {:.0%}".format(*one.unfamiliar.interval),
                "unsure": f"{one.unsure.value:.0%}",
                "most are taken for": f"{in_words(one.taken_for)} ({one.share:.0%})",
            }
            for one in self.results
        ]
        index = pd.Index([one.label for one in self.results], name="label left out")
        return pd.DataFrame(cells, index=index) if cells else None


def left_out_labels(
    dataset: Dataset,
    parts: Split,
    loaded: Classifier,
    classifier: str,
    *,
    engine: str = "openvino",
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LeftOutLabels:
    """Leave out each label of the training images in turn; see `leave_each_out`.

    The features are those of the pretrained network: a fine-tuned one has learnt to tell the label. With
    "svm" the SVMs are as that of the classifier. Nothing is measured in a trial of a sweep.

    Parameters
    ----------
    loaded : the classifier of 04_train_svm. classifier : its kind.
    """
    proc = files.proc_dir(dataset.name)
    if not loaded.familiar_from:
        return LeftOutLabels((), NEVER)
    if (proc / files.TRIAL_RECORD).exists():
        return LeftOutLabels(
            (), "not measured in a trial of a sweep; run the notebooks with its values for that"
        )
    head = svm.read(proc / files.SVM_HEAD) if classifier == SVM else None
    train = pretrained.training_features(
        dataset, parts.train, classifier, engine=engine, precision=loaded.self_test.precision
    )
    found = leave_each_out(
        train,
        parts.clusters_of(train.images),
        c=head.c if head else 1.0,
        rate=loaded.metadata["familiarity"]["unfamiliar_rate"],
        l2_normalize=head.l2_normalize if head else True,
        seed=seed,
        progress=progress,
    )
    if not found:
        return LeftOutLabels((), "no label can be left out: that takes three labels, and more images of them")
    note = _note(train, {one.label for one in found})
    if not head:
        note += (
            "; by SVMs on the features of the pretrained network, since the fine-tuned one was trained with "
            "the label"
        )
    return LeftOutLabels(tuple(found), note)


def _largest(described: Features) -> tuple[list[str], list[str]]:
    """Return the labels that are trained on, and those that are left out, those with most images first."""
    names, count = np.unique(described.labels, return_counts=True)
    trained = names[np.argsort(-count, kind="stable")].tolist()[:MOST_TRAINED]
    return trained, [name for name in trained if name != NONE][:MOST_LABELS]


def _note(described: Features, with_result: set[str]) -> str:
    """Return which labels were left out of which images, and which of them have no result."""
    trained, left_out = _largest(described)
    labels = set(described.labels.tolist())
    images = int(np.isin(described.labels, trained).sum())
    which = f"each of the {len(left_out)} labels with most images"
    if len(left_out) == len(labels - {NONE}):
        which = "each label"
    note = f"{which} left out of {min(MOST_IMAGES, images):,} training images"
    if len(trained) < len(labels):
        note += f" of the {len(trained)} labels with most images"
    without = [name for name in left_out if name not in with_result]
    if without:
        named = ", ".join(without) if len(without) <= MOST_NAMED else f"{len(without)} of these labels"
        note += f"; no result for {named}: too few images that are no near-duplicates"
    return note


def leave_each_out(
    described: Features,
    clusters: np.ndarray,
    *,
    c: float = 1.0,
    rate: float = familiarity.RATE,
    l2_normalize: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LeftOut]:
    """Leave out one label in turn, train an SVM without it, and let it judge the images of the label.

    Both thresholds are chosen on out-of-fold scores of the other labels alone, those of `familiarity` with
    cosines to images of other clusters. To save time, the out-of-fold scores are those of one SVM of all
    labels without its column for the label (one-vs-rest), and cosines are of whole feature vectors. But the
    scores of the label's images are of an SVM that was trained without them.

    Parameters
    ----------
    described : features of the n training images. Of more than `MOST_TRAINED` labels, those with most images
        are trained on, and of more than `MOST_LABELS` those with most images are left out. Of more than
        `MOST_IMAGES` images of these labels, some are drawn at random.
    clusters : (n,) names of their clusters. Images of a label with near-duplicates in others do not count.
    c : of the SVMs; see `svm.train`. rate : share of ordinary images that may be rejected, 0 to 1.
    progress : called with the number of labels that were left out, and of all.

    Returns
    -------
    A result for each label, the largest share of unfamiliar images first; none if fewer than two classes
    would remain, or with too few images for a threshold.
    """
    trained, labels = _largest(described)
    rows = np.flatnonzero(np.isin(described.labels, trained))
    rows = np.sort(rows[np.random.default_rng(seed).permutation(len(rows))[:MOST_IMAGES]])
    some = Features(described.matrix[rows], tuple(described.images[row] for row in rows))
    if len(np.unique(some.labels)) < 3:
        return []
    clusters = np.unique(clusters[rows], return_inverse=True)[1]
    search = svm.train(some.matrix, some.labels, clusters, c_values=[c], l2_normalize=l2_normalize, seed=seed)
    vectors = svm.normalized(some.matrix)
    cosines = np.where(clusters[:, None] == clusters, 0, vectors @ vectors.T)
    found = []
    progress(0, len(labels))
    for done, label in enumerate(labels, start=1):
        found.append(_left_out(label, _without(label, search, some, seed), some, cosines, clusters, rate))
        progress(done, len(labels))
    return sorted(filter(None, found), key=lambda one: -one.unfamiliar.value)


def _without(label: str, search: CSearch, some: Features, seed: int) -> CSearch:
    """Return an SVM trained without a label, with the out-of-fold scores of `search` for the other labels."""
    others = some.labels != label
    head = svm.train(
        some.matrix[others],
        some.labels[others],
        np.flatnonzero(others),
        c_values=[search.head.c],
        l2_normalize=search.head.l2_normalize,
        seed=seed,
        validation=np.zeros(others.sum(), bool),  # no folds: there are out-of-fold scores
    ).head
    oof_scores = search.oof_scores[np.ix_(others, np.array(search.head.labels) != label)]
    temperature = svm.fit_temperature(oof_scores, np.searchsorted(head.labels, some.labels[others]))
    return CSearch(replace(head, temperature=temperature), oof_scores)


def _left_out(
    label: str, without: CSearch, some: Features, cosines: np.ndarray, clusters: np.ndarray, rate: float
) -> LeftOut | None:
    """Return the result of a label; None without a threshold, or without images apart from the others."""
    others = np.flatnonzero(some.labels != label)
    left = np.flatnonzero((some.labels == label) & ~np.isin(clusters, clusters[others]))
    known, head = others[without.held_out], without.head
    ordinary = svm.probabilities(without.oof_scores[without.held_out], head.temperature)
    familiar_from = familiarity.threshold(familiarity.value(cosines[np.ix_(known, others)], ordinary), rate)
    if not (familiar_from and len(left)):
        return None
    probabilities = head.probabilities(some.matrix[left])
    familiar = familiarity.value(cosines[np.ix_(left, others)], probabilities)
    sure_from = familiarity.threshold(ordinary.max(axis=1), rate)
    taken = np.bincount(probabilities.argmax(axis=1))
    cluster = np.unique(clusters[left], return_inverse=True)[1]
    return LeftOut(
        label,
        _share(familiar < familiar_from, cluster),
        _share(probabilities.max(axis=1) < sure_from, cluster),
        head.labels[int(taken.argmax())],
        float(taken.max() / taken.sum()),
    )


@dataclass(frozen=True)
class OtherThings:
    """What a classifier does with the images in the folder `unfamiliar`.

    Attributes
    ----------
    images : sorted by path.
    caught : of each image, (n,) bool: it is called unfamiliar, or none of the labels.
    unreadable : number of images that cannot be read.
    """

    images: tuple[Prediction, ...]
    caught: np.ndarray
    unreadable: int = 0

    @property
    def missed(self) -> list[Prediction]:
        """The images that are taken for a label, the most familiar first."""
        missed = [one for one, caught in zip(self.images, self.caught, strict=True) if not caught]
        return sorted(missed, key=lambda one: -(one.familiarity or 0))

    @property
    def captions(self) -> list[str]:
        """Predicted label and familiarity of each image of `missed`."""
        return [f"{in_words(one.label)}\n{one.familiarity or 0:.2f}" for one in self.missed]

    def __str__(self) -> str:
        unreadable = f"; {self.unreadable} cannot be read" if self.unreadable else ""
        if not self.images:
            return (
                f"no images of other things{unreadable}: put some into a folder {UNFAMILIAR}/ beside the "
                "labels to measure how many of them are caught"
            )
        share = _share(self.caught, np.arange(len(self.caught)))
        return (
            f"of the images of other things in {UNFAMILIAR}/, {share} are caught; {len(self.missed)} are "
            f"taken for a label{unreadable}"
        )


def other_things(
    dataset: Dataset,
    classifier: Classifier,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> OtherThings:
    """Score the images in the folder `unfamiliar`; see `layout.other_things`."""
    paths = layout.other_things(dataset.folder, dataset.layout)
    found, unreadable = [], 0
    for done, (_, one) in enumerate(classifier.predict(map(Source, paths)), start=1):
        if isinstance(one, Prediction):
            found.append(one)
        else:
            unreadable += 1
        progress(done, len(paths))
    found.sort(key=lambda one: one.path)
    familiar_from = classifier.familiar_from or 0
    caught = [one.label == NONE or (one.familiarity or 0) < familiar_from for one in found]
    return OtherThings(tuple(found), np.array(caught, bool), unreadable)

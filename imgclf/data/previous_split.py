"""The split that was written last, and what a new one changes."""

from dataclasses import dataclass, field

from imgclf import ImgclfError, first_few
from imgclf.data import split, tables
from imgclf.data.dataset import Dataset
from imgclf.data.split import Split
from imgclf.data.split_check import TEST, TRAIN

GONE = "gone"  # its content is in no file any more


@dataclass(frozen=True)
class Changes:
    """What differs from the previous split.

    Attributes
    ----------
    to_test, to_train : paths of images that changed their set.
    lost_test, lost_train : images of the previous sets that are in no set now, each with the reason.
    tested, trained : number of images in the previous sets.
    """

    to_test: tuple[str, ...]
    to_train: tuple[str, ...]
    lost_test: tuple[str, ...] = ()
    lost_train: tuple[str, ...] = ()
    tested: int = 0
    trained: int = 0

    def __str__(self) -> str:
        moved = [
            *(f"{path} (to test)" for path in self.to_test),
            *(f"{path} (to train)" for path in self.to_train),
        ]
        text = (
            f"{len(moved)} images changed their set: {first_few(moved)}"
            if moved
            else "no image changed its set"
        )
        if self.lost_train:
            text += (
                f"\n{len(self.lost_train)} of the {self.trained} training images of the last split are not "
                f"in it any more: {first_few(self.lost_train)}"
            )
        if self.lost_test:
            text += (
                f"\nCAREFUL: {len(self.lost_test)} of the {self.tested} test images of the last split are "
                f"not in it any more: {first_few(self.lost_test)}; without images that the classifier "
                "mistook, the test accuracy is too high"
            )
        return text


@dataclass(frozen=True)
class PreviousSplit:
    """The split that was written last, by the contents of the images, so that changed labels do not matter.

    Attributes
    ----------
    subset_of : for the sha256 of each image, "train", "test" or "left out"; empty if there was no split.
    path_of : for the sha256 of each image, its path then.
    """

    subset_of: dict[str, str]
    train_fraction: float = 0.75
    split_by: str = "image"
    seed: int = 0
    path_of: dict[str, str] = field(default_factory=dict)

    def repeat(self, dataset: Dataset) -> Split:
        """Split a data set with the same settings."""
        return split.split(
            dataset, train_fraction=self.train_fraction, split_by=self.split_by, seed=self.seed
        )

    def changes(self, dataset: Dataset, after: Split) -> Changes:
        """Return what a later split of the data set changes."""
        was = self.subset_of
        used = {image.sha256 for image in (*after.train, *after.test, *after.excluded)}
        reason = {image.sha256: image.excluded for image in dataset.files if image.excluded}

        def lost(name: str) -> tuple[str, ...]:
            return tuple(
                f"{self.path_of.get(sha256, sha256)} ({reason.get(sha256, GONE)})"
                for sha256, subset in was.items()
                if subset == name and sha256 not in used
            )

        counts = list(was.values())
        return Changes(
            to_test=tuple(image.path for image in after.test if was.get(image.sha256) == TRAIN),
            to_train=tuple(image.path for image in after.train if was.get(image.sha256) == TEST),
            lost_test=lost(TEST),
            lost_train=lost(TRAIN),
            tested=counts.count(TEST),
            trained=counts.count(TRAIN),
        )


def read(dataset_name: str) -> PreviousSplit:
    """Return the split that was written last; empty if there is none that can be read."""
    try:
        rows = tables.read(split.table(dataset_name))
        settings = split.read_settings(dataset_name)
        return PreviousSplit(
            {row["sha256"]: row["split"] for row in rows},
            settings["train_fraction"],
            settings["split_by"],
            settings["seed"],
            {row["sha256"]: row["path"] for row in rows},
        )
    except (ImgclfError, OSError, KeyError, ValueError):
        return PreviousSplit({})  # 01_prepare_data computes the split again

"""How the images were split, in sentences for a reader who knows neither the notebooks nor the folder."""

from collections import Counter

from imgclf.data import test_list
from imgclf.data.dataset import COPY, IGNORED, LEFT_OUT, Dataset
from imgclf.data.split import Split


def text(dataset: Dataset, split: Split) -> str:
    """Return how many images are in each set, how they were chosen, and what is doubtful, line by line."""
    images = f"{len(split.train):,} images train, {len(split.test):,} test, in {dataset.labels_note()}."
    lines = [images, _chosen(dataset, split), _groups(dataset, split), _duplicates(dataset, split)]
    return "\n".join(filter(None, [*lines, split.caution()]))


def _chosen(dataset: Dataset, split: Split) -> str:
    if test_list.read(dataset.folder):
        return f"The test images are those of a list ({' or '.join(test_list.NAMES)})."
    given = [
        name for name in dataset.layout.test if any(i.path.startswith(f"{name}/") for i in dataset.files)
    ]
    if given:
        return f"The test images are those in the folder {' and '.join(given)}."
    return (
        f"The split is by the content of the files, {split.train_fraction:.0%} of the images of each label "
        f"to train (seed {split.seed})."
    )


def _groups(dataset: Dataset, split: Split) -> str:
    groups = {image.group for image in dataset.images if image.group}
    if not groups:
        return ""
    are = "stay in one set" if split.split_by == "group" else "are divided between the sets"
    return f"The images of a group (a folder below the labels, {len(groups):,} groups) {are}."


def _duplicates(dataset: Dataset, split: Split) -> str:
    reasons = Counter(image.excluded.split(" of ")[0] for image in dataset.excluded)
    exact, near = (reasons[kind.removesuffix(" of ")] for kind in COPY)
    sentences = [f"Exact copies of other images are left out ({exact:,})."] if exact else []
    if dataset.near_duplicates == IGNORED:
        sentences.append("Near-duplicates were not looked for; any in both sets make the accuracy too high.")
    elif dataset.near_duplicates == LEFT_OUT:
        sentences.append(f"Near-duplicates are left out ({near:,}).")
    elif not split.divided:
        pairs = sum(not pair.is_exact for pair in dataset.duplicates)
        sentences.append(f"Near-duplicates stay in one set ({pairs:,} pairs).")
    if split.excluded:
        sentences.append(
            f"Training images that are duplicates of test images are left out ({len(split.excluded):,})."
        )
    return " ".join(sentences)

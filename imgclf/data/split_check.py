"""What `split.tsv` must fulfil, whoever wrote or edited it, and what the settings of a split can do.

Each check returns its first fault, or "".
"""

from collections.abc import Iterable, Mapping, Sequence

from imgclf.data import test_list
from imgclf.data.dataset import Dataset, Image

TRAIN, TEST = "train", "test"
EXCLUDED = "left out"  # the subset of excluded images in split.tsv, as version 0.1.0 wrote it
SUBSETS = (TRAIN, TEST, EXCLUDED)

Row = Mapping[str, str]


def row_fault(rows: Sequence[Row], images: Mapping[str, Image]) -> str:
    """Return what is wrong with a single row, or that an image has none.

    Parameters
    ----------
    rows : with the columns path, split and sha256. images : of `images.tsv`, by path.
    """
    seen = set()
    for row in rows:
        path, subset = row["path"], row["split"]
        if path not in images:
            return f"{path} is not among the images that images.tsv uses"
        if path in seen:
            return f"{path} is in two rows"
        if subset not in SUBSETS:
            return f"{path}: split is '{subset}', not one of {', '.join(SUBSETS)}"
        if row["sha256"] != images[path].sha256:
            return f"{path}: another sha256 than in images.tsv"
        seen.add(path)
    if missing := [path for path in images if path not in seen]:
        return f"{len(missing)} of the {len(images)} images of images.tsv have no row, as {missing[0]}"
    return ""


def cluster_fault(rows: Sequence[Row], images: Mapping[str, Image], cluster: Mapping[str, str]) -> str:
    """Return which images are together by the data set, but not by the rows; or are in both sets.

    The rows may keep more images together than the data set does.

    Parameters
    ----------
    cluster : for each path the name of its cluster, from the duplicates and groups of the data set.
    """
    stored: dict[str, Row] = {}
    for row in rows:
        first = stored.setdefault(cluster[row["path"]], row)
        if first["cluster"] != row["cluster"]:
            return f"{first['path']} and {row['path']} are duplicates or of one group, but not in one cluster"
    sides: dict[str, Row] = {}
    for row in rows:
        for mark in (row["cluster"], images[row["path"]].sha256):
            if row["split"] != EXCLUDED and (first := sides.setdefault(mark, row))["split"] != row["split"]:
                return (
                    f"{first['path']} ({first['split']}) and {row['path']} ({row['split']}) are of one "
                    "cluster of duplicates, but in both sets"
                )
    tested = {cluster[row["path"]] for row in rows if row["split"] == TEST}
    for row in rows:
        if row["split"] == EXCLUDED and cluster[row["path"]] not in tested:
            return f"{row['path']} is left out, but is no duplicate of a test image"
    return ""


def label_fault(rows: Iterable[Row], images: Mapping[str, Image]) -> str:
    """Return the labels that no training image has."""
    trained = {images[row["path"]].label for row in rows if row["split"] == TRAIN}
    if untrained := sorted({image.label for image in images.values()} - trained):
        return f"no image of {', '.join(untrained)} is in the training set"
    return ""


def idle_settings(dataset: Dataset, *, split_by: str) -> dict[str, str]:
    """Return the parameters of the split that have no effect on this data set, each with the reason."""
    found = {}
    layout = dataset.layout
    if test_list.read(dataset.folder):
        found["train_fraction"] = (
            f"the list of dedicated test images ({' or '.join(test_list.NAMES)}) decides"
        )
    elif any(image.path.partition("/")[0] in layout.test for image in dataset.files):
        found["train_fraction"] = f"the folders {', '.join(layout.sets)} are the split"
    if split_by == "group" and not any(image.group for image in dataset.images):
        found["split_by"] = "no image is in a subfolder of its label, so that there are no groups"
    return found

"""The consequences of changed labels: which images move between training and test set, what to run again."""

from collections import Counter
from collections.abc import Iterable

from imgclf import ImgclfError
from imgclf.annotation.annotations import Annotations
from imgclf.data.dataset import BY_HAND, Image, is_current, scanned_images
from imgclf.data.previous_split import PreviousSplit


def consequences(annotations: Annotations, sides: PreviousSplit) -> str:
    """Return the consequences of the changes since 01_prepare_data ran; empty if there are none.

    The text says which images move between training and test set, and which notebooks to run again.
    """
    if is_current(annotations.dataset, annotations.journal):
        return ""
    # Not `annotations.dataset`: another process may have scanned the images since, as Train again does.
    scanned = _states(scanned_images(annotations.dataset.name))
    changed = (_states(tuple(annotations.images)) - scanned).total()
    text = f"{changed} image{'' if changed == 1 else 's'} changed since 01_prepare_data ran"
    if sides.subset_of:
        try:
            now = annotations.current_dataset()
            text += f"; in the split, {sides.changes(now, sides.repeat(now))}"
        except ImgclfError as error:
            text += f"; a new split is not possible: {error}"
    return f"{text}. Run 01_prepare_data to 05_evaluate again (cached features are reused)."


def _states(images: Iterable[Image]) -> Counter[tuple[str, str, bool]]:
    """Count the images by content, label, and whether a person excluded them."""
    return Counter((image.sha256, image.label, image.excluded == BY_HAND) for image in images)

"""Grids of photographs, as JPEG: PNG takes five times the bytes for them."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from imgclf.data import sampling
from imgclf.data.dataset import Dataset, Image
from imgclf.plots.text import plain, short

TILE_INCHES = 1.6
JPEG = {"quality": 85}  # for Pillow


class Photographs(Figure):
    """A figure that notebooks show as JPEG."""

    def _ipython_display_(self) -> None:
        from IPython.core.pylabtools import print_figure
        from IPython.display import display

        encoded = print_figure(self, "jpeg", base64=True, pil_kwargs=JPEG)
        display({"image/jpeg": encoded, "text/plain": repr(self)}, raw=True)


def grid(
    pixels: Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 6,
    even_empty: bool = True,
) -> None:
    """Draw images as tiles of one size, each below its caption.

    Parameters
    ----------
    pixels : (H, W, 3) uint8 RGB arrays of any size.
    even_empty : whether a title stands for tiles where there are none.
    """
    if not (len(pixels) or even_empty):
        return
    captions = [plain("\n".join(short(line, 24) for line in caption.split("\n"))) for caption in captions]
    title = plain(title if len(pixels) else f"{title}: none")
    columns = min(columns, max(1, len(pixels)))
    rows = max(1, -(-len(pixels) // columns))
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    height = rows * (TILE_INCHES + 0.17 * lines) if len(pixels) else 0.2
    figure, axes = plt.subplots(
        rows,
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(columns * TILE_INCHES, height + 0.4),
        FigureClass=Photographs,
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, tile, caption in zip(axes.flat, pixels, captions, strict=False):
        ax.imshow(tile)
        ax.set_title(caption, fontsize=8)
    figure.suptitle(title, fontsize=10)


def samples(found: Dataset, images: Sequence[Image], *, per_label: int, title: str) -> None:
    """Draw some images of each label, evenly spaced in its folder; fewer if there are many labels."""
    chosen = sampling.sample(images, per_label=per_label)
    labels, shown = ({image.label for image in some} for some in (images, chosen))
    each = min(per_label, max(1, len(chosen) // max(1, len(shown))))
    title += f"{each} of each label, evenly spaced in its folder"
    if len(shown) < len(labels):
        title += f"\n{len(shown)} of {len(labels)} labels, evenly spaced in their order"
    grid([found.thumbnail(image.path) for image in chosen], [image.path for image in chosen], title=title)

"""How well class activation maps find the garment in images of the demo set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imgclf.classifier.activation_maps import ActivationMap
from imgclf.collect import demo


@dataclass(frozen=True)
class Located:
    """How well a map finds the garment.

    Attributes
    ----------
    on_garment : share of the map's positive values. by_chance : the garment's share of the image.
    hits : whether the strongest place is on the garment (the pointing game).
    """

    on_garment: float
    by_chance: float
    hits: bool


def sources() -> Mapping[str, str]:
    """The source of each file name of the demo set."""
    return {f"{source.removeprefix('demo:').replace('/', '_')}.jpg": source for _, source in demo.sources()}


def located(found: ActivationMap, mask: np.ndarray) -> Located:
    """Compare a map with the garment's coverage of the image, (h, w) from 0 to 1."""
    values = np.maximum(found.on(*mask.shape), 0)
    strongest = np.unravel_index(values.argmax(), values.shape)
    share = float((values * mask).sum() / max(values.sum(), 1e-12))
    return Located(share, float(mask.mean()), bool(mask[strongest] > 0.5))

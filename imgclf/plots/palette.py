"""Colours, markers and line styles of labels, and how many labels a figure shows."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.colors import to_hex

COLOURS = [
    to_hex(colour) for colour in mpl.color_sequences["petroff10"]
]  # ten that colour-blind readers can distinguish
MARKERS = "osD^vP*X<>"
LINES = ("-", "--", "-.", ":")  # of labels that share a colour
MOST_LABELS = 12  # a figure of more labels draws SHOWN of them, and the others together
SHOWN = 10
LONGEST_IN_LEGEND = 24  # letters of a label
OTHERS = "0.6"  # grey


def colour(labels: Sequence[str], label: str) -> str:
    """Return the colour of a label, by its position; the same one for all of more than ten labels."""
    return COLOURS[list(labels).index(label)] if len(labels) <= len(COLOURS) else COLOURS[0]

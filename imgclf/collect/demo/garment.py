"""A garment: pieces of cloth, and how they lie on each other.

Lengths are in half shoulder widths (about 21 cm): x to the right, y down from the base of the neck.
"""

from dataclasses import dataclass, field

from .outline import Point, Tube, ribbon


@dataclass(frozen=True)
class Part:
    """A piece of cloth: its border, the tube it is wrapped around, and how it lies on what is below."""

    outline: list[Point]
    tube: Tube
    is_plain: bool = False  # of the trimming colour, without the texture
    is_ribbed: bool = False
    tone: float = 1.0  # lightness; below 1 inside a neck or a hood
    lift: float = 0.3  # darkness of the shadow it casts, 0 to 1


@dataclass(frozen=True)
class Detail:
    """Something small drawn on top: a seam, a button, a string."""

    outline: list[Point]
    kind: str  # "seam", "button", "string", "metal"


@dataclass
class Garment:
    """All pieces from back to front, and the tubes that arms and legs follow."""

    kind: str
    trunk: Tube
    arms: list[Tube]
    neckline: list[Point]
    sleeve_end: float  # 0 (none) to 1 (the wrist)
    has_ribs: bool  # at hem and cuffs
    forearm: Tube | None = None  # of an arm held across the front
    behind: list[Part] = field(default_factory=list)  # seen through the neck
    parts: list[Part] = field(default_factory=list)
    over: list[Part] = field(default_factory=list)  # sleeve of the forearm
    details: list[Detail] = field(default_factory=list)

    def seam(self, line: list[Point], width: float = 0.012) -> None:
        """Add a seam along `line`."""
        self.details.append(Detail(ribbon(line, width), "seam"))


@dataclass(frozen=True)
class Cut:
    """Measures of the trunk."""

    neck: float  # half width of the neck opening
    depth: float  # of the neckline
    is_pointed: bool  # a V
    slope: float  # y of the shoulder's tip
    shoulder: float
    chest: float
    waist: float
    hem: float
    length: float

"""Construction of upper-body garments: trunk, sleeves and neck."""

from dataclasses import replace

import numpy as np

from .draws import Draws
from .garment import Cut, Garment, Part
from .outline import Point, Tube, curve, mirrored, oval
from .portable_math import sine
from .trimmings import FINISHES

POSES = {
    "hanging": (0.015, 0.06),
    "spread": (0.08, 0.19),
    "bent": (-0.01, 0.03),
    "crossed": (0.05, 0.085),
}  # turns from down
KINDS = ("blouse", "hoodie", "pullover", "shirt", "sweater", "t-shirt", "vest")


def tailor(kind: str, draws: Draws, *, pose: str) -> Garment:
    """A random garment of one of `KINDS`, with its arms in one of `POSES`."""
    cut = _cut(kind, draws)
    garment = _sewn(kind, cut, pose, draws)
    _add_back(garment, cut, draws)
    _add_sleeves(garment, cut, draws)
    _add_trunk(garment, cut, draws)
    FINISHES[kind](garment, cut, draws)
    return garment


def _cut(kind: str, draws: Draws) -> Cut:
    wide = {"hoodie": 0.12, "sweater": 0.1, "pullover": 0.06, "vest": -0.06}.get(kind, 0.0) + draws.uniform(
        -0.06, 0.08
    )
    is_pointed = draws.bernoulli(
        {"blouse": 0.5, "pullover": 0.4, "vest": 0.6, "t-shirt": 0.25}.get(kind, 0.0)
    )
    depth = (
        draws.uniform(0.6, 1.0)
        if is_pointed
        else draws.uniform(0.28, 0.5 if kind in ("hoodie", "sweater") else 0.7)
    )
    waist = draws.uniform(0.68, 0.86) if kind in ("blouse", "vest") else draws.uniform(0.78, 0.92)
    return Cut(
        neck=draws.uniform(0.36, 0.5),
        depth=depth,
        is_pointed=is_pointed,
        slope=draws.uniform(0.24, 0.36),
        shoulder=0.78 if kind == "vest" else 1.0 + 0.5 * wide,
        chest=0.86 + wide,
        waist=waist + wide,
        hem=waist + wide + draws.uniform(0.02, 0.22),
        length=draws.uniform(2.5, 3.25),
    )


def _sewn(kind: str, cut: Cut, pose: str, draws: Draws) -> Garment:
    middle = (cut.chest + cut.waist) / 2
    trunk = Tube(
        (0.0, 0.0),
        0.0,
        cut.length,
        (cut.shoulder, cut.shoulder, cut.chest, middle, cut.waist, cut.hem),
        roundness=draws.uniform(0.35, 0.75),
    )
    arms = [_arm(side, cut, pose, draws) for side in (-1.0, 1.0)]
    short = {"t-shirt": 0.9, "vest": 1.0, "blouse": 0.3, "shirt": 0.25}.get(kind, 0.0)
    sleeve_end = (
        0.0
        if kind == "vest"
        else draws.uniform(0.3, 0.42)
        if draws.bernoulli(short)
        else draws.choice([1.0, 1.0, 0.78])
    )
    garment = Garment(
        kind, trunk, arms, _neckline(cut), sleeve_end, kind in ("hoodie", "sweater", "pullover")
    )
    if pose == "crossed":
        _bend_elbow(garment, draws)
    return garment


def _arm(side: float, cut: Cut, pose: str, draws: Draws) -> Tube:
    ease = (cut.chest - 0.86) * 0.6
    widths = tuple(width + ease for width in (0.12, 0.31, 0.32, 0.29, 0.26, 0.24, 0.21, 0.19))
    low, high = POSES[pose]
    spread = draws.uniform(low, high)
    bend = side * (draws.uniform(0.2, 0.35) if pose == "bent" else draws.uniform(-0.02, 0.1))
    shoulder = (side * (max(cut.shoulder, 0.98) - 0.2), cut.slope + 0.04 + 0.24 * sine(max(spread, 0.0)))
    return Tube(
        shoulder,
        side * spread,
        draws.uniform(2.3, 2.6),
        widths,
        bend,
        0.8,
        (draws.uniform(0, 3), draws.uniform(0, 3)),
    )


def _bend_elbow(garment: Garment, draws: Draws) -> None:
    """Bend one arm so that its forearm lies across the front."""
    number = draws.choice([0, 1])
    arm, side = garment.arms[number], (-1.0, 1.0)[number]
    upper = replace(arm, length=0.5 * arm.length, widths=arm.widths[:5], bend=0.0)
    garment.arms[number] = upper
    garment.forearm = Tube(
        upper.point(0.93, 0.0),
        -side * draws.uniform(0.2, 0.33),
        0.5 * arm.length,
        arm.widths[3:],
        -0.04 * side,
        0.8,
        arm.shift,
    )


def _neckline(cut: Cut) -> list[Point]:
    """From the left of the neck down and up to its right."""
    if cut.is_pointed:
        half = curve([(cut.neck, 0.03), (cut.neck * 0.62, cut.depth * 0.5), (0.0, cut.depth)], 6)
    else:
        half = curve(
            [
                (cut.neck, 0.03),
                (cut.neck * 0.88, cut.depth * 0.55),
                (cut.neck * 0.45, cut.depth * 0.93),
                (0.0, cut.depth),
            ],
            6,
        )
    return [(-x, y) for x, y in half] + half[::-1][1:]


def _add_back(garment: Garment, cut: Cut, draws: Draws) -> None:
    outline = curve([(-cut.neck, 0.03), (0.0, -0.05), (cut.neck, 0.03)], 8) + garment.neckline[::-1]
    garment.behind.append(Part(outline, garment.trunk, is_plain=draws.bernoulli(0.4), tone=0.55, lift=0.0))


def _add_sleeves(garment: Garment, cut: Cut, draws: Draws) -> None:
    is_raglan = garment.kind in ("t-shirt", "sweater", "hoodie") and draws.bernoulli(0.18)
    has_plain_cuffs, is_long = draws.bernoulli(0.35), garment.sleeve_end == 1.0
    for arm in garment.arms if garment.sleeve_end else []:
        is_cut_at_elbow = garment.forearm is not None and arm.length < 1.5
        end = min(garment.sleeve_end * (2 if is_cut_at_elbow else 1), 1.0)
        garment.parts.append(Part(arm.outline(0.0, end), arm, is_raglan, lift=0.25))
        if not is_cut_at_elbow:
            garment.parts.append(
                _cuff(garment, arm, has_plain_cuffs) if is_long else _sleeve_seam(arm, end, is_raglan)
            )
    if garment.forearm is not None and garment.sleeve_end > 0.5:
        end = 1.0 if is_long else 0.5
        (width,) = 0.95 * garment.forearm.width(np.array([0.1]))
        elbow = oval(garment.forearm.origin, width, width)
        garment.over = [
            Part(elbow, garment.forearm, is_raglan),
            Part(garment.forearm.outline(0.0, end), garment.forearm, is_raglan, lift=0.4),
        ]
        garment.over.append(
            _cuff(garment, garment.forearm, has_plain_cuffs)
            if is_long
            else _sleeve_seam(garment.forearm, end, is_raglan)
        )


def _cuff(garment: Garment, arm: Tube, is_plain: bool) -> Part:
    return Part(
        arm.outline(1.0 - 0.17 / arm.length, 1.0 + 0.05 / arm.length), arm, is_plain, garment.has_ribs
    )


def _sleeve_seam(arm: Tube, end: float, is_plain: bool) -> Part:
    return Part(
        arm.outline(end - 0.09 / arm.length, end - 0.072 / arm.length), arm, is_plain, tone=0.7, lift=0.1
    )


def _add_trunk(garment: Garment, cut: Cut, draws: Draws) -> None:
    armhole = [(cut.shoulder, cut.slope + 0.06), (cut.shoulder * 0.94, 0.62), (cut.chest * 0.99, 1.02)]
    dip = draws.uniform(0.0, 0.16) if garment.kind in ("shirt", "blouse") else draws.uniform(0.0, 0.05)
    side = [
        (cut.chest * 0.99, 1.02),
        (cut.waist, 1.05 + 0.45 * (cut.length - 1.0)),
        (cut.hem, cut.length - dip),
    ]
    if garment.has_ribs:
        side[-1:] = [(cut.hem * 1.02, cut.length - 0.22), (cut.hem * 0.93, cut.length)]
    hem = [side[-1], (cut.hem * 0.55, cut.length), (0.0, cut.length + 0.02)]
    tip = [(cut.neck, 0.03), (cut.shoulder * 0.9, cut.slope * 0.86), (cut.shoulder, cut.slope + 0.06)]
    half = [*curve(tip, 4), *curve(armhole, 6), *curve(side, 8), *curve(hem, 6)]
    garment.parts.append(Part(half + mirrored(half) + garment.neckline, garment.trunk, lift=0.35))
    for sign in (-1.0, 1.0):
        if garment.sleeve_end:
            garment.seam([(sign * x * 0.995, y) for x, y in curve(armhole, 6)])
    if not garment.has_ribs:
        garment.seam(
            [(x * 0.98, y - 0.08) for x, y in half[-7:]] + [(-x * 0.98, y - 0.08) for x, y in half[-7:][::-1]]
        )
    else:
        _add_ribbed_hem(garment, cut, draws)


def _add_ribbed_hem(garment: Garment, cut: Cut, draws: Draws) -> None:
    top, bottom, hem = cut.length - 0.12, cut.length + 0.14, cut.hem * 0.97
    half = [
        *curve([(hem * 0.98, top), (hem * 0.96, (top + bottom) / 2), (hem * 0.92, bottom)], 4),
        (0.0, bottom + 0.02),
    ]
    garment.parts.append(
        Part(half + mirrored(half) + [(0.0, top + 0.02)], garment.trunk, draws.bernoulli(0.4), True, lift=0.2)
    )

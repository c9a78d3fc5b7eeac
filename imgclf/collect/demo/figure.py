"""The person, mannequin or hanger that wears the garment, and what occludes it."""

from dataclasses import dataclass, replace

from .drape import Canvas, Folds
from .draws import Draws
from .garment import Garment, Part
from .outline import Tube, curve, mirrored, oval, ribbon
from .palette import HAIRS, SKINS, Colour, mixed, random_colour

SETTINGS = {"person": 5, "mannequin": 2, "flat": 2, "hanger": 2}


@dataclass(frozen=True)
class Figure:
    """A person, a mannequin, a hanger, or nothing (a garment laid flat)."""

    setting: str  # a key of SETTINGS
    skin: Colour
    hair: Colour
    hair_length: float  # below the chin, in half shoulder widths; 0 is short
    trousers: Colour
    has_undershirt: bool  # plain, below a vest
    undershirt: Colour


def random_figure(draws: Draws) -> Figure:
    """A random figure."""
    setting = draws.weighted_choice(SETTINGS)
    skin = (
        draws.choice(SKINS)
        if setting == "person"
        else draws.choice([(232, 228, 220), (196, 190, 182), (70, 68, 70), (224, 200, 172)])
    )
    return Figure(
        setting,
        skin,
        draws.choice(HAIRS),
        draws.choice([0.0, 0.5, draws.uniform(0.6, 1.6)]),
        random_colour(draws),
        draws.bernoulli(0.4),
        random_colour(draws),
    )


def draw_behind(canvas: Canvas, figure: Figure, garment: Garment, smooth: Folds) -> None:
    """Draw what the trunk and the sleeves cover: hair, arms, legs or a hanger."""
    if figure.setting == "hanger":
        _draw_hanger(canvas, figure)
    if figure.setting not in ("person", "mannequin"):
        return
    if figure.setting == "person" and figure.hair_length:
        back = curve(
            [
                (0.0, -1.45),
                (0.5, -1.2),
                (0.56, -0.5),
                (0.6, 0.1 + 0.3 * figure.hair_length),
                (0.4, 0.2 + 0.5 * figure.hair_length),
                (0.0, 0.3 + 0.5 * figure.hair_length),
            ],
            6,
        )
        canvas.draw_parts(
            [Part(back + mirrored(back), garment.trunk, lift=0.2)],
            smooth,
            None,
            mixed(figure.hair, (0, 0, 0), 0.3),
        )
    _draw_legs(canvas, figure, garment, smooth)
    if garment.sleeve_end or figure.setting == "person":
        _draw_arms(canvas, figure, garment, smooth)


def _draw_arms(canvas: Canvas, figure: Figure, garment: Garment, smooth: Folds) -> None:
    parts, slim = [], (0.12, 0.22, 0.2, 0.18, 0.17, 0.15, 0.12, 0.11)
    for arm in garment.arms:
        is_cut_at_elbow = garment.forearm is not None and arm.length < 1.5
        limb = replace(arm, widths=slim[:5] if is_cut_at_elbow else slim)
        parts += [Part(limb.outline(), limb)] + ([] if is_cut_at_elbow else _hand(limb))
    canvas.draw_parts(parts, smooth, None, figure.skin)
    if garment.kind == "vest":
        canvas.draw_parts(
            [_bust(garment)], smooth, None, figure.undershirt if figure.has_undershirt else figure.skin
        )
    if figure.has_undershirt and garment.kind == "vest":
        sleeves = [
            replace(arm, widths=tuple(width + 0.04 for width in slim[: len(arm.widths)]))
            for arm in garment.arms
        ]
        canvas.draw_parts(
            [Part(sleeve.outline(), sleeve) for sleeve in sleeves], smooth, None, figure.undershirt
        )


def draw_forearm(canvas: Canvas, figure: Figure, garment: Garment, smooth: Folds) -> None:
    """Draw a forearm across the front, if the garment's pose has one; its sleeve is drawn later."""
    if garment.forearm is None:
        return
    limb = replace(garment.forearm, widths=(0.16, 0.17, 0.15, 0.12, 0.11))
    elbow = Part(oval(limb.origin, 0.16, 0.16), limb, lift=0.15)
    canvas.draw_parts([elbow, Part(limb.outline(), limb, lift=0.25), *_hand(limb)], smooth, None, figure.skin)
    if figure.has_undershirt and garment.kind == "vest":
        sleeve = replace(limb, widths=tuple(width + 0.05 for width in limb.widths))
        canvas.draw_parts(
            [Part(oval(limb.origin, 0.2, 0.2), sleeve), Part(sleeve.outline(0.0, 0.95), sleeve, lift=0.4)],
            smooth,
            None,
            figure.undershirt,
        )


def _bust(garment: Garment) -> Part:
    tip = garment.arms[1].origin[1] - 0.02
    half = curve(
        [(0.2, 0.1), (0.72, tip - 0.1), (0.96, tip + 0.06), (0.92, tip + 0.5), (0.8, tip + 0.9), (0.7, 1.8)],
        6,
    )
    return Part(half + mirrored(half), garment.trunk, lift=0.0)


def _hand(arm: Tube) -> list[Part]:
    palm = Tube(arm.point(0.98, 0.0), arm.direction - 0.3 * arm.bend, 0.42, (0.1, 0.15, 0.15, 0.12, 0.05))
    thumb = Tube(palm.point(0.15, -0.6), palm.direction * 0.4, 0.24, (0.05, 0.05, 0.03))
    return [Part(thumb.outline(), thumb, lift=0.15), Part(palm.outline(), palm, lift=0.12)]


def _draw_legs(canvas: Canvas, figure: Figure, garment: Garment, smooth: Folds) -> None:
    top, wide = garment.trunk.length - 0.5, 0.92 * garment.trunk.widths[-1]
    if figure.setting == "mannequin":
        pole = Tube((0.0, top), 0.0, 4.0, (0.06, 0.06))
        canvas.draw_parts([Part(pole.outline(), pole)], smooth, None, (120, 116, 112))
        return
    hips = Tube((0.0, top), 0.0, 1.2, (wide, wide * 1.02))
    legs = [
        Tube((side * wide * 0.5, top + 0.9), side * 0.012, 3.6, (wide * 0.52, wide * 0.45, wide * 0.36))
        for side in (-1.0, 1.0)
    ]
    parts = [Part(tube.outline(), tube) for tube in (*legs, hips)]
    canvas.draw_parts(parts, replace(smooth, pulled=0.03), None, figure.trousers)


def _draw_hanger(canvas: Canvas, figure: Figure) -> None:
    metal, wood = (150, 150, 155), (176, 128, 84)
    hook = curve([(0.0, 0.1), (0.0, -0.32), (0.13, -0.42), (0.1, -0.6), (-0.03, -0.6), (-0.1, -0.5)], 6)
    canvas.fill(ribbon([(-6.0, -0.64), (6.0, -0.6)], 0.1), metal)
    canvas.fill(ribbon([(-6.0, -0.66), (6.0, -0.62)], 0.03), (215, 215, 220))
    canvas.fill(ribbon(hook, 0.045), (120, 120, 126))
    canvas.fill(ribbon(curve([(-0.7, 0.3), (0.0, 0.02), (0.7, 0.3)]), 0.12), wood)


def draw_body(canvas: Canvas, figure: Figure, garment: Garment, smooth: Folds) -> None:
    """Draw neck and head, over the inside of the garment's back and under its front."""
    if figure.setting not in ("person", "mannequin"):
        return
    neck = Tube((0.0, -0.7), 0.0, 1.8, (0.26, 0.25, 0.36, 0.8, 0.8))
    parts = [Part(neck.outline(0.0, 0.9), neck, lift=0.0)]
    if figure.setting == "mannequin":
        cut = Tube((0.0, -0.32), 0.25, 0.01, (0.26, 0.26))
        stump = replace(neck, origin=(0.0, -0.3), length=1.5, widths=(0.25, 0.28, 0.55, 0.8, 0.8))
        canvas.draw_parts(
            [
                Part(stump.outline(0.0, 0.9), stump, lift=0.0),
                Part(oval((0.0, -0.3), 0.25, 0.05), cut, tone=0.85),
            ],
            smooth,
            None,
            figure.skin,
        )
        return
    canvas.draw_parts(parts, smooth, None, mixed(figure.skin, (70, 30, 20), 0.15))
    if figure.has_undershirt and garment.kind in ("vest", "shirt", "hoodie"):
        under = [
            *curve([(-0.34, 0.12), (0.0, 0.32), (0.34, 0.12)]),
            (0.7, 0.3),
            (0.7, 1.4),
            (-0.7, 1.4),
            (-0.7, 0.3),
        ]
        canvas.draw_parts([Part(under, garment.trunk, lift=0.2)], smooth, None, figure.undershirt)
    _draw_head(canvas, figure, smooth)


def _draw_head(canvas: Canvas, figure: Figure, smooth: Folds) -> None:
    skull = Tube((0.0, -1.45), 0.0, 1.16, (0.36, 0.4, 0.4, 0.36, 0.2), roundness=0.9)
    face = curve([(0.0, -1.45), (0.33, -1.3), (0.39, -0.95), (0.34, -0.6), (0.14, -0.32), (0.0, -0.3)], 6)
    canvas.draw_parts([Part(face + mirrored(face), skull, lift=0.45)], smooth, None, figure.skin)
    canvas.fill(
        ribbon(curve([(-0.1, -0.52), (0.0, -0.5), (0.1, -0.52)]), 0.05, 0.03),
        mixed(figure.skin, (150, 40, 50), 0.5),
    )
    canvas.fill(
        ribbon(curve([(-0.045, -0.7), (0.0, -0.68), (0.045, -0.7)]), 0.03),
        mixed(figure.skin, (60, 20, 10), 0.3),
    )
    for side in (-1.0, 1.0):
        canvas.fill(
            ribbon(curve([(side * 0.09, -0.91), (side * 0.155, -0.885), (side * 0.22, -0.91)]), 0.022),
            mixed(figure.skin, (30, 20, 20), 0.8),
        )
        canvas.fill(
            ribbon(curve([(side * 0.07, -1.01), (side * 0.15, -1.05), (side * 0.24, -1.0)]), 0.035, 0.015),
            mixed(figure.skin, figure.hair, 0.8),
        )
    fringe = curve(
        [
            (0.0, -1.6),
            (0.36, -1.48),
            (0.5, -1.1),
            (0.46, -0.75),
            (0.37, -0.85),
            (0.33, -1.1),
            (0.12, -1.24),
            (0.0, -1.2),
        ],
        6,
    )
    canvas.draw_parts(
        [Part(fringe + mirrored(fringe), skull, lift=0.3)], replace(smooth, hanging=0.12), None, figure.hair
    )


OCCLUSIONS = ("hair", "strap", "bag", "scarf")


def draw_in_front(canvas: Canvas, figure: Figure, occlusions: list[str], smooth: Folds, draws: Draws) -> None:
    """Draw occlusions over the garment: hair, a strap, a bag, a scarf."""
    draw = {"hair": _draw_locks, "strap": _draw_strap, "bag": _draw_bag, "scarf": _draw_scarf}
    for occlusion in occlusions:
        draw[occlusion](canvas, figure, smooth, draws)


def _draw_locks(canvas: Canvas, figure: Figure, smooth: Folds, draws: Draws) -> None:
    for side in (-1.0, 1.0):
        low = draws.uniform(0.6, 1.7)
        parts = []
        for lock in range(5):
            x = 0.42 - 0.05 * lock
            line = curve(
                [
                    (side * x, -1.1),
                    (side * (x + 0.1), -0.4),
                    (side * (x + draws.uniform(-0.05, 0.25)), 0.5 * low),
                    (side * (x + draws.uniform(-0.1, 0.1)), low - draws.uniform(0, 0.4)),
                ],
                5,
            )
            tube = Tube((side * x, -1.1), 0.0, low + 1.1, (0.14, 0.14), roundness=0.9)
            parts.append(Part(ribbon(line, 0.24, 0.05), tube, lift=0.35))
        canvas.draw_parts(parts, replace(smooth, hanging=0.1), None, figure.hair)


def _draw_strap(canvas: Canvas, figure: Figure, smooth: Folds, draws: Draws) -> None:
    side, tube = draws.sign(), Tube((0.0, 0.0), 0.0, 3.0, (1.0, 1.0))
    line = curve([(side * 0.62, 0.05), (side * 0.45, 0.6), (-side * 0.2, 1.6), (-side * 0.9, 2.6)])
    canvas.draw_parts(
        [Part(ribbon(line, draws.uniform(0.08, 0.18)), tube, lift=0.5)], smooth, None, random_colour(draws)
    )


def _draw_bag(canvas: Canvas, figure: Figure, smooth: Folds, draws: Draws) -> None:
    side, colour = draws.sign(), random_colour(draws)
    left, top = side * draws.uniform(0.3, 0.6), draws.uniform(1.7, 2.2)
    tube = Tube((left, top), 0.0, 1.2, (0.6, 0.6))
    body = [
        (left - 0.5, top),
        (left + 0.5, top),
        *curve(
            [
                (left + 0.58, top + 0.5),
                (left + 0.5, top + 0.85),
                (left - 0.5, top + 0.85),
                (left - 0.58, top + 0.5),
            ],
            4,
        ),
    ]
    handle = ribbon(curve([(left - 0.3, top + 0.05), (side * 0.55, 0.3), (left + 0.3, top + 0.05)]), 0.07)
    canvas.draw_parts([Part(handle, tube, lift=0.4), Part(body, tube, lift=0.5)], smooth, None, colour)


def _draw_scarf(canvas: Canvas, figure: Figure, smooth: Folds, draws: Draws) -> None:
    side, low, colour = draws.sign(), draws.uniform(1.4, 2.2), random_colour(draws)
    line = curve([(side * 0.12, 0.35), (side * 0.24, 0.9), (side * draws.uniform(0.1, 0.35), low)])
    parts = []
    for thread in range(9):
        x, y = line[-1][0] + 0.044 * (thread - 4), low - 0.02
        tassel = Tube((x, y), 0.0, draws.uniform(0.12, 0.17), (0.018, 0.018))
        parts.append(Part(tassel.outline(), tassel))
    tube = Tube(line[0], 0.0, low, (0.2, 0.2), roundness=0.5)
    parts.append(Part(ribbon(line, 0.26, 0.4), tube, lift=0.5))
    for drop in (0.0, 0.14):
        loop = curve(
            [
                (-0.52, -0.12 + drop),
                (-0.34, 0.22 + drop),
                (0.0, 0.36 + drop),
                (0.34, 0.22 + drop),
                (0.52, -0.12 + drop),
            ]
        )
        parts.append(
            Part(ribbon(loop, 0.24), replace(tube, origin=(0.0, 0.0), widths=(0.6, 0.6), turn=0.0), lift=0.45)
        )
    canvas.draw_parts(parts, replace(smooth, hanging=0.12, pulled=0.05), None, colour)

"""Details that a garment has besides trunk and sleeves: collars, buttons, pockets, bows and hoods."""

from dataclasses import replace

from .draws import Draws
from .garment import Cut, Detail, Garment, Part
from .outline import curve, mirrored, oval, ribbon


def _add_neck_band(garment: Garment, is_plain: bool, width: float, is_ribbed: bool = True) -> None:
    garment.parts.append(
        Part(
            ribbon(garment.neckline, width), replace(garment.trunk, turn=0.06), is_plain, is_ribbed, lift=0.25
        )
    )


def _finish_jersey(garment: Garment, cut: Cut, draws: Draws) -> None:
    _add_neck_band(garment, draws.bernoulli(0.5), draws.uniform(0.06, 0.11))


def _finish_vest(garment: Garment, cut: Cut, draws: Draws) -> None:
    _add_neck_band(garment, draws.bernoulli(0.5), draws.uniform(0.04, 0.08), is_ribbed=False)
    if draws.bernoulli(0.5):
        _add_buttons(garment, cut.depth, cut, draws)


def _finish_knit(garment: Garment, cut: Cut, draws: Draws) -> None:
    _add_neck_band(garment, draws.bernoulli(0.4), draws.uniform(0.1, 0.16))
    if garment.kind == "sweater" and draws.bernoulli(0.4):
        roll = curve(
            [
                (-cut.neck, 0.2),
                (-cut.neck * 0.8, -0.28),
                (0.0, -0.34),
                (cut.neck * 0.8, -0.28),
                (cut.neck, 0.2),
                (0.0, cut.depth + 0.1),
                (-cut.neck, 0.2),
            ],
            6,
        )
        garment.parts.append(
            Part(
                roll,
                replace(garment.trunk, widths=(cut.neck, cut.neck), roundness=0.8),
                draws.bernoulli(0.3),
                True,
                lift=0.4,
            )
        )


def _finish_blouse(garment: Garment, cut: Cut, draws: Draws) -> None:
    if draws.bernoulli(0.45):
        _add_neck_band(garment, draws.bernoulli(0.5), draws.uniform(0.05, 0.09), is_ribbed=False)
        if draws.bernoulli(0.4):
            _add_bow(garment, cut, draws)
    else:
        _add_collar(garment, cut, draws)
    if draws.bernoulli(0.6):
        _add_buttons(garment, cut.depth, cut, draws)


def _finish_shirt(garment: Garment, cut: Cut, draws: Draws) -> None:
    _add_buttons(garment, cut.depth, cut, draws)
    _add_collar(garment, cut, draws)
    if draws.bernoulli(0.6):
        side, top = draws.sign(), 0.95
        x0, x1 = side * 0.25, side * 0.62
        pocket = [(x0, top), (x1, top), (x1, top + 0.4), ((x0 + x1) / 2, top + 0.47), (x0, top + 0.4)]
        tube = replace(garment.trunk, shift=(draws.uniform(0, 0.3), draws.uniform(0, 0.3)))
        garment.parts.append(Part(pocket, tube, lift=0.25))
        garment.seam([(x0, top + 0.06), (x1, top + 0.06)])


def _add_collar(garment: Garment, cut: Cut, draws: Draws) -> None:
    spread, drop, is_plain = draws.uniform(0.1, 0.25), draws.uniform(0.3, 0.42), draws.bernoulli(0.25)
    for side in (-1.0, 1.0):
        outer = [
            (cut.neck * 0.7, -0.13),
            (cut.neck + 0.12, 0.06),
            (cut.neck + spread * 0.6, cut.depth * 0.5 + drop * 0.5),
        ]
        point = (cut.neck * 0.45 + spread * 0.5, cut.depth * 0.75 + drop)
        inner = [(0.02, cut.depth + 0.02), (cut.neck * 0.7, cut.depth * 0.45)]
        flap = [(side * x, y) for x, y in [*curve(outer, 5), point, *inner]]
        tube = replace(garment.trunk, turn=side * 0.09, shift=(draws.uniform(0, 1), draws.uniform(0, 1)))
        garment.parts.append(Part(flap, tube, is_plain, lift=0.5))


def _add_buttons(garment: Garment, top: float, cut: Cut, draws: Draws) -> None:
    width, tube = draws.uniform(0.07, 0.1), replace(garment.trunk, shift=(draws.uniform(0, 0.2), 0.0))
    band = [(-width, top), (width, top), (width, cut.length), (-width, cut.length)]
    garment.parts.append(Part(band, tube, draws.bernoulli(0.15), lift=0.2))
    count = int(draws.uniform(4, 8))
    for step in range(count):
        centre = (0.0, top + 0.12 + (cut.length - top - 0.3) * step / (count - 1))
        garment.details.append(Detail(oval((centre[0] + 0.008, centre[1] + 0.014), 0.036, 0.036), "seam"))
        garment.details.append(Detail(oval(centre, 0.032, 0.032), "button"))


def _add_bow(garment: Garment, cut: Cut, draws: Draws) -> None:
    knot, is_plain = (0.0, cut.depth + 0.02), draws.bernoulli(0.4)
    for side in (-1.0, 1.0):
        tail = curve(
            [
                knot,
                (side * 0.14, knot[1] + 0.4),
                (side * draws.uniform(0.12, 0.3), knot[1] + draws.uniform(0.7, 1.1)),
            ]
        )
        loop = curve(
            [
                knot,
                (side * 0.3, knot[1] - 0.16),
                (side * 0.44, knot[1] + 0.02),
                (side * 0.3, knot[1] + 0.14),
                knot,
            ]
        )
        tube = replace(garment.trunk, turn=side * 0.1, shift=(1.3 * side, 0.4))
        garment.parts.append(Part(ribbon(tail, 0.08, 0.2), tube, is_plain, lift=0.45))
        garment.parts.append(Part(loop, tube, is_plain, lift=0.45))
    garment.parts.append(Part(oval(knot, 0.08, 0.09), garment.trunk, is_plain, lift=0.4))


def _finish_hoodie(garment: Garment, cut: Cut, draws: Draws) -> None:
    _add_hood(garment, cut, draws)
    if draws.bernoulli(0.35):
        line = [(0.0, cut.depth), (0.0, cut.length + 0.1)]
        garment.details += [Detail(ribbon(line, 0.07), "seam"), Detail(ribbon(line, 0.035), "metal")]
        return
    low, wide = cut.length - 0.2, draws.uniform(0.5, 0.62)
    half = [
        (wide * 0.62, low - 0.82),
        *curve([(wide * 0.66, low - 0.8), (wide * 0.8, low - 0.5), (wide, low - 0.36)], 5),
        (wide, low),
    ]
    tube = replace(garment.trunk, shift=(draws.uniform(0, 0.2), draws.uniform(0, 0.2)))
    garment.parts.append(Part(half + mirrored(half), tube, draws.bernoulli(0.2), lift=0.4))


def _add_hood(garment: Garment, cut: Cut, draws: Draws) -> None:
    is_plain, height = draws.bernoulli(0.3), draws.uniform(0.3, 0.55)
    back = [
        (-cut.neck - 0.22, 0.2),
        (-cut.neck - 0.2, -height * 0.6),
        (0.0, -height),
        (cut.neck + 0.2, -height * 0.6),
        (cut.neck + 0.22, 0.2),
    ]
    garment.behind.insert(
        0, Part([*curve(back, 6), (0.0, 0.5)], garment.trunk, is_plain, tone=0.62, lift=0.2)
    )
    for side in (-1.0, 1.0):
        outer = [
            (cut.neck * 0.75, -height * 0.55),
            (cut.neck + 0.24, -0.12),
            (cut.neck + 0.3, 0.2),
            (cut.neck * 0.75, cut.depth * 0.9),
            (0.0, cut.depth + 0.22),
        ]
        inner = [(0.0, cut.depth - 0.02), (cut.neck * 0.62, cut.depth * 0.5), (cut.neck * 0.72, 0.0)]
        lobe = [(side * x, y) for x, y in curve(outer, 6) + curve(inner, 6)]
        garment.parts.append(
            Part(lobe, replace(garment.trunk, turn=side * 0.12, shift=(side, 0.7)), is_plain, lift=0.5)
        )
        end = (side * draws.uniform(0.12, 0.22), cut.depth + draws.uniform(0.6, 1.0))
        string = curve([(side * 0.1, cut.depth + 0.08), (side * 0.17, cut.depth + 0.4), end])
        garment.details += [
            Detail(ribbon([(x + 0.02, y + 0.02) for x, y in string], 0.04), "seam"),
            Detail(ribbon(string, 0.035), "string"),
        ]


FINISHES = {
    "blouse": _finish_blouse,
    "hoodie": _finish_hoodie,
    "pullover": _finish_knit,
    "shirt": _finish_shirt,
    "sweater": _finish_knit,
    "t-shirt": _finish_jersey,
    "vest": _finish_vest,
}

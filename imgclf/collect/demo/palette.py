"""Colours of cloth, skin and hair, as (red, green, blue) from 0 to 255."""

from .draws import Draws

Colour = tuple[float, float, float]

SKINS = [(244, 208, 184), (229, 183, 150), (206, 152, 116), (172, 118, 84), (128, 84, 60), (88, 58, 44)]
HAIRS = [
    (34, 26, 24),
    (62, 42, 32),
    (104, 66, 40),
    (158, 112, 66),
    (206, 170, 112),
    (126, 54, 34),
    (150, 148, 146),
]


def from_hue(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue in turns (0 red, 1/3 green, 2/3 blue), saturation and value (HSV) from 0 to 1."""
    sector = (hue % 1.0) * 6.0
    red, green, blue = (
        255.0 * value * (1.0 - saturation + saturation * share)
        for share in (
            min(max(abs((sector + shift) % 6.0 - 3.0) - 1.0, 0.0), 1.0) for shift in (0.0, 4.0, 2.0)
        )
    )
    return red, green, blue


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """Linear interpolation of two colours; `share`: weight of `second`, 0 to 1."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Luminance of a colour, 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def random_colour(draws: Draws) -> Colour:
    """A random colour of cloth: white, black, greys, pastels, deep and bright tones."""
    family = draws.weighted_choice(
        {"white": 2, "black": 2, "grey": 1, "navy": 1, "pastel": 2, "deep": 2, "bright": 2, "earth": 1.5}
    )
    hue = draws.uniform(0, 1)
    ranges = {
        "white": (hue, (0.0, 0.08), (0.92, 1.0)),
        "black": (hue, (0.0, 0.25), (0.06, 0.16)),
        "grey": (hue, (0.0, 0.1), (0.35, 0.75)),
        "navy": (draws.uniform(0.58, 0.68), (0.5, 0.8), (0.18, 0.35)),
        "pastel": (hue, (0.12, 0.35), (0.82, 0.97)),
        "deep": (hue, (0.5, 0.85), (0.25, 0.5)),
        "bright": (hue, (0.6, 0.92), (0.7, 0.95)),
        "earth": (draws.uniform(0.04, 0.13), (0.3, 0.65), (0.4, 0.88)),
    }
    tone, saturations, values = ranges[family]
    return from_hue(tone, draws.uniform(*saturations), draws.uniform(*values))


def cloth_colours(draws: Draws, contrast: float, natural: float) -> list[Colour]:
    """Ground colour of a cloth and three colours for the marks on it.

    Parameters
    ----------
    contrast : minimum difference in lightness of the ground and the first mark, 0 to 255.
    natural : probability (0 to 1) of the tan, brown and black of a leopard.
    """
    if draws.bernoulli(natural):
        return _leopard_tones(draws, contrast)
    ground = random_colour(draws)
    marks = [_contrasting(draws, ground, contrast) for _ in range(3)]
    return [ground, *marks]


def _leopard_tones(draws: Draws, contrast: float) -> list[Colour]:
    ground = from_hue(draws.uniform(0.06, 0.12), draws.uniform(0.25, 0.6), draws.uniform(0.7, 0.97))
    dark = from_hue(draws.uniform(0.02, 0.1), draws.uniform(0.2, 0.6), draws.uniform(0.08, 0.22))
    share = min(1.0, (contrast + 40.0) / max(1.0, luminance(ground) - luminance(dark)))
    return [
        ground,
        mixed(ground, dark, share),
        mixed(ground, dark, 0.45 * share),
        mixed(ground, (255, 255, 255), 0.5),
    ]


def _contrasting(draws: Draws, ground: Colour, contrast: float) -> Colour:
    """A colour whose lightness differs from `ground` by `contrast` to twice that, where possible."""
    for _ in range(24):
        mark = random_colour(draws)
        difference = abs(luminance(mark) - luminance(ground))
        if contrast <= difference <= 2.0 * contrast + 60.0:
            return mark
    far = (245.0, 245.0, 245.0) if luminance(ground) < 128 else (18.0, 18.0, 22.0)
    return mixed(ground, far, min(1.0, contrast / abs(luminance(far) - luminance(ground))))

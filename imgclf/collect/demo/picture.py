"""One picture from its name: what is worn, by whom, where, and how it was photographed."""

from dataclasses import dataclass, replace

from .chance import Draws
from .cloth import Cloth, Weave, weave_cloth
from .drape import Canvas, Folds, Light, any_folds
from .field import PHASES_OF_NOISE
from .figure import OCCLUSIONS, Figure, any_figure, draw_behind, draw_body, draw_forearm, draw_in_front
from .garment import Garment
from .outline import View
from .palette import Colour, any_colour, mixed
from .scene import BACKGROUNDS, background, jpeg, photograph
from .tailor import KINDS, tailor

TROUBLES = {"fine": 4, "faint": 3, "between": 4, "hidden": 2, "blurred": 2, "small": 3}
SHARE_OF_TROUBLE = 0.6  # of the pictures; the rest should be easy to tell


@dataclass(frozen=True)
class Plan:
    """All that is decided before drawing."""

    shape: tuple[int, int]  # rows, columns, in pixels
    troubles: tuple[str, ...]
    weave: Weave
    figure: Figure
    pose: str  # of POSES
    light: Light
    occlusions: list[str]


def render(label: str, name: str) -> bytes:
    """The JPEG file of a garment of texture `label`; `name` alone decides everything else."""
    draws = Draws(name)
    plan = _plan(label, draws)
    garment = tailor(draws.pick(KINDS), draws, pose=plan.pose)
    cloth, colours = weave_cloth(label, draws, plan.weave)
    planes = background(draws.weighted(BACKGROUNDS), plan.shape, draws)
    canvas = Canvas(planes, _view(plan, garment, draws), plan.light)
    _draw(canvas, plan, garment, cloth, _trimming(colours, draws), draws)
    blur = (
        draws.between(1.5, 3.0)
        if "blurred" in plan.troubles
        else draws.pick([0.0, 0.5, draws.between(0.3, 0.9)])
    )
    image = photograph(planes, draws, blur=blur, grain=draws.between(0.0, 7.0))
    return jpeg(image, int(draws.between(75, 93)))


def _plan(label: str, draws: Draws) -> Plan:
    troubles = _troubles(draws)
    pitch = draws.between_scales(0.027, 0.048) if "fine" in troubles else draws.between_scales(0.13, 0.5)
    pitch *= {"leopard": 0.9, "dotted": 0.8, "striped": 0.9}[label]
    contrast = draws.between(14, 26) if "faint" in troubles else draws.between(50, 150)
    hidden = 0.6 if "hidden" in troubles else 0.1
    figure = any_figure(draws)
    possible = (
        OCCLUSIONS
        if figure.setting == "person"
        else [occlusion for occlusion in OCCLUSIONS if occlusion != "hair"]
    )
    occlusions = [occlusion for occlusion in possible if draws.chance(hidden)]
    light = Light(
        draws.between(-0.5, 0.5),
        draws.between(-0.6, 0.1),
        draws.between(0.3, 0.6),
        draws.pick([0, 0, 0.1, 0.25]),
    )
    weave = Weave(pitch, contrast, "between" in troubles)
    return Plan(_shape(draws), troubles, weave, figure, _pose(figure, hidden, draws), light, occlusions)


def _pose(figure: Figure, hidden: float, draws: Draws) -> str:
    if figure.setting == "person" and draws.chance(hidden):
        return "crossed"
    usual = {"person": {"hanging": 3, "bent": 2}, "flat": {"hanging": 2, "spread": 3}}
    return draws.weighted(usual.get(figure.setting, {"hanging": 1}))


def _troubles(draws: Draws) -> tuple[str, ...]:
    if not draws.chance(SHARE_OF_TROUBLE):
        return ()
    return tuple(draws.weighted(TROUBLES) for _ in range(draws.pick([1, 1, 2])))


def _shape(draws: Draws) -> tuple[int, int]:
    long = draws.between(560, 960)
    short = max(400.0, long * draws.between(0.62, 0.95))
    return draws.weighted(
        {(int(long), int(short)): 6, (int(short), int(long)): 2, (int(short), int(short) + 7): 2}
    )


def _view(plan: Plan, garment: Garment, draws: Draws) -> View:
    height, width = plan.shape
    length = garment.trunk.length
    reach = max(abs(arm.point(max(garment.sleeve_end, 0.3), 1.0)[0]) for arm in garment.arms) + 0.1
    fit = min(height / (length + 0.9), width / (2 * reach))
    ranges = [(0.34, 0.5)] if "small" in plan.troubles else [(0.8, 1.05), (0.9, 1.3), (1.2, 1.8)]
    zoom = draws.between(*draws.pick(ranges))
    turn = draws.between(-0.08, 0.08) if plan.figure.setting == "flat" else draws.between(-0.012, 0.012)
    middle = length * (0.46 if zoom < 1.2 else draws.between(0.35, 0.6))
    centre = (width * draws.between(0.44, 0.56), height * draws.between(0.48, 0.56))
    return View(
        centre, (0.0, middle), fit * zoom, turn, (draws.between(-0.08, 0.08), draws.between(-0.07, 0.07))
    )


def _trimming(colours: list[Colour], draws: Draws) -> Colour:
    return draws.pick([colours[0], colours[1], mixed(colours[0], colours[1], 0.5), any_colour(draws)])


def _draw(canvas: Canvas, plan: Plan, garment: Garment, cloth: Cloth, trimming: Colour, draws: Draws) -> None:
    folds = any_folds(draws)
    still = Folds(draws.table(PHASES_OF_NOISE, PHASES_OF_NOISE), 0.01, 0.0, 0.0)
    outlines = [part.outline for part in garment.parts]
    away = 6 if plan.figure.setting == "flat" else int(draws.between(10, 40))
    canvas.shadow(outlines, (int(-plan.light.x * 2 * away), away // 2), away, draws.between(0.1, 0.45))
    draw_behind(canvas, plan.figure, garment, still)
    canvas.wear(garment.behind, still, cloth, trimming)
    draw_body(canvas, plan.figure, garment, still)
    canvas.wear(garment.parts, folds, cloth, trimming)
    _draw_details(canvas, garment, trimming, draws)
    draw_forearm(canvas, plan.figure, garment, still)
    canvas.wear(garment.over, folds, cloth, trimming)
    draw_in_front(canvas, plan.figure, plan.occlusions, replace(still, pulled=0.02), draws)


def _draw_details(canvas: Canvas, garment: Garment, trimming: Colour, draws: Draws) -> None:
    button = draws.pick([(240, 238, 230), (30, 28, 28), (150, 110, 60), any_colour(draws)])
    looks = {
        "seam": ((10, 8, 8), 0.3),
        "button": (button, 1.0),
        "string": (mixed(trimming, (250, 250, 250), 0.5), 1.0),
        "metal": ((190, 190, 195), 0.9),
    }
    for detail in garment.details:
        canvas.fill(detail.outline, *looks[detail.kind])

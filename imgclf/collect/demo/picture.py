"""Rendering of one image from its name: garment, figure, background, and camera."""

from dataclasses import dataclass, replace

import numpy as np

from .drape import Canvas, Folds, GarmentMask, Light, random_folds
from .draws import Draws
from .figure import OCCLUSIONS, Figure, draw_behind, draw_body, draw_forearm, draw_in_front, random_figure
from .garment import Garment
from .outline import View
from .palette import Colour, mixed, random_colour
from .scene import BACKGROUNDS, background, camera_effects, jpeg
from .tailor import KINDS, tailor
from .textures import Texture, TextureSettings, make_texture

# What makes an image hard to classify, by frequency.
DIFFICULTIES = {"fine": 4, "faint": 3, "ambiguous": 4, "occluded": 2, "blurred": 2, "small": 3}
DIFFICULT_FRACTION = 0.6  # of the images; the others should be easy to classify


@dataclass(frozen=True)
class Plan:
    """All decisions that are made before drawing."""

    shape: tuple[int, int]  # rows, columns, in pixels
    difficulties: tuple[str, ...]
    texture_settings: TextureSettings
    figure: Figure
    pose: str  # of POSES
    light: Light
    occlusions: list[str]


def render(label: str, name: str) -> bytes:
    """The JPEG file of a garment of texture `label`; all else is a function of `name`."""
    draws = Draws(name)
    plan, planes = _drawn(Canvas, label, draws)
    blur = (
        draws.uniform(1.5, 3.0)
        if "blurred" in plan.difficulties
        else draws.choice([0.0, 0.5, draws.uniform(0.3, 0.9)])
    )
    image = camera_effects(planes, draws, blur=blur, grain=draws.uniform(0.0, 7.0))
    return jpeg(image, int(draws.uniform(75, 93)))


def garment_mask(label: str, name: str) -> np.ndarray:
    """The coverage of each pixel of `render(label, name)` by the garment; (h, w) float32, 0 to 1.

    What is in front of the garment, such as hair or a bag, is no part of it.
    """
    return _drawn(GarmentMask, label, Draws(name))[1][0]


def _drawn(canvas_type: type[Canvas], label: str, draws: Draws) -> tuple[Plan, np.ndarray]:
    """The plan of an image, and the planes of the canvas that it is drawn on."""
    plan = _plan(label, draws)
    garment = tailor(draws.choice(KINDS), draws, pose=plan.pose)
    texture, colours = make_texture(label, draws, plan.texture_settings)
    planes = background(draws.weighted_choice(BACKGROUNDS), plan.shape, draws)
    canvas = canvas_type(planes, _view(plan, garment, draws), plan.light)
    _draw(canvas, plan, garment, texture, _trimming(colours, draws), draws)
    return plan, canvas.planes


def _plan(label: str, draws: Draws) -> Plan:
    difficulties = _difficulties(draws)
    pitch = draws.uniform_scale(0.027, 0.048) if "fine" in difficulties else draws.uniform_scale(0.13, 0.5)
    pitch *= {"leopard": 0.9, "dotted": 0.8, "striped": 0.9}[label]
    contrast = draws.uniform(14, 26) if "faint" in difficulties else draws.uniform(50, 150)
    occlusion_probability = 0.6 if "occluded" in difficulties else 0.1
    figure = random_figure(draws)
    possible = (
        OCCLUSIONS
        if figure.setting == "person"
        else [occlusion for occlusion in OCCLUSIONS if occlusion != "hair"]
    )
    occlusions = [occlusion for occlusion in possible if draws.bernoulli(occlusion_probability)]
    light = Light(
        draws.uniform(-0.5, 0.5),
        draws.uniform(-0.6, 0.1),
        draws.uniform(0.3, 0.6),
        draws.choice([0, 0, 0.1, 0.25]),
    )
    settings = TextureSettings(pitch, contrast, "ambiguous" in difficulties)
    return Plan(
        _shape(draws),
        difficulties,
        settings,
        figure,
        _pose(figure, occlusion_probability, draws),
        light,
        occlusions,
    )


def _pose(figure: Figure, crossed_probability: float, draws: Draws) -> str:
    if figure.setting == "person" and draws.bernoulli(crossed_probability):
        return "crossed"
    usual = {"person": {"hanging": 3, "bent": 2}, "flat": {"hanging": 2, "spread": 3}}
    return draws.weighted_choice(usual.get(figure.setting, {"hanging": 1}))


def _difficulties(draws: Draws) -> tuple[str, ...]:
    if not draws.bernoulli(DIFFICULT_FRACTION):
        return ()
    return tuple(draws.weighted_choice(DIFFICULTIES) for _ in range(draws.choice([1, 1, 2])))


def _shape(draws: Draws) -> tuple[int, int]:
    long = draws.uniform(560, 960)
    short = max(400.0, long * draws.uniform(0.62, 0.95))
    return draws.weighted_choice(
        {(int(long), int(short)): 6, (int(short), int(long)): 2, (int(short), int(short) + 7): 2}
    )


def _view(plan: Plan, garment: Garment, draws: Draws) -> View:
    height, width = plan.shape
    length = garment.trunk.length
    reach = max(abs(arm.point(max(garment.sleeve_end, 0.3), 1.0)[0]) for arm in garment.arms) + 0.1
    fit = min(height / (length + 0.9), width / (2 * reach))
    ranges = [(0.34, 0.5)] if "small" in plan.difficulties else [(0.8, 1.05), (0.9, 1.3), (1.2, 1.8)]
    zoom = draws.uniform(*draws.choice(ranges))
    turn = draws.uniform(-0.08, 0.08) if plan.figure.setting == "flat" else draws.uniform(-0.012, 0.012)
    middle = length * (0.46 if zoom < 1.2 else draws.uniform(0.35, 0.6))
    centre = (width * draws.uniform(0.44, 0.56), height * draws.uniform(0.48, 0.56))
    return View(
        centre, (0.0, middle), fit * zoom, turn, (draws.uniform(-0.08, 0.08), draws.uniform(-0.07, 0.07))
    )


def _trimming(colours: list[Colour], draws: Draws) -> Colour:
    return draws.choice([colours[0], colours[1], mixed(colours[0], colours[1], 0.5), random_colour(draws)])


def _draw(
    canvas: Canvas, plan: Plan, garment: Garment, texture: Texture, trimming: Colour, draws: Draws
) -> None:
    folds = random_folds(draws)
    smooth = Folds(draws.noise_grid(), 0.01, 0.0, 0.0)
    outlines = [part.outline for part in garment.parts]
    away = 6 if plan.figure.setting == "flat" else int(draws.uniform(10, 40))
    canvas.shadow(outlines, (int(-plan.light.x * 2 * away), away // 2), away, draws.uniform(0.1, 0.45))
    draw_behind(canvas, plan.figure, garment, smooth)
    canvas.draw_parts(garment.behind, smooth, texture, trimming)
    draw_body(canvas, plan.figure, garment, smooth)
    canvas.draw_parts(garment.parts, folds, texture, trimming)
    _draw_details(canvas, garment, trimming, draws)
    draw_forearm(canvas, plan.figure, garment, smooth)
    canvas.draw_parts(garment.over, folds, texture, trimming)
    draw_in_front(canvas, plan.figure, plan.occlusions, replace(smooth, pulled=0.02), draws)


def _draw_details(canvas: Canvas, garment: Garment, trimming: Colour, draws: Draws) -> None:
    button = draws.choice([(240, 238, 230), (30, 28, 28), (150, 110, 60), random_colour(draws)])
    looks = {
        "seam": ((10, 8, 8), 0.3),
        "button": (button, 1.0),
        "string": (mixed(trimming, (250, 250, 250), 0.5), 1.0),
        "metal": ((190, 190, 195), 0.9),
    }
    for detail in garment.details:
        canvas.fill(detail.outline, *looks[detail.kind])

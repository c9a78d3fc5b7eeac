"""Pictures that look alike and are no copies: garments on one backdrop, pages of one form."""

import cv2
import numpy as np

WORDS = [
    "invoice",
    "date",
    "total",
    "amount",
    "paid",
    "size",
    "colour",
    "cotton",
    "wool",
    "order",
    "number",
    "street",
    "city",
    "country",
    "thanks",
]


def texture(seed: int, *, height: int = 352, width: int = 264, scale: int = 22) -> np.ndarray:
    """A patterned cloth; (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(60, 200, (height // scale, width // scale, 3)).astype(np.uint8)
    fine = random.normal(0, 12, (height, width, 1))
    cloth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (cloth + fine).clip(0, 255).astype(np.uint8)


def garment(seed: int, *, backdrop: int = 0) -> np.ndarray:
    """A T-shirt of its own cloth, a little moved, on the backdrop of that number; (352, 264, 3) uint8."""
    random = np.random.default_rng(seed)
    outline = np.array(
        [
            (90, 60),
            (174, 60),
            (240, 110),
            (210, 150),
            (184, 130),
            (184, 300),
            (80, 300),
            (80, 130),
            (54, 150),
            (24, 110),
        ]
    )
    shape = np.zeros((352, 264), np.uint8)
    cv2.fillPoly(shape, [(outline + random.integers(-8, 9, 2)).astype(np.int32)], 255)
    return np.where(shape[..., None] > 0, texture(1000 + seed, scale=11), texture(backdrop))


def page(seed: int) -> np.ndarray:
    """A page of text with the letterhead that all pages have; (480, 340, 3) uint8."""
    random = np.random.default_rng(seed)
    paper = np.full((480, 340, 3), 250, np.uint8)
    cv2.rectangle(paper, (20, 20), (80, 60), (30, 60, 160), -1)
    cv2.putText(paper, "ACME TEXTILES LTD", (95, 48), 0, 0.6, (20, 20, 20), 1, cv2.LINE_AA)
    for y in range(100, 450, 18):
        line = " ".join(random.choice(WORDS, random.integers(2, 7)))
        cv2.putText(paper, line[:38], (20, y), 0, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return paper

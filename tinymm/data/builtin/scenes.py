"""Drawn scenes: two colored shapes, one beside or above the other, and right and wrong captions of them.

A scene has two true captions ("a red circle left of a blue star" is also "a blue star right of a
red circle"), and its wrong captions are made of the same words: who does not bind color to shape,
or does not know which of the two stands left, can't tell them from the right one.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw

SHAPES = ("circle", "square", "triangle", "star")
COLORS = ("red", "green", "blue", "yellow")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_OFFSET = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
#: The canvas is drawn three times as large as it is shown, and shrunk, so that edges are smooth.
RESOLUTION, CANVAS = 32, 96


@dataclass(frozen=True, order=True)
class Thing:
    """A colored shape.

    >>> str(Thing("red", "circle"))
    'a red circle'
    """

    color: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.color} {self.shape}"


@dataclass(frozen=True, order=True)
class Scene:
    """Two things of different color and shape, of which the first stands in `relation` to the second.

    >>> scene = Scene(Thing("red", "circle"), Thing("blue", "star"), "left of")
    >>> scene.captions()
    ('a red circle left of a blue star', 'a blue star right of a red circle')
    >>> scene.swapped()["attribute"]
    'a blue circle left of a red star'
    """

    first: Thing
    second: Thing
    relation: str

    def __str__(self) -> str:
        return f"{self.first} {self.relation} {self.second}"

    def captions(self) -> tuple[str, str]:
        """Return the two true captions."""
        return str(self), str(Scene(self.second, self.first, OPPOSITE[self.relation]))

    def swapped(self) -> dict[str, str]:
        """Return wrong captions by what is wrong with them.

        The first three have the very words of a true caption, in another order (as ARO and
        Winoground ask), so a bag of words scores one half on them; the others replace one word by
        another that could stand there (as SugarCrepe does).
        """
        a, b, relation = self.first, self.second, self.relation
        color = next(c for c in COLORS if c not in (a.color, b.color))
        shape = next(s for s in SHAPES if s not in (a.shape, b.shape))
        return {
            "attribute": str(Scene(Thing(b.color, a.shape), Thing(a.color, b.shape), relation)),
            "object": str(Scene(Thing(a.color, b.shape), Thing(b.color, a.shape), relation)),
            "relation": str(Scene(b, a, relation)),
            "other relation": str(Scene(a, b, OPPOSITE[relation])),
            "other attribute": str(Scene(Thing(color, a.shape), b, relation)),
            "other object": str(Scene(Thing(a.color, shape), b, relation)),
        }


@lru_cache(maxsize=1)
def all_scenes() -> tuple[Scene, ...]:
    """Return the 288 scenes that can be told apart by looking: of each pair of mirrored descriptions the one with "left of" or "above".

    >>> len(all_scenes())
    288
    """
    things = [Thing(color, shape) for color, shape in itertools.product(COLORS, SHAPES)]
    pairs = [
        (a, b)
        for a, b in itertools.permutations(things, 2)
        if a.color != b.color and a.shape != b.shape
    ]
    return tuple(
        sorted(Scene(a, b, relation) for a, b in pairs for relation in ("left of", "above"))
    )


def drawn(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Return a picture of the scene, (32, 32, 3) uint8, on white; `rng` jitters places and sizes by what keeps the things apart.

    >>> drawn(all_scenes()[0], np.random.default_rng(0)).shape
    (32, 32, 3)
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (CANVAS, CANVAS), "white")
    pen = ImageDraw.Draw(image)
    dx, dy = _OFFSET[scene.relation]
    jitter, sizes = rng.integers(-6, 7, (2, 2)), rng.integers(14, 19, 2)
    for thing, side, (x, y), radius in zip(
        (scene.first, scene.second), (1, -1), jitter, sizes, strict=True
    ):
        _draw(
            pen,
            thing,
            CANVAS // 2 + side * dx * 22 + int(x),
            CANVAS // 2 + side * dy * 22 + int(y),
            int(radius),
        )
    return np.asarray(image.resize((RESOLUTION, RESOLUTION), Image.Resampling.LANCZOS))


def _draw(pen: "ImageDraw.ImageDraw", thing: Thing, x: int, y: int, radius: int) -> None:
    if thing.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=thing.color)
    elif thing.shape == "square":
        pen.rectangle((x - radius, y - radius, x + radius, y + radius), fill=thing.color)
    else:
        pen.polygon(list(_corners(x, y, radius, thing.shape == "star")), fill=thing.color)


def _corners(x: int, y: int, radius: int, star: bool) -> Iterator[tuple[float, float]]:
    """Yield the corners of a triangle, or of a star of five points, the first one on top."""
    n = 10 if star else 3
    for i in range(n):
        reach = radius * (0.45 if star and i % 2 else 1)
        yield x + reach * math.sin(2 * math.pi * i / n), y - reach * math.cos(2 * math.pi * i / n)

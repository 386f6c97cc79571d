"""Names beside the points that they name: pushed apart where they would collide, dark enough to read."""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D
from scipy.optimize import isotonic_regression

SMALL = 9  # points: the size of labels


class Label(NamedTuple):
    """A name for the point (x, y) of the data; the style of the line that leads to it."""

    x: float
    y: float
    text: str
    colour: str
    line: str = "-"


def ink(colour: str) -> str:
    """The colour, darkened until text in it has a contrast of at least 4.5 on white (WCAG 2.2, 1.4.3)."""
    shade = np.array(to_rgb(colour))
    while True:
        linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
        if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5:
            return to_hex(shade)
        shade *= 0.97


def apart(wanted: np.ndarray, heights: np.ndarray, low: float, high: float) -> np.ndarray:
    """Centres next to the ``wanted`` ones, in their order, at which labels of these heights do not overlap.

    They stay between ``low`` and ``high`` where that is room enough. Of equal ones the first is on top.
    """
    order = np.lexsort((-np.arange(len(wanted)), wanted))
    stack = np.cumsum(heights[order]) - heights[order] / 2  # the centres of a pile on 0
    # a label may not sink into the pile below it: what it is above its place in the pile never falls
    shift = isotonic_regression(wanted[order] - stack).x.clip(low, max(low, high - heights.sum()))
    centres = np.empty(len(wanted))
    centres[order] = stack + shift
    return centres


def name_points(ax: Axes, labels: list[Label], width: int = 26, side: int = 1) -> None:
    """Write the labels beside their points, pushed apart, with a thin line from each point to its label.

    width: characters in a line. side: 1 to the right of the points, -1 to the left. The places are found when the
    figure is drawn, for limits and layout may change until then.
    """
    texts = [textwrap.fill(label.text, width) for label in labels]
    heights = np.array([1.25 * SMALL * (1 + text.count("\n")) for text in texts])

    def place(number: int):
        def transform(_renderer):
            scale = ax.figure.dpi / 72
            points = ax.transData.transform([(label.x, label.y) for label in labels])
            centres = apart(points[:, 1], scale * heights, ax.bbox.y0, ax.bbox.y1)
            return Affine2D().scale(scale).translate(points[number, 0], centres[number])

        return transform

    for number, (label, text) in enumerate(zip(labels, texts)):
        colour = ink(label.colour)
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.8, "ls": label.line, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            text, (label.x, label.y), xytext=(14 * side, 0), textcoords=place(number), color=colour,
            fontsize=SMALL, linespacing=1.1, ha="left" if side > 0 else "right", va="center", annotation_clip=False,
            arrowprops=leader | {"relpos": ((1 - side) / 2, 0.5)},
            path_effects=[withStroke(linewidth=2, foreground="white")],  # readable on a line
        )  # fmt: skip

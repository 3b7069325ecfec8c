"""A vector drawing of boxes, curves and texts, written as SVG or, with Pillow, as PNG, PDF and other formats.

Control characters in texts, which XML forbids, are escaped.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from html import escape

from minicaffe.text import printable_line

Point = tuple[float, float]

FONT_FAMILY = "'DejaVu Sans', Verdana, 'Bitstream Vera Sans', sans-serif"
_MAX_PIXELS = 60e6  # of the supersampled image; the scale of a larger one is reduced

# Approximate widths of DejaVu Sans in em, so that boxes can be sized without opening the font.
_WIDTHS = {0.32: "ijlI.,:;'|! ", 0.42: '()[]{}/\\ftr"-`', 0.84: "~#=+<>×·→", 0.98: "mwMW@%", 0.76: "ABCDGHNOQRUVXYZ&"}
_WIDTH = {char: width for width, chars in _WIDTHS.items() for char in chars}


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the approximate width of `text` at a font size, both in points."""
    return sum(_WIDTH.get(char, 0.63) for char in printable_line(text)) * size * (1.1 if bold else 1.0)


@dataclass
class Box:
    """A rectangle; `radius` rounds its corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = "none"
    radius: float = 0.0


@dataclass
class Spline:
    """A path that starts at `start`; a step is one point (a line) or three (a cubic Bezier curve: controls, end)."""

    start: Point
    steps: list[tuple[Point, ...]]
    stroke: str
    arrow: bool = True


@dataclass
class Text:
    """A line of text with baseline y; `anchor` is "start" or "middle"."""

    x: float
    y: float
    text: str
    size: float
    fill: str = "#1f2933"
    bold: bool = False
    anchor: str = "start"


def rounded(corners: list[Point], radius: float = 8.0) -> list[tuple[Point, ...]]:
    """Return the steps of a path through `corners`, from the first of them on, with rounded corners.

    radius: of the curve at each corner between the first and the last, less where two are close (default 8).
    """
    steps: list[tuple[Point, ...]] = []
    for before, corner, after in zip(corners, corners[1:], corners[2:]):
        near, far = _towards(corner, before, radius), _towards(corner, after, radius)
        steps += [(near,), (corner, corner, far)]
    return [*steps, (corners[-1],)]


def _towards(corner: Point, other: Point, radius: float) -> Point:
    """Return the point at a distance from a corner on the way to another point, at most in the middle between them."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    share = min(radius / (math.hypot(dx, dy) or 1.0), 0.5)
    return corner[0] + dx * share, corner[1] + dy * share


class Canvas:
    """A list of items in painting order; `width` and `height` are in points."""

    def __init__(self, width: float, height: float, background: str = "#ffffff"):
        self.width, self.height, self.background = width, height, background
        self.items: list[Box | Spline | Text] = []

    def add(self, item: Box | Spline | Text) -> None:
        """Append an item; it is painted over the earlier ones."""
        self.items.append(item)

    def svg(self) -> str:
        """Return the drawing as an SVG document."""
        body = "\n".join(_SVG_WRITERS[type(item)](item) for item in self.items)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{self.height:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" font-family="{FONT_FAMILY}">\n'
            f'<rect width="100%" height="100%" fill="{self.background}"/>\n{body}\n</svg>\n'
        )

    def image(self, scale: float = 2.0):
        """Return the drawing as a Pillow image, `scale` pixels per point; fewer if it would be too large."""
        from PIL import Image, ImageDraw

        scale = min(scale, (_MAX_PIXELS / 4 / max(self.width * self.height, 1)) ** 0.5)
        fine = 2 * scale  # supersampling: Pillow does not antialias lines
        big = Image.new("RGB", (round(self.width * fine), round(self.height * fine)), self.background)
        pen = ImageDraw.Draw(big)
        for item in self.items:
            _PAINTERS[type(item)](pen, item, fine)
        size = (max(round(self.width * scale), 1), max(round(self.height * scale), 1))
        return big.resize(size, Image.Resampling.BOX)

    def encode(self, ext: str) -> bytes:
        """Return the drawing as the bytes of a file; `ext` is svg, png, pdf, jpg or another format of Pillow."""
        if ext == "svg":
            return self.svg().encode()
        out = io.BytesIO()
        self.image().save(out, format={"jpg": "jpeg"}.get(ext, ext))
        return out.getvalue()


# -- SVG ---------------------------------------------------------------------------------------------------------------


def _svg_box(box: Box) -> str:
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="{box.radius:g}" fill="{box.fill}" stroke="{box.stroke}"/>'
    )


def _svg_curve(curve: Spline) -> str:
    parts = [f"M{curve.start[0]:.1f} {curve.start[1]:.1f}"]
    for step in curve.steps:
        parts.append(("C" if len(step) == 3 else "L") + " ".join(f"{x:.1f} {y:.1f}" for x, y in step))
    path = f'<path d="{" ".join(parts)}" fill="none" stroke="{curve.stroke}" stroke-width="1.2"/>'
    if curve.arrow:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _arrow_head(curve))
        path += f'<polygon points="{points}" fill="{curve.stroke}"/>'
    return path


def _svg_text(text: Text) -> str:
    weight = ' font-weight="bold"' if text.bold else ""
    return (
        f'<text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{text.size:g}" text-anchor="{text.anchor}" '
        f'fill="{text.fill}"{weight}>{escape(printable_line(text.text))}</text>'
    )


def _arrow_head(curve: Spline, size: float = 5.0) -> list[Point]:
    """Return the corners of an arrow head at the end of a curve, in the direction of its last segment."""
    points = [curve.start, *(p for step in curve.steps for p in step)]
    (x1, y1), (x0, y0) = points[-1], points[-2]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = (x1 - x0) / length * size, (y1 - y0) / length * size
    return [(x1, y1), (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)]


# -- Pillow ------------------------------------------------------------------------------------------------------------


def _paint_box(pen, box: Box, scale: float) -> None:
    corners = [box.x * scale, box.y * scale, (box.x + box.width) * scale, (box.y + box.height) * scale]
    outline = None if box.stroke == "none" else box.stroke
    pen.rounded_rectangle(corners, box.radius * scale, fill=box.fill, outline=outline, width=round(scale))


def _paint_curve(pen, curve: Spline, scale: float) -> None:
    points, at = [curve.start], curve.start
    for step in curve.steps:
        if len(step) == 3:
            points += [_bezier(at, *step, t / 16) for t in range(1, 17)]
        else:
            points.append(step[0])
        at = step[-1]
    pen.line([(x * scale, y * scale) for x, y in points], fill=curve.stroke, width=round(1.2 * scale), joint="curve")
    if curve.arrow:
        pen.polygon([(x * scale, y * scale) for x, y in _arrow_head(curve)], fill=curve.stroke)


def _bezier(p0: Point, p1: Point, p2: Point, p3: Point, t: float) -> Point:
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return (a * p0[0] + b * p1[0] + c * p2[0] + d * p3[0], a * p0[1] + b * p1[1] + c * p2[1] + d * p3[1])


def _paint_text(pen, text: Text, scale: float) -> None:
    font = _font(round(text.size * scale), text.bold)
    anchor = {"start": "ls", "middle": "ms"}[text.anchor]
    shown = printable_line(text.text)
    pen.text((text.x * scale, text.y * scale), shown, fill=text.fill, font=font, anchor=anchor)


@lru_cache(maxsize=32)
def _font(size: int, bold: bool):
    from matplotlib import get_data_path
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{name}", size)


_SVG_WRITERS: dict[type, Callable[..., str]] = {Box: _svg_box, Spline: _svg_curve, Text: _svg_text}
_PAINTERS: dict[type, Callable[..., None]] = {Box: _paint_box, Spline: _paint_curve, Text: _paint_text}

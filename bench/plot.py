"""A line plot with logarithmic axes as SVG text, without a library."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ("#1f5fbf", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0f766e")
Points = Sequence[tuple[float, float]]


def svg(title: str, x_name: str, y_name: str, series: Mapping[str, Points]) -> str:
    """Return the plot of some series of positive (x, y). Raises: ValueError: there is nothing to show."""
    points = [point for line in series.values() for point in line]
    if not points or min(min(point) for point in points) <= 0:
        raise ValueError("a plot needs points, and logarithms need positive values")
    x_axis = _decades([x for x, _ in points])
    y_axis = _decades([y for _, y in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(WIDTH / 2, TOP / 2, title, anchor="middle"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_name, anchor="middle"),
        _text(8, TOP - 8, y_name),
    ]
    for value in x_axis:
        x = _at(value, x_axis, LEFT, WIDTH - RIGHT)
        parts += [
            _line(x, TOP, x, HEIGHT - BOTTOM),
            _text(x, HEIGHT - BOTTOM + 16, f"{value:g}", anchor="middle"),
        ]
    for value in y_axis:
        y = _at(value, y_axis, HEIGHT - BOTTOM, TOP)
        parts += [_line(LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 6, y + 4, f"{value:g}", anchor="end")]
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [
            (_at(x, x_axis, LEFT, WIDTH - RIGHT), _at(y, y_axis, HEIGHT - BOTTOM, TOP))
            for x, y in sorted(line)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 16 * (index + 1), name, colour=colour))
    return "\n".join([*parts, "</svg>\n"])


def _decades(values: Sequence[float]) -> list[float]:
    """Return the powers of ten from the one below all values to the one above."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**exponent for exponent in range(low, max(high, low + 1) + 1)]


def _at(value: float, axis: Sequence[float], first: float, last: float) -> float:
    """Return where a value stands between two places of the picture."""
    part = (math.log10(value) - math.log10(axis[0])) / (math.log10(axis[-1]) - math.log10(axis[0]))
    return first + part * (last - first)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'

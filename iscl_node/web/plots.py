"""Plots of noise over days, as the coordinates of an SVG picture: templates draw them, style sheets colour them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from iscl_node.pipeline.page.fleet import Trend

WIDTH: Final = 640
HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 10, 22
_STEPS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
_LINES: Final = {"noise_hu": "before", "derived_noise_hu": "after"}


@dataclass(frozen=True)
class Point:
    """A day's median in a plot, with its words."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Lines of points by what they show: noise ``before`` and ``after``."""

    lines: dict[str, list[Point]]
    ticks_y: list[Tick]
    ticks_x: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT


def noise_plot(trend: Trend) -> Plot:
    """The noise of a protocol, day by day."""
    dates = [date.fromisoformat(day.date).toordinal() for day in trend.days]
    top = _top(trend)
    first, span = dates[0], max(dates[-1] - dates[0], 1)

    def x(day: int) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (day - first) / span, 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top, 1)

    lines = {
        name: [
            Point(x(day), y(value), f"{each.date}: {value:.1f} HU {name}, {each.series} series")
            for day, each in zip(dates, trend.days, strict=True)
            if (value := each.medians[what]) is not None
        ]
        for what, name in _LINES.items()
    }
    ticks = [Tick(y(top * part), f"{top * part:g}") for part in (0.0, 0.5, 1.0)]
    return Plot(lines, ticks, [Tick(x(day), date.fromordinal(day).isoformat()) for day in _ends(dates)])


def _top(trend: Trend) -> float:
    """A round value above all."""
    values = [value for day in trend.days for what in _LINES if (value := day.medians[what]) is not None]
    highest = max(values, default=1.0)
    step = next((each for each in _STEPS if 4 * each >= highest), _STEPS[-1])
    return float(step * max(2, 2 * -(-highest // (2 * step))))


def _ends(dates: Sequence[int]) -> list[int]:
    return sorted({dates[0], dates[-1]})

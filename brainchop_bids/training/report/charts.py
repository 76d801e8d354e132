"""Curves over the steps of a run, as numbers that a page draws in SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 260
# Room for the numbers at the left and below.
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 26
# With more lines than this, single ones are told from each other by nothing.
MOST_COLORS = 8
# More points than this are a line of their own.
_MOST_DOTS = 40
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Parameters
    ----------
    name : str
        For the legend.
    points : sequence of (float, float)
        Step and value; a value that is no number leaves a gap.
    strong : bool
        Whether it is the one to look at.
    """

    name: str
    points: Sequence[tuple[float, float]]
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """A series on the page.

    Parameters
    ----------
    name : str
        For the legend; empty for lines that share one entry.
    kind : str
        Its class in the style sheet.
    pieces : tuple of str
        ``points`` of polylines, one for each stretch without a gap.
    dots : tuple of (float, float)
        Single points to mark.
    """

    name: str
    kind: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A chart ready to be drawn, in units of its view box.

    Parameters
    ----------
    title : str
        What it shows.
    told : str
        The same for those who cannot see it.
    lines : tuple of Line
        In the order of drawing.
    x_ticks, y_ticks : tuple of (float, str)
        Where numbers stand, and which.
    marks : tuple of float
        Where a stage begins.
    left, right, top, bottom : float
        Edges of the plot.
    """

    title: str
    told: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    marks: tuple[float, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM

    @property
    def legend(self) -> list[Line]:
        """Lines with a name, if there is more than one kind."""
        named = [line for line in self.lines if line.name]
        return sorted(named, key=lambda line: line.kind != 'strong') if len(named) > 1 else []


def make_chart(
    title: str,
    series: Sequence[Series],
    *,
    last: float,
    limits: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    others: str = 'single ones',
) -> Chart | None:
    """Lay out a chart.

    Parameters
    ----------
    title : str
        What it shows.
    series : sequence of Series
        Its lines; with more than `MOST_COLORS`, all but strong ones look alike.
    last : float
        The step at the right edge; the left one is 0.
    limits : tuple of 2 float, optional
        Values at the lower and upper edge; by default what the lines need, from 0 on where
        they are not below it.
    marks : sequence of float
        Steps at which a stage begins.
    others : str
        What lines that look alike are called in the legend.

    Returns
    -------
    Chart or None
        None where no value is a number.
    """
    values = [y for one in series for _, y in one.points if math.isfinite(y)]
    if not values:
        return None
    if limits is None:
        limits = (min(0.0, min(values)), max(values))
    y_ticks = ticks(*limits)
    low, high = min(limits[0], y_ticks[0]), max(limits[1], y_ticks[-1])
    across = (WIDTH - _RIGHT - _LEFT) / max(last, 1)
    up = (HEIGHT - _BOTTOM - _TOP) / ((high - low) or 1)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(_LEFT + across * x, 1), round(HEIGHT - _BOTTOM - up * (y - low), 1)

    alike = sum(not one.strong for one in series) > MOST_COLORS
    lines = []
    for number, one in enumerate(one for one in series if not one.strong):
        name = (others if number == 0 else '') if alike else one.name
        lines.append(_line(one, name, 'alike' if alike else f'c{number}', place))
    lines += [_line(one, one.name, 'strong', place) for one in series if one.strong]
    return Chart(
        title,
        _told(title, series),
        tuple(lines),
        tuple((place(x, low)[0], f'{x:g}') for x in ticks(0, max(last, 1)) if x <= last),
        tuple((place(0, y)[1], f'{y:g}') for y in y_ticks),
        tuple(place(x, low)[0] for x in marks),
    )


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers that span a range: multiples of 1, 2 or 5 times a power of ten.

    Examples
    --------
    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(0, 1234)
    [0.0, 500.0, 1000.0, 1500.0]
    """
    if high <= low:
        high = low + 1.0
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
    first, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f'{n * step:.10g}') for n in range(first, end + 1)]


def _line(
    one: Series, name: str, kind: str, place: Callable[[float, float], tuple[float, float]]
) -> Line:
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in one.points:
        if math.isfinite(y):
            stretches[-1].append(place(x, y))
        elif stretches[-1]:
            stretches.append([])
    pieces = tuple(
        ' '.join(f'{x:g},{y:g}' for x, y in points) for points in stretches if len(points) > 1
    )
    found = [point for points in stretches for point in points]
    # A value between two gaps would not be seen as a line.
    alone = [points[0] for points in stretches if len(points) == 1]
    marked = kind != 'alike' and len(found) <= _MOST_DOTS
    return Line(name, kind, pieces, tuple(found if marked else alone))


def _told(title: str, series: Sequence[Series]) -> str:
    """Say where the lines begin and end; of many only the strong ones."""
    shown = series if len(series) <= MOST_COLORS else [one for one in series if one.strong]
    ends = []
    for one in shown:
        known = [y for _, y in one.points if math.isfinite(y)]
        if known:
            ends.append(f'{one.name} from {known[0]:.4g} to {known[-1]:.4g}')
    return f'{title} over the steps: {"; ".join(ends)}.'

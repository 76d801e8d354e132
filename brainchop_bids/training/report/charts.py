"""Layout of the line charts on the page of a training run, which are drawn as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 260
# Margins for the axis labels.
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 26
# With more lines than this, colours no longer tell them apart.
MOST_COLORS = 8
# With more points than this, they are not marked.
_MOST_DOTS = 40
_TICKS = 5


@dataclass(frozen=True)
class Series:
    """Data of one line.

    Parameters
    ----------
    name : str
        For the legend.
    points : sequence of (float, float)
        Step and value; NaN leaves a gap.
    strong : bool
        Whether the line is emphasised.
    """

    name: str
    points: Sequence[tuple[float, float]]
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """One line in the coordinates of the view box.

    Parameters
    ----------
    name : str
        For the legend; empty for lines that share the entry of another.
    kind : str
        CSS class.
    pieces : tuple of str
        ``points`` attributes of polylines, one for each segment between gaps.
    dots : tuple of (float, float)
        Points that are marked.
    """

    name: str
    kind: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A chart in the coordinates of its view box.

    Parameters
    ----------
    title : str
        Title.
    description : str
        Text for screen readers.
    lines : tuple of Line
        Lines in drawing order.
    x_ticks, y_ticks : tuple of (float, str)
        Position and label of each tick.
    marks : tuple of float
        Positions at which a stage begins.
    left, right, top, bottom : float
        Edges of the plot.
    """

    title: str
    description: str
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
        """Lines with an entry in the legend, emphasised ones first; empty for a single one."""
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
        Title.
    series : sequence of Series
        Data; with more than `MOST_COLORS` lines, all but emphasised ones look alike.
    last : float
        Step at the right edge; the left edge is step 0.
    limits : tuple of 2 float, optional
        Least range of the vertical axis; by default from 0, or the lowest value if that is
        negative, to the highest value.
    marks : sequence of float
        Steps at which a stage begins.
    others : str
        Legend entry of the lines that look alike.

    Returns
    -------
    Chart or None
        None if no value is finite.
    """
    values = [y for line in series for _, y in line.points if math.isfinite(y)]
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

    weak = [line for line in series if not line.strong]
    alike = len(weak) > MOST_COLORS
    lines = []
    for number, line in enumerate(weak):
        name = (others if number == 0 else '') if alike else line.name
        lines.append(_line(line, name, 'alike' if alike else f'c{number}', place))
    lines += [_line(line, line.name, 'strong', place) for line in series if line.strong]
    return Chart(
        title,
        _describe(title, series),
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
    line: Series, name: str, kind: str, place: Callable[[float, float], tuple[float, float]]
) -> Line:
    segments: list[list[tuple[float, float]]] = [[]]
    for x, y in line.points:
        if math.isfinite(y):
            segments[-1].append(place(x, y))
        elif segments[-1]:
            segments.append([])
    pieces = tuple(
        ' '.join(f'{x:g},{y:g}' for x, y in points) for points in segments if len(points) > 1
    )
    points = [point for points in segments for point in points]
    # A single value between two gaps would be invisible as a line.
    isolated = [points[0] for points in segments if len(points) == 1]
    marked = kind != 'alike' and len(points) <= _MOST_DOTS
    return Line(name, kind, pieces, tuple(points if marked else isolated))


def _describe(title: str, series: Sequence[Series]) -> str:
    """Describe where the lines begin and end; of many lines only the emphasised ones."""
    shown = series if len(series) <= MOST_COLORS else [line for line in series if line.strong]
    ends = []
    for line in shown:
        values = [y for _, y in line.points if math.isfinite(y)]
        if values:
            ends.append(f'{line.name} from {values[0]:.4g} to {values[-1]:.4g}')
    return f'{title} over the steps: {"; ".join(ends)}.'

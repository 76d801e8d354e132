"""Line charts of times by the number of items that are computed at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Size of a chart, inches, and its resolution, pixels per inch.
_SIZE, _DPI = (6.4, 4.0), 120


def draw_timings(
    path: Path, series: Mapping[str, Sequence[tuple[int, float]]], x_label: str, y_label: str
) -> None:
    """Draw times against numbers, both on logarithmic scales.

    Parameters
    ----------
    path : Path
        The file, PNG whatever its name.
    series : mapping of str to sequence of (int, float)
        Points of each line.
    x_label, y_label : str
        Names of the axes.
    """
    # A figure without pyplot keeps no state and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(_SIZE, dpi=_DPI, layout='constrained')
    axes = figure.add_subplot()
    numbers = sorted({number for points in series.values() for number, _ in points})
    for (name, points), marker in zip(series.items(), 'os^Dv' * len(series), strict=False):
        axes.plot(*zip(*points, strict=True), f'{marker}-', label=name)
    axes.set_xscale('log', base=2)
    axes.set_yscale('log')
    axes.set_xticks(numbers, list(map(str, numbers)))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(which='both', alpha=0.3)
    axes.legend()
    figure.savefig(path, format='png')

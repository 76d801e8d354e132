"""``brainchop-localise --benchmark``: how fast a localiser is on this machine."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..app.outcome import say
from ..system.errors import SettingsError
from ..system.text import show

if TYPE_CHECKING:
    from ..inference.localise.benchmark import Timing
    from ..inference.localise.localiser import Localiser

_PROG = 'brainchop-localise'
_CHARTS = (('seconds.png', 'seconds'), ('seconds_per_frame.png', 'seconds per frame'))
# Width of a column, characters.
_WIDTH = 26


def benchmark(
    folder: Path,
    localiser: 'Localiser',
    scan: Path | None = None,
    *,
    frame: int | None = None,
    ct: bool = False,
) -> None:
    """Measure a localiser, print the times, and write them as a table and two charts.

    Parameters
    ----------
    folder : Path
        Gets ``benchmark.tsv``, ``seconds.png`` and ``seconds_per_frame.png``.
    localiser : Localiser
        The localiser, with the number of threads.
    scan : Path, optional
        Scan whose frames are computed; by default frames are noise.
    frame, ct
        As for `brainchop_bids.inference.localise.report.locate`.

    Raises
    ------
    SettingsError
        If ``folder`` is a file.
    InputError
        If the scan cannot be read.
    OutputError
        If the files cannot be written.
    """
    from ..image.normalise import normalise
    from ..inference.localise.benchmark import Timing, frames_of, time_engines, time_shrinking
    from ..inference.localise.report import locate

    if folder.exists() and not folder.is_dir():
        raise SettingsError(f'{folder}: is a file; --benchmark needs a folder')
    data, timings = None, []
    zooms: tuple[float, ...] = (1.0, 1.0, 1.0)
    if scan is not None:
        volume, finding = locate(scan, localiser, frame=frame, ct=ct)
        data, zooms = volume.data, tuple(map(float, volume.geometry.zooms))
        count, seconds = sum(data.shape), finding.seconds
        timings = [
            Timing('read the scan', 'n/a', count, seconds['read']),
            # The first time, which compiles the network.
            Timing('localise in it', 'n/a', count, seconds['find']),
        ]
    frames = normalise(frames_of(data, zooms, localiser.threads), localiser.normalization)
    for one in time_engines(localiser.network, frames, localiser.threads):
        if isinstance(one, str):
            say(_PROG, one)
        else:
            timings.append(one)
    timings.extend(time_shrinking(localiser))
    for line in _lines(timings, localiser.threads):
        show(line)
    _write(folder, timings)


def _lines(timings: Sequence['Timing'], threads: int) -> list[str]:
    """Return the times of engines side by side, and those of the other steps below."""
    series = _series(timings)
    lines = [f'{threads} thread{"s" * (threads > 1)}; median seconds, and ms for each frame']
    lines.append('frames' + ''.join(f'{name:>{_WIDTH}}' for name in series))
    for batch in dict.fromkeys(one.frames for one in timings if one.step == 'network'):
        cells = [dict(points)[batch] for points in series.values()]
        texts = [f'{seconds:.4f} s {seconds / batch * 1e3:8.3f} ms' for seconds in cells]
        lines.append(f'{batch:>6}' + ''.join(f'{text:>{_WIDTH}}' for text in texts))
    lines += [
        f'{one.step}, {one.frames} frames: {one.seconds:.3f} s'
        for one in timings
        if one.step != 'network'
    ]
    return lines


def _series(timings: Sequence['Timing']) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for one in timings:
        if one.step == 'network':
            found.setdefault(one.engine, []).append((one.frames, one.seconds))
    return found


def _write(folder: Path, timings: Sequence['Timing']) -> None:
    from ..inference.localise.benchmark import TABLE
    from ..reports.figures.timings import draw_timings
    from ..system.atomic import Writer, publish, text_writer, writing

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows = [TABLE, *(one.row() for one in timings)]
    text = ''.join('\t'.join(row) + '\n' for row in rows)
    files: list[tuple[Path, Writer]] = [(folder / 'benchmark.tsv', text_writer(text))]
    whole = _series(timings)
    each = {name: [(n, s / n) for n, s in points] for name, points in whole.items()}
    for (name, label), series in zip(_CHARTS, (whole, each), strict=True):
        draw = partial(draw_timings, series=series, x_label='frames at once', y_label=label)
        files.append((folder / name, draw))
    publish(files)

"""Draw the course of trainings over their hours: Dice on held-out patches.

    python benchmarks/training_course.py OUT.png NAME=RUN... [--pause 600]

RUN is the folder of ``brainchop-train --out``. Hours are those between the entries of its
TensorBoard files, of which each counts at most ``--pause`` seconds, since a run may have been
stopped for a while. Dice is the mean over all labels but the background, from ``log.csv``. Prints
Markdown with the last entry of each run.
"""

import argparse
import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.training.report.log import EVENTS, LOG


def main() -> None:
    """Read, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='the picture, PNG')
    parser.add_argument('runs', nargs='+', metavar='NAME=RUN')
    parser.add_argument('--pause', type=float, default=600.0, help='most seconds between entries')
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout='constrained')
    print('| training | steps | hours | loss | mean Dice, held-out patches |')
    print('|---|---:|---:|---:|---:|')
    for text in arguments.runs:
        name, _, folder = text.partition('=')
        rows = course(Path(folder), arguments.pause)
        axis.plot(
            [hours for hours, *_ in rows], [dice for *_, dice in rows], 'o-', ms=3, label=name
        )
        hours, step, loss, dice = rows[-1]
        print(f'| {name} | {step} | {hours:.2f} | {loss:.3f} | {dice:.3f} |')
    axis.set(xlabel='hours', ylabel='mean Dice on held-out patches', xlim=(0, None), ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(arguments.out, dpi=120)


def course(run: Path, pause: float) -> list[tuple[float, int, float, float]]:
    """Return hours, steps, loss and mean validation Dice at each checkpoint."""
    clock: dict[int, float] = {}
    for path in sorted((run / EVENTS).iterdir()):
        events = EventAccumulator(str(path))
        events.Reload()
        # That of a run which has just been resumed is empty.
        if 'loss' in events.Tags()['scalars']:
            clock.setdefault(0, events.FirstEventTimestamp())
            clock |= {event.step: event.wall_time for event in events.Scalars('loss')}
    spent, last = 0.0, clock[0]
    hours = {}
    for step, now in sorted(clock.items()):
        spent += min(now - last, pause)
        hours[step], last = spent / 3600, now
    found = []
    with (run / LOG).open(encoding='utf-8') as file:
        for row in csv.DictReader(file):
            step = int(row['step'])
            dice = [
                float(value)
                for key, value in row.items()
                if key.startswith('validation_dice_') and not key.endswith('_BG') and value
            ]
            if step in hours:
                found.append((hours[step], step, float(row['loss']), sum(dice) / len(dice)))
    return found


if __name__ == '__main__':
    main()

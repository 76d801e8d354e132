"""Multiplications of a network's layers for a scan's head, relative to the whole volume.

    python benchmarks/cropping.py SCAN MODEL [MODEL ...]

Prints a Markdown table. The time of a network is proportional to its multiplications, since all
layers run at about the same rate.
"""

import math
import sys
from pathlib import Path

from brainchop_bids.image.conform import ConformOptions, conform
from brainchop_bids.inference.margins import lengths, passes_of
from brainchop_bids.inference.openvino_engine import OpenvinoEngine
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import plan_scan
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.inference.tiles import full
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.resources import available_memory


def main(scan: str, *models: str) -> None:
    """Print one row for each model."""
    conformed = conform(read_scan(Path(scan), options=ConformOptions()), ConformOptions())
    print('| model | whole volume, 10^12 | head, 10^12 | ratio |')
    print('|---|---:|---:|---:|')
    for model in models:
        spec = load_spec(find_model(model))
        plan = plan_scan(
            spec, conformed.data, conformed.geometry.zooms, available_memory(), InferenceOptions()
        )
        engine = OpenvinoEngine(spec)
        counts = []
        for tile in (None, *(plan.tiles or ())):
            shape = conformed.data.shape if tile is None else tile.shape
            keep = full(shape) if tile is None else tile.inner
            counts.append(products(engine, shape[::-1], keep[::-1]))
        whole, head = counts[0] / 1e12, sum(counts[1:]) / 1e12
        print(f'| {spec.name} | {whole:.2f} | {head:.2f} | {head / whole:.2f} |')


def products(engine: OpenvinoEngine, shape: tuple[int, ...], keep: tuple[slice, ...]) -> float:
    """Return the number of multiplications of a part of a volume, with axes reversed."""
    total = 0.0
    for each in passes_of(engine._stream.steps, shape, keep):
        box = each.source if each.step.up > 1 else each.result
        total += math.prod(lengths(box)) * each.step.kernel.size
    return total


if __name__ == '__main__':
    main(*sys.argv[1:])

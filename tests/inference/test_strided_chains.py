"""Chains with strides: a part of the result, computed alone, is that of the whole volume."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.inference.margins import lengths, passes_of
from brainchop_bids.inference.openvino_graph import GraphBuilder
from brainchop_bids.inference.openvino_layers import OpenvinoLayers
from brainchop_bids.inference.steps import Step
from brainchop_bids.inference.stream import StreamedChain
from brainchop_bids.models.formats.openvino_files import load_openvino

SHAPE = (24, 16, 32)
FINE, COARSER, FINER = 'fine', 'coarser', 'finer'
# Like robust_tissue, with one and with two coarser grids, and with the coarse grid at the end.
CHAINS = (
    (FINE, COARSER, FINE, FINER, FINE),
    (FINE, COARSER, COARSER, FINE, FINER, FINE, FINER, FINE),
    (COARSER, FINE, FINER),
    (FINE, COARSER, FINE),
)


def step(kind: str, chance: np.random.Generator) -> Step:
    size = 2 if kind == FINER else 3
    kernel = chance.standard_normal((size,) * 3 + (2, 2)).astype(np.float32) / size**1.5
    bias = chance.standard_normal(2).astype(np.float32)
    dilation = int(chance.integers(1, 4)) if kind == FINE else 1
    more: dict[str, Any] = {COARSER: {'stride': 2, 'ahead': 1}, FINER: {'up': 2}}.get(kind, {})
    return Step(kernel, bias, (dilation,) * 3, activations=(('silu', 0.0),), **more)


@st.composite
def parts(draw: st.DrawFn, shape: Sequence[int]) -> tuple[slice, ...]:
    sides = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        sides.append(slice(start, draw(st.integers(start + 1, n))))
    return tuple(sides)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_a_part_is_that_of_the_whole(data: st.DataObject) -> None:
    kinds = data.draw(st.sampled_from(CHAINS))
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    steps = [step(kind, chance) for kind in kinds]
    layers = OpenvinoLayers(GraphBuilder(load_openvino()), 'chain', 1)
    # Several slabs.
    layers.slab_bytes = 1 << 14
    chain = StreamedChain(layers, steps)
    volume = chance.standard_normal((*SHAPE, 2)).astype(np.float32)
    box = data.draw(parts(chain.made(SHAPE)))
    whole = chain.features(volume).copy()
    np.testing.assert_allclose(chain.features(volume, box), whole[box], atol=1e-5)


def test_less_is_computed_for_a_part() -> None:
    chance = np.random.default_rng(0)
    steps = [step(kind, chance) for kind in CHAINS[0]]
    shape = (256, 256, 256)
    passes = passes_of(steps, shape, (slice(101, 151),) * 3)
    # The part, a multiple of two voxels around it, and the reach of the layers after it.
    assert lengths(passes[-1].result) < (54,) * 3
    assert all(n < 90 for each in passes for n in lengths(each.source))

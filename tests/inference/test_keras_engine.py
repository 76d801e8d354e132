import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainchop_bids.image.normalise import Normalization, normalise
from brainchop_bids.inference.keras_engine import KerasEngine
from brainchop_bids.inference.layers import slabs
from brainchop_bids.inference.memmap import create_array
from brainchop_bids.inference.openvino_graph import GraphBuilder
from brainchop_bids.inference.openvino_layers import OpenvinoLayers
from brainchop_bids.inference.stream import StreamedChain
from brainchop_bids.inference.tensorflow_layers import TensorflowLayers
from brainchop_bids.models.formats.openvino_files import load_openvino
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import BrainchopError, ModelError
from brainchop_bids.system.tensorflow_runtime import load_tensorflow
from tests.tfjs_folder import activation, conv, layer, random_weights, two_layers, write_tfjs

tf = load_tensorflow(2)

from brainchop_bids.inference.steps import split_head, streamable_steps  # noqa: E402
from brainchop_bids.models.formats.tfjs import read_tfjs  # noqa: E402
from brainchop_bids.models.keras_model import build_model, network_of  # noqa: E402
from brainchop_bids.models.meshnet import build_meshnet  # noqa: E402
from brainchop_bids.models.network import Network, Op  # noqa: E402

SCAN = np.random.default_rng(5).integers(0, 256, (12, 15, 11), dtype=np.uint8)


def engine(folder, **options):
    return KerasEngine(load_spec(folder), threads=2, **options)


def whole(folder, data=SCAN, rule=None):
    """Compute logits by one call of the Keras model, without our engine."""
    volume = normalise(data, rule or Normalization())[None, ..., None]
    return build_model(read_tfjs(folder)).predict(volume, verbose=0)[0]


LAYERS = {
    'tensorflow': lambda body: TensorflowLayers(tf),
    'openvino': lambda body: OpenvinoLayers(GraphBuilder(load_openvino()), 'a test', 2),
}


@pytest.mark.parametrize('make', LAYERS.values(), ids=LAYERS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    channels=st.integers(1, 4),
    dilations=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    norm=st.sampled_from([None, 'group']),
    in_channels=st.integers(1, 2),
    slab=st.sampled_from([1, 300, 3000, 1 << 20]),
    part=st.tuples(*[st.tuples(st.integers(0, 13), st.integers(1, 14))] * 3),
)
def test_slabs_of_any_size_give_the_whole(
    make, seed, shape, channels, dilations, norm, in_channels, slab, part
):
    """Whatever the shape, also volumes smaller than a dilation, and slabs of one plane."""
    rng = np.random.default_rng(seed)
    model = build_meshnet(
        channels=channels, dilations=dilations, classes=2, norm=norm, in_channels=in_channels
    )
    model.set_weights([rng.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    body, _ = split_head(network_of(model))
    volume = rng.random((*shape, in_channels), np.float32)
    before = volume.copy()
    layers = make(body)
    layers.slab_bytes = slab
    chain = StreamedChain(layers, streamable_steps(body))
    found = chain.features(volume)
    expected = build_model(body)(volume[None], training=False)[0]
    np.testing.assert_array_equal(volume, before)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    keep = tuple(
        slice(min(first, n - 1), max(last, min(first, n - 1) + 1))
        for (first, last), n in zip(part, shape, strict=True)
    )
    keep = tuple(slice(side.start, min(side.stop, n)) for side, n in zip(keep, shape, strict=True))
    found = chain.features(volume, keep)
    np.testing.assert_allclose(found, expected[keep], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(('size', 'streamed'), [(256, True), (256, False), (8, None)])
def test_several_channels_are_normalised_each_by_itself(tmp_path, size, streamed):
    folder = two_layers(tmp_path / 'net', channels=2, size=size)
    (folder / 'brainchop.json').write_text('{"inputs": ["T1w", "T2w"]}')
    rng = np.random.default_rng(1)
    shape = SCAN.shape if size == 256 else (8, 8, 8)
    pair = np.stack([rng.integers(0, high, shape) for high in (256, 40)], -1).astype(np.uint8)
    machine = engine(folder, stream=streamed)
    labels = machine.segment(pair)
    volumes = [normalise(np.ascontiguousarray(pair[..., i]), Normalization()) for i in (0, 1)]
    expected = build_model(read_tfjs(folder))(np.stack(volumes, -1)[None], training=False)[0]
    np.testing.assert_allclose(machine.logits(pair), expected, atol=1e-4)
    np.testing.assert_array_equal(labels, np.argmax(expected, -1))
    for wrong in (pair[..., 0], pair[..., :1], pair[0]):
        with pytest.raises(ModelError, match='takes volumes of 2 channels'):
            machine.segment(wrong)


@pytest.mark.parametrize('end', [[], [activation('end', 'sigmoid')]])
@pytest.mark.parametrize('size', [1, 3])
def test_one_channel_is_background_and_another_class(tmp_path, end, size):
    weights = random_weights(
        a__kernel=(3, 3, 3, 1, 2), a__bias=(2,), o__kernel=(size, size, size, 2, 1), o__bias=(1,)
    )
    layers = [conv('a', 2), activation('relu', 'relu'), conv('o', 1, size), *end]
    folder = write_tfjs(tmp_path / 'net', layers, weights)
    spec = load_spec(folder)
    assert [label.name for label in spec.labels] == ['background', 'Label-1']
    machine = KerasEngine(spec, threads=2)
    found = np.zeros((*SCAN.shape, 2), np.float32)
    labels = machine.segment(SCAN, probabilities=found)
    logits = whole(folder)[..., 0]
    expected = logits if end else tf.sigmoid(logits).numpy()
    assert 0.1 < labels.mean() < 0.9
    np.testing.assert_array_equal(labels, expected > 0.5)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(found[..., 1], expected, atol=1e-5)


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('streamed', [True, False])
def test_labels_logits_and_probabilities_agree(tmp_path, order, streamed):
    folder = two_layers(tmp_path / 'net')
    data = np.asarray(SCAN, order=order)
    machine = engine(folder, stream=streamed)
    logits = whole(folder)
    np.testing.assert_allclose(machine.logits(data), logits, atol=1e-5)
    out = create_array(tmp_path / 'probabilities', (*SCAN.shape, 3))
    labels = machine.segment(data, probabilities=out)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, logits.argmax(-1))
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    again = np.zeros((*SCAN.shape, 3), np.float32)
    machine.probabilities(data, again)
    np.testing.assert_array_equal(again, out)


def test_many_classes(tmp_path):
    folder = two_layers(tmp_path / 'net', classes=300)
    labels = engine(folder).segment(SCAN)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, whole(folder).argmax(-1))


def test_of_equal_classes_the_first_is_taken(tmp_path):
    weights = random_weights(a__kernel=(1, 1, 1, 1, 3))
    weights['a/kernel'][:] = 1
    folder = write_tfjs(tmp_path / 'net', [conv('a', 3, 1, use_bias=False)], weights)
    assert not engine(folder).segment(SCAN).any()


def test_the_models_own_normalisation_and_another(tmp_path):
    folder = two_layers(tmp_path / 'net')
    (folder / 'brainchop.json').write_text(json.dumps({'normalization': 'quantile:0.1:0.9'}))
    rule = Normalization('quantile', 0.1, 0.9)
    np.testing.assert_allclose(engine(folder).logits(SCAN), whole(folder, rule=rule), atol=1e-5)
    rule = Normalization('zscore')
    found = engine(folder, normalization=rule).logits(SCAN)
    np.testing.assert_allclose(found, whole(folder, rule=rule), atol=1e-5)


def test_networks_of_other_forms(tmp_path):
    shapes = {'a__kernel': (3, 3, 3, 1, 2), 'b__kernel': (3, 3, 3, 2, 2)}
    weights = random_weights(**shapes, c__kernel=(3, 3, 3, 2, 3), c__bias=(3,))
    add = layer('Add', 'sum', **{})
    add['inbound_nodes'] = [[['b', 0, 0, {}], ['a', 0, 0, {}]]]
    bare = {'use_bias': False}
    # A branch, a last layer that looks around, and a softmax that the file ends with.
    layers = [conv('a', 2, **bare), conv('b', 2, **bare), add, conv('c', 3)]
    folder = write_tfjs(tmp_path / 'branch', [*layers, activation('soft', 'softmax')], weights)
    machine = engine(folder)
    probabilities = np.zeros((*SCAN.shape, 3), np.float32)
    machine.probabilities(SCAN, probabilities)
    np.testing.assert_allclose(probabilities, whole(folder), atol=1e-5)
    assert not load_spec(folder).chain
    del weights['b/kernel']
    folder = write_tfjs(tmp_path / 'chain', [conv('a', 2, **bare), conv('c', 3)], weights)
    np.testing.assert_allclose(engine(folder).logits(SCAN), whole(folder), atol=1e-5)


def test_batch_norms_are_folded_first(tmp_path):
    weights = random_weights(
        a__kernel=(3, 3, 3, 1, 2),
        n__gamma=(2,),
        n__beta=(2,),
        n__moving_mean=(2,),
        out__kernel=(1, 1, 1, 2, 3),
        out__bias=(3,),
    )
    weights['n/moving_variance'] = np.array([0.5, 2], '<f4')
    norm = layer('BatchNormalization', 'n', axis=[4])
    layers = [conv('a', 2, use_bias=False), norm, activation('r', 'relu'), conv('out', 3, 1)]
    folder = write_tfjs(tmp_path / 'net', layers, weights)
    np.testing.assert_allclose(engine(folder).logits(SCAN), whole(folder), atol=1e-5)


def test_networks_that_do_not_label_the_volume(tmp_path):
    shapes = {'a__kernel': (3, 3, 3, 2, 3), 'a__bias': (3,)}
    two = write_tfjs(tmp_path / 'two', [conv('a', 3)], random_weights(**shapes), channels=2)
    with pytest.raises(ModelError, match='takes 2 channels'):
        engine(two)
    shapes['a__kernel'] = (3, 3, 3, 1, 3)
    weights = random_weights(**shapes)
    small = write_tfjs(tmp_path / 'small', [conv('a', 3, padding='valid')], weights)
    with pytest.raises(ModelError, match='expected one of the same shape'):
        engine(small).segment(SCAN)


@pytest.mark.parametrize(
    'error', [MemoryError(), tf.errors.ResourceExhaustedError(None, None, 'OOM\nwhen\nallocating')]
)
def test_too_little_memory_is_one_line(tmp_path, monkeypatch, error):
    def exhausted(*arguments):
        raise error

    machine = engine(two_layers(tmp_path / 'net'))
    monkeypatch.setattr(machine, '_features', exhausted)
    with pytest.raises(BrainchopError, match=r'net: memory ran out .*12 x 15 x 11.* GB') as caught:
        machine.segment(SCAN)
    assert '\n' not in str(caught.value)


def test_nothing_is_printed(tmp_path):
    folder = two_layers(tmp_path / 'net')
    code = (
        'import numpy as np; from brainchop_bids.inference.keras_engine import KerasEngine; '
        'from brainchop_bids.models.spec import load_spec; '
        f'KerasEngine(load_spec({str(folder)!r}), threads=1).segment(np.eye(9)[None] * 9)'
    )
    # A backend that the user trains with must not matter here.
    environment = {**os.environ, 'KERAS_BACKEND': 'torch'}
    environment.pop('TF_CPP_MIN_LOG_LEVEL', None)
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_another_backend_in_the_same_process_is_refused(tmp_path):
    pytest.importorskip('torch', reason="Keras' torch backend: pip install torch")
    code = (
        'import keras; from brainchop_bids.system.tensorflow_runtime import load_tensorflow; '
        'load_tensorflow()'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        env={**os.environ, 'KERAS_BACKEND': 'torch'},
        check=False,
    )
    assert 'Keras runs on torch' in done.stderr


@pytest.mark.parametrize('once', [True, False])
def test_slabs_cover_the_first_axis(once):
    for length in (1, 7, 193, 256):
        for nbytes in (1, 4000, 9000, 1 << 30):
            parts = list(slabs((length, 10, 10), 2, nbytes, once=once))
            covered = [row for part in parts for row in range(part.start, part.stop)]
            sizes = {part.stop - part.start for part in parts}
            assert sorted(set(covered)) == list(range(length))
            assert len(covered) == length if once else len(sizes) == 1
            assert max(sizes) * 800 <= max(nbytes, 800)


@pytest.mark.parametrize('make', LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize('slab', [1, 5000, 1 << 24])
@pytest.mark.parametrize('shape', [(8, 12, 10), (4, 4, 4), (22, 6, 8)])
def test_chains_that_stride_go_by_slabs_too(make, slab, shape):
    """Coarser behind a padding of zeros, and finer by a transposed convolution; against Keras."""
    rng = np.random.default_rng(4)
    channels = ((1, 3), (3, 6), (6, 6), (6, 2), (2, 2))
    ops = [Op('in', 'input', (), 1)]

    def add(name, kind, width, weights, **settings):
        arrays = {key: values.astype(np.float32) for key, values in weights.items()}
        ops.append(Op(name, kind, (ops[-1].name,), width, settings, arrays))

    for place, (taken, made) in enumerate(channels):
        coarser, finer = place == 1, place == 3
        size = 2 if finer else 3
        kernel = rng.normal(0, 0.4, (size,) * 3 + ((made, taken) if finer else (taken, made)))
        dilation = 1 if coarser or finer else 2
        if coarser:
            add('pad', 'zero_pad', taken, {}, padding=((1, 1),) * 3)
        add(
            f'c{place}',
            'conv_transpose' if finer else 'conv',
            made,
            {'kernel': kernel, 'bias': rng.normal(0, 1, made)},
            strides=(2,) * 3 if coarser or finer else (1,) * 3,
            dilation=(dilation,) * 3,
            padding='valid' if coarser or finer else 'same',
            groups=1,
        )
        add(f'a{place}', 'activation', made, {}, function='silu', alpha=1.0)
    body = Network(Path('a test'), tuple(ops))
    assert body.streams
    assert not body.is_chain
    layers = make(body)
    layers.slab_bytes = slab
    chain = StreamedChain(layers, streamable_steps(body))
    volume = rng.random((*shape, 1), np.float32)
    expected = build_model(body)(volume[None], training=False)[0]
    assert chain.made(shape) == shape
    np.testing.assert_allclose(chain.features(volume), expected, rtol=1e-4, atol=1e-4)
    keep = (slice(1, 3), slice(0, 4), slice(2, 4))
    np.testing.assert_allclose(chain.features(volume, keep), expected[keep], rtol=1e-4, atol=1e-4)

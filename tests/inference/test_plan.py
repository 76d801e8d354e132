"""How a run is planned, and that the commands follow the plan."""

import json
from pathlib import Path

import numpy as np
import pytest

from brainchop_bids.cli.segment import main
from brainchop_bids.inference import plan as choose
from brainchop_bids.inference import scan
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import (
    BrainchopError,
    DeviceMemoryError,
    MemoryLimitError,
    SettingsError,
)
from brainchop_bids.system.resources import Granted
from tests.builders import write_model, write_scan

WHOLE = (256, 256, 256)
BOX = (slice(80, 160), slice(80, 160), slice(80, 160))
PLENTY = Granted(8.0, 'a test')


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, '_has_gpu', lambda: False)


def test_engine_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec(write_model(tmp_path / 'net'))

    def plan(**options: str) -> tuple[str, str]:
        found = make_plan(spec, WHOLE, PLENTY, InferenceOptions(**options))
        return found.engine, found.device

    no_gpu(monkeypatch)
    assert plan() == ('openvino', 'cpu')
    assert plan(engine='tensorflow') == ('tensorflow', 'cpu')
    with pytest.raises(SettingsError, match='no NVIDIA GPU'):
        plan(device='gpu')
    monkeypatch.setattr(choose, 'find_spec', lambda name: None)
    assert plan() == ('tensorflow', 'cpu')
    monkeypatch.setattr(choose, '_has_gpu', lambda: True)
    assert plan() == ('tensorflow', 'gpu')
    assert plan(precision='bf16') == ('openvino', 'cpu')
    assert plan(engine='openvino') == ('openvino', 'cpu')
    assert plan(engine='tensorflow', device='cpu') == ('tensorflow', 'cpu')


@pytest.mark.parametrize(
    'options',
    [
        {'engine': 'openvino', 'device': 'gpu'},
        {'engine': 'tensorflow', 'precision': 'bf16'},
        {'device': 'gpu', 'precision': 'bf16'},
        {'crop': 'much'},
        {'crop': '-3'},
        {'engine': 'abacus'},
    ],
)
def test_what_does_not_go_together(options: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        InferenceOptions(**options)


def test_the_memory_decides(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole volume, the head's box, tiles, more tiles, and a refusal that tells the need."""
    no_gpu(monkeypatch)
    spec = load_spec(shared / 'models' / 'brainchop' / 'model30chan18cls')
    options = InferenceOptions()
    whole = make_plan(spec, WHOLE, PLENTY, options)
    assert [tile.shape for tile in whole.tiles or ()] == [WHOLE]
    boxed = make_plan(spec, WHOLE, PLENTY, options, box=BOX)
    assert boxed.tiles is not None
    assert boxed.tiles[0].own == BOX
    # 46 voxels on either side: what a label depends on.
    assert boxed.tiles[0].shape == (172, 172, 172)
    assert boxed.need_gb < whole.need_gb
    counts = []
    for amount in (whole.need_gb + 0.1, whole.need_gb - 0.1, 1.5, 1.0):
        plan = make_plan(spec, WHOLE, Granted(amount, 'a test'), options)
        assert plan.need_gb <= amount
        counts.append(len(plan.tiles or ()))
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[-1] > counts[1] > 1
    with pytest.raises(MemoryLimitError, match=r'needs 0\.\d GB .* granted are 0.3 GB \(a test\)'):
        make_plan(spec, WHOLE, Granted(0.3, 'a test'), options)
    normed = load_spec(shared / 'models' / 'brainchop' / 'mindgrab')
    assert normed.reach is None
    with pytest.raises(MemoryLimitError, match=r'needs 1\.\d GB'):
        make_plan(normed, WHOLE, Granted(1.0, 'a test'), options, box=BOX)


@pytest.mark.parametrize('engine', ['tensorflow', 'openvino'])
def test_the_command_uses_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    t1w, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    stats = tmp_path / 'stats.json'
    arguments = [t1w, tmp_path / 'out.nii.gz', '--model', model, '--engine', engine, '-v']
    assert main([*map(str, arguments), '--stats', str(stats)]) == 0
    assert engine in json.loads(stats.read_text())['engine']
    assert f'{engine} on the CPU, head box of' in capsys.readouterr().err


def test_too_little_memory_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t1w, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    arguments = [t1w, tmp_path / 'out.nii.gz', '--model', model, '--mem', '100M']
    assert main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'granted are 0.1 GB (--mem)' in error
    assert not (tmp_path / 'out.nii.gz').exists()


def test_a_full_gpu_is_answered_by_the_cpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and it is said. There is no GPU here: the engine is made to fail like one."""
    real, tries = scan.run_network, []

    def full(engine: object, plan: object, *rest: object, **more: object) -> object:
        tries.append(plan)
        if len(tries) == 1:
            raise DeviceMemoryError('net: the memory of the GPU ran out')
        return real(engine, plan, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scan, 'run_network', full)
    t1w, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    out = tmp_path / 'out.nii.gz'
    assert main([str(t1w), str(out), '--model', str(model)]) == 0
    assert 'the memory of the GPU ran out; computed on the CPU instead' in capsys.readouterr().err
    assert len(tries) == 2
    assert out.exists()


def test_openvino_that_cannot_be_imported_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise BrainchopError('OpenVINO cannot be imported (no module)')

    monkeypatch.setattr('brainchop_bids.inference.openvino_engine.load_openvino', absent)
    t1w, model = write_scan(tmp_path / 'T1w.nii.gz'), write_model(tmp_path / 'net')
    arguments = [t1w, tmp_path / 'out.nii.gz', '--model', model, '--engine', 'openvino']
    assert main(list(map(str, arguments))) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'cannot be imported' in error
    assert np.all([path.name != 'out.nii.gz' for path in tmp_path.iterdir()])


def test_cubes_need_no_whole_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    spec = load_spec(write_model(tmp_path / 'net'))
    rule = InferenceOptions(subvolumes='64+overlap:16')
    plan = make_plan(spec, WHOLE, PLENTY, rule)
    assert plan.tiles is None
    assert plan.need_gb < estimate_peak_gb(spec, WHOLE) + 0.2
    assert 'subvolumes 64+overlap:16' in plan.description

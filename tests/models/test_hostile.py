"""Model folders of the corpus, and random damage: one line each, in little memory."""

import json
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py  # noqa: F401
import numpy as np
import onnx  # noqa: F401
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainchop_bids.cli.models import main
from brainchop_bids.models.convert import write_network
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.spec import load_spec
from brainchop_bids.system.errors import ModelError
from tests.builders import write_model
from tests.corpus import models
from tests.corpus import onnx as onnx_files

CASES = models.CASES | onnx_files.CASES
FORMATS = ('tfjs', 'safetensors', 'onnx')


@contextmanager
def bounded(nbytes: int = 300 << 20) -> Iterator[None]:
    """Allow so much memory, of addresses, in addition to what the process has."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize('name', CASES)
def test_a_hostile_model_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = CASES[name](tmp_path / name)
    with bounded():
        assert main(['info', str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f'brainchop-models: error: {tmp_path / name}')
    assert err.count('\n') == 1
    assert said in err


def test_bad_folders_leave_the_others_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, write in CASES.items():
        write(tmp_path / name)
    write_model(tmp_path / 'good')
    (tmp_path / 'bad\x1b[31m\nname').mkdir()
    (tmp_path / 'bad\x1b[31m\nname' / 'model.json').write_text('[')
    assert main(['list', '--models-dir', str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert not err
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert lines['good'].endswith(str(tmp_path / 'good'))
    for name in CASES:
        assert f'at fault: {tmp_path / name}' in lines[name]
    assert '\x1b' not in out
    assert '\nbad\\x1b[31m\\nname ' in out
    assert 'tissue' in lines


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one good model in each format."""
    root = tmp_path_factory.mktemp('whole')
    network, _ = read_network(write_model(root / 'source'))
    for form in FORMATS:
        write_network(network, form, root / form)
    return root


def read_or_refuse(read: Callable[[Path], Any], folder: Path) -> Any:
    """Return what is read, or None if it is refused by name, for a reason that was foreseen."""
    try:
        return read(folder)
    except ModelError as error:
        message = str(error)
    assert message.startswith(str(folder))
    assert f'{folder}: cannot be read (' not in message
    return None


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(form=st.sampled_from(FORMATS), seed=st.integers(0, 1 << 32))
def test_random_damage_is_named(form: str, seed: int, whole: Path, tmp_path: Path) -> None:
    """Files whose bytes change are read as a network of finite weights, or refused by name."""
    chance = np.random.default_rng(seed)
    files = sorted((whole / form).iterdir())
    target = files[chance.integers(len(files))]
    content = bytearray(target.read_bytes())
    for place in chance.integers(len(content), size=chance.choice((1, 3, 30))):
        content[place] = chance.integers(256)
    folder = tmp_path / form
    folder.mkdir(exist_ok=True)
    for file in files:
        data = bytes(content) if file == target else file.read_bytes()
        (folder / file.name).write_bytes(
            data[: chance.choice((len(data), len(data), len(data), 99))]
        )
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = read_or_refuse(read_network, folder)
    if found is not None:
        weights = [values for op in found[0].ops for values in op.weights.values()]
        assert all(np.isfinite(values).all() for values in weights)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part),
    max_leaves=5,
)


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), value=JSON)
def test_any_value_at_any_place(
    data: st.DataObject, value: object, whole: Path, tmp_path: Path
) -> None:
    """Descriptions with one value replaced are read, or refused by the name of the folder."""
    folder = tmp_path / 'model'
    folder.mkdir(exist_ok=True)
    for file in (whole / 'source').iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    facts = {'name': 'x', 'labels': [{'index': 1, 'name': 'a', 'mapping': 1, 'color': '#ffffff'}]}
    facts |= {'components': 'largest', 'smooth': {'voxels': 1}, 'mask': {'exclude': [1]}}
    facts |= {'normalization': {'kind': 'quantile', 'low': 0.1, 'high': 0.9}, 'inputs': ['T1w']}
    (folder / 'brainchop.json').write_text(json.dumps({**facts, 'derived': {}}))
    path = folder / data.draw(st.sampled_from(['model.json', 'brainchop.json', 'colormap.json']))
    content = place = json.loads(path.read_text())
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    path.write_text(json.dumps(content))
    spec = read_or_refuse(load_spec, folder)
    assert spec is None or spec.classes == len(spec.labels) >= 2

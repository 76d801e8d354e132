"""Limits as the scheduler and the kernel state them."""

from pathlib import Path

import pytest

from brainchop_bids.errors import SettingsError
from brainchop_bids.resources import available_cpus, available_memory, parse_memory


@pytest.mark.parametrize(
    ('text', 'gb'), [('8000', 8), ('16G', 16), ('16GB', 16), ('1.5g', 1.5), ('500M', 0.5)]
)
def test_memory_sizes(text: str, gb: float) -> None:
    assert parse_memory(text) == pytest.approx(gb)


@pytest.mark.parametrize('text', ['', 'much', '-1', '0', '8X'])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_memory(text)


def test_slurm_and_cgroup_limits(tmp_path: Path) -> None:
    meminfo = tmp_path / 'meminfo'
    meminfo.write_text('MemTotal: 99999999 kB\nMemAvailable:   20000000 kB\n')
    free = available_memory({}, tmp_path, meminfo)
    assert free.amount == pytest.approx(20000000 * 1024 * 0.9 / 1e9)
    (tmp_path / 'memory.max').write_text('4000000000\n')
    assert available_memory({}, tmp_path, meminfo).source == 'cgroup memory limit'
    slurm = {'SLURM_MEM_PER_NODE': '2000', 'SLURM_CPUS_PER_TASK': '1'}
    granted = available_memory(slurm, tmp_path, meminfo)
    assert granted.amount == pytest.approx(2000 * 2**20 / 1e9)
    assert granted.source == 'SLURM_MEM_PER_NODE'
    assert available_cpus(slurm, tmp_path).amount == 1


def test_cgroup_quota(tmp_path: Path) -> None:
    (tmp_path / 'cpu.max').write_text('150000 100000\n')
    assert available_cpus({}, tmp_path).amount == 1
    (tmp_path / 'cpu.max').write_text('max 100000\n')
    assert available_cpus({}, tmp_path).source == 'processor affinity'

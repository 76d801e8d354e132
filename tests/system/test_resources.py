"""Limits as the scheduler and the kernel state them."""

from pathlib import Path

import pytest

from brainchop_bids.settings import make_settings
from brainchop_bids.system import resources
from brainchop_bids.system.errors import SettingsError
from brainchop_bids.system.resources import available_cpus, available_memory, parse_memory


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


def test_the_least_quota_of_all_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A job's group grants all of what its parent may divide.
    monkeypatch.setattr(resources, '_own_cgroups', lambda root, controller: [root / 'job', root])
    (tmp_path / 'job').mkdir()
    (tmp_path / 'job' / 'cpu.max').write_text('6400000 100000\n')
    (tmp_path / 'cpu.max').write_text('100000 100000\n')
    granted = available_cpus({'SLURM_CPUS_PER_TASK': '64'}, tmp_path)
    assert (granted.amount, granted.source) == (1, 'cgroup cpu quota')


def test_what_slurm_grants_without_a_number_for_each_task(tmp_path: Path) -> None:
    alone = {'SLURM_CPUS_ON_NODE': '1'}
    assert available_cpus(alone, tmp_path).source == 'SLURM_CPUS_ON_NODE'
    assert available_cpus({**alone, 'SLURM_CPUS_PER_TASK': 'x'}, tmp_path).amount == 1
    meminfo = tmp_path / 'meminfo'
    meminfo.write_text('MemAvailable:   20000000 kB\n')
    # However few of them this process may use.
    each = {'SLURM_MEM_PER_CPU': '500', 'SLURM_CPUS_ON_NODE': '4'}
    granted = available_memory(each, tmp_path, meminfo)
    assert granted.amount == pytest.approx(2000 * 2**20 / 1e9)
    # 0 means all of the node's.
    free = available_memory({'SLURM_MEM_PER_NODE': '0'}, tmp_path, meminfo)
    assert free.source == 'free memory of the machine'


def test_no_more_processors_than_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', '1')
    options = {'bids_dir': tmp_path, 'output_dir': tmp_path, 'analysis_level': 'participant'}
    settings = make_settings({**options, 'nprocs': 4})
    assert (settings.nprocs, settings.omp_nthreads) == (1, 1)
    assert 'SLURM_CPUS_PER_TASK; --nprocs asks for 4' in settings.notes[0]
    # As a config file of a bigger machine has it.
    assert make_settings({**options, 'nprocs': 8, 'omp_nthreads': 8}).omp_nthreads == 1
    # Jobs of a plugin's are granted their own.
    plugin = {'use_plugin': tmp_path / 'slurm.yml'}
    assert make_settings({**options, **plugin, 'nprocs': 4}).omp_nthreads == 4

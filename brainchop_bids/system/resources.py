"""Processors and memory that this process may use.

Nipype reads ``/proc/meminfo`` and counts all processors of the machine. A scheduler or a container
grants less, and kills processes that exceed the grant.
"""

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import MemoryLimitError, SettingsError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_SUFFIXES = {'': 1e6, 'K': 1e3, 'M': 1e6, 'G': 1e9, 'T': 1e12}
_CGROUP = Path('/sys/fs/cgroup')
# Address space of OpenVINO's libraries beyond the memory that they use, address space that each
# thread's stack and heap reserve, and memory of the smallest network; measured, GB.
_LIBRARIES_GB, _THREAD_GB, _LEAST_GB = 1.45, 0.13, 0.4
_MEMINFO = Path('/proc/meminfo')
# Options in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


@dataclass(frozen=True)
class Granted:
    """An amount of a resource and its origin.

    Parameters
    ----------
    amount : float
        Processors, or memory in GB (1e9 bytes).
    source : str
        Origin of the limit, for the log.
    """

    amount: float
    source: str


def parse_memory(text: str) -> float:
    """Read a memory size as fMRIPrep's ``--mem`` does.

    Parameters
    ----------
    text : str
        A number of megabytes, or a number with a suffix K, M, G or T (``'16GB'``, ``'8g'``).

    Returns
    -------
    float
        Memory in GB (1e9 bytes).

    Raises
    ------
    SettingsError
        If the text is no positive size.

    Examples
    --------
    >>> parse_memory('8000'), parse_memory('8G'), parse_memory('500MB')
    (8.0, 8.0, 0.5)
    """
    match = re.fullmatch(r'\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*', text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise SettingsError(
            f'memory {text!r} is no size: give megabytes, or a suffix as in 8000M or 8G'
        )
    return float(match[1]) * _SUFFIXES[match[2].upper()] / 1e9


def available_cpus(environ: Mapping[str, str] | None = None, cgroup: Path = _CGROUP) -> Granted:
    """Return the lowest of the numbers of processors granted by SLURM, cgroup and affinity.

    Parameters
    ----------
    environ : mapping of str, optional
        Environment variables; by default those of this process.
    cgroup : Path
        Mount point of the cgroup file system.

    Returns
    -------
    Granted
        Whole processors (at least 1) and the origin of the limit; of equal limits the first.
    """
    environ = os.environ if environ is None else environ
    found = [*_slurm_cpus(environ)]
    quota = _cgroup_cpus(cgroup)
    if quota is not None:
        found.append(Granted(max(1, int(quota)), 'cgroup cpu quota'))
    if hasattr(os, 'sched_getaffinity'):
        found.append(Granted(len(os.sched_getaffinity(0)), 'processor affinity'))
    else:
        found.append(Granted(os.cpu_count() or 1, 'processors of the machine'))
    return min(found, key=lambda granted: granted.amount)


def available_memory(
    environ: Mapping[str, str] | None = None,
    cgroup: Path = _CGROUP,
    meminfo: Path = _MEMINFO,
) -> Granted:
    """Return the lowest of the amounts of memory granted by SLURM, cgroup, ulimit and machine.

    Parameters
    ----------
    environ : mapping of str, optional
        Environment variables; by default those of this process.
    cgroup : Path
        Mount point of the cgroup file system.
    meminfo : Path
        The kernel's memory table.

    Returns
    -------
    Granted
        Memory in GB (1e9 bytes) and the origin of the limit. The machine grants nine tenths of
        its free memory.
    """
    environ = os.environ if environ is None else environ
    found = []
    node, per_cpu = environ.get('SLURM_MEM_PER_NODE', ''), environ.get('SLURM_MEM_PER_CPU', '')
    if node.isdigit() and int(node) > 0:
        found.append(Granted(int(node) * 2**20 / 1e9, 'SLURM_MEM_PER_NODE'))
    elif per_cpu.isdigit() and int(per_cpu) > 0:
        # SLURM may count more processors than can be used.
        cpus = max((granted.amount for granted in _slurm_cpus(environ)), default=1)
        found.append(Granted(int(per_cpu) * cpus * 2**20 / 1e9, 'SLURM_MEM_PER_CPU'))
    limit = _cgroup_memory(cgroup)
    if limit is not None:
        found.append(Granted(limit / 1e9, 'cgroup memory limit'))
    space = _address_space()
    if space is not None:
        taken = _mapped_gb(available_cpus(environ, cgroup).amount)
        source = f'ulimit -v of {space:.1f} GB, less {taken:.1f} GB that libraries and threads map'
        found.append(Granted(max(0.0, space - taken), source))
    found.append(Granted(_free_memory(meminfo) * 0.9, 'free memory of the machine'))
    return min(found, key=lambda granted: granted.amount)


def forget_peak() -> None:
    """Restart the measurement of `peak_mb`, if the system supports that."""
    with suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5', 'ascii')


def peak_mb() -> float:
    """Return the peak resident memory of this process since `forget_peak`, MB (10^6 bytes)."""
    try:
        # Unlike getrusage, this does not include the parent's memory at the time of the fork.
        with Path('/proc/self/status').open(encoding='ascii') as status:
            line = next(line for line in status if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        pass
    if resource is None:
        import psutil

        memory = psutil.Process().memory_info()
        return float(getattr(memory, 'peak_wset', memory.rss)) / 1e6
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def set_malloc(options: Mapping[int, int]) -> None:
    """Set options of the C library's allocator, where it is glibc's.

    Parameters
    ----------
    options : mapping of int to int
        Values by glibc's number of the option (`M_TRIM_THRESHOLD`, `M_MMAP_MAX`, `M_ARENA_MAX`).
    """
    # Windows does not open the C library by no name.
    libc = ctypes.CDLL(None) if os.name == 'posix' else None
    if libc is not None and hasattr(libc, 'mallopt'):
        for option, value in options.items():
            libc.mallopt(option, value)


def check_address_space() -> None:
    """Check that the address space is large enough to load the libraries.

    Raises
    ------
    MemoryLimitError
        If it is not; NumPy's libraries would abort the process.
    """
    space = _address_space()
    least = _mapped_gb(available_cpus().amount) + _LEAST_GB
    if space is not None and space < least:
        raise MemoryLimitError(
            f'ulimit -v grants {space:.1f} GB of address space, at least {least:.1f} GB are '
            'needed; raise it, or limit memory by --mem or a cgroup instead'
        )


def _mapped_gb(threads: float) -> float:
    """Return the address space of a process in excess of its memory, GB."""
    return _LIBRARIES_GB + _THREAD_GB * threads


def _address_space() -> float | None:
    """Return the limit of this process's address space in GB."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit / 1e9


def _slurm_cpus(environ: Mapping[str, str]) -> list[Granted]:
    """Return the processors that SLURM grants per task, or on this node if that is not set."""
    for name in ('SLURM_CPUS_PER_TASK', 'SLURM_CPUS_ON_NODE'):
        text = environ.get(name, '')
        if text.isdigit() and int(text) > 0:
            return [Granted(int(text), name)]
    return []


def _cgroup_cpus(root: Path) -> float | None:
    """Return the processors of the lowest cgroup quota, version 2 or 1."""
    quotas = []
    for folder in _own_cgroups(root, 'cpu'):
        text = _read(folder / 'cpu.max').split()
        if len(text) == 2 and text[0].isdigit():
            quotas.append(int(text[0]) / int(text[1]))
        quota, period = _read(folder / 'cpu.cfs_quota_us'), _read(folder / 'cpu.cfs_period_us')
        if quota.isdigit() and period.isdigit() and int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _cgroup_memory(root: Path) -> int | None:
    """Return the bytes of a cgroup memory limit, version 2 or 1."""
    limits = []
    for folder in _own_cgroups(root, 'memory'):
        for name in ('memory.max', 'memory.high', 'memory.limit_in_bytes'):
            text = _read(folder / name)
            # In version 1 a number near 2**63 means no limit.
            if text.isdigit() and 0 < int(text) < 2**60:
                limits.append(int(text))
    return min(limits, default=None)


def _own_cgroups(root: Path, controller: str) -> list[Path]:
    """Return this process's cgroup folder and its parents, innermost first."""
    folders = []
    for line in _read(Path('/proc/self/cgroup')).splitlines():
        number, controllers, name = line.split(':', 2)
        if number == '0':
            base = root
        elif controller in controllers.split(','):
            base = root / controller
        else:
            continue
        own = base / name.lstrip('/')
        chain = [own, *own.parents]
        folders += chain[: chain.index(base)] if base in chain else []
    # Inside a container the root of the mount is the container's own group.
    return [*folders, root, root / controller]


def _free_memory(meminfo: Path) -> float:
    """Return the memory that the system reports as available, GB."""
    match = re.search(r'^MemAvailable:\s+(\d+) kB', _read(meminfo), re.MULTILINE)
    if match:
        return int(match[1]) * 1024 / 1e9
    import psutil

    return float(psutil.virtual_memory().available) / 1e9


def _read(path: Path) -> str:
    try:
        return path.read_text('utf-8').strip()
    except OSError:
        return ''

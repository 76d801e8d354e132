"""Choice of the engine and of the parts in which a volume fits into memory."""

import math
from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..image.head import head_box
from ..image.normalise import Normalization
from ..models.spec import ModelSpec
from ..system.errors import MemoryLimitError, SettingsError
from ..system.resources import M_ARENA_MAX, Granted, set_malloc
from .memory import estimate_peak_gb
from .options import InferenceOptions
from .subvolumes import Subvolumes
from .tiles import Box, Tile, exact_tiles, fitting_tiles, whole

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True)
class Plan:
    """Plan for computing a volume.

    Parameters
    ----------
    engine : {'openvino', 'tensorflow'}
        Library that runs the network.
    device : {'cpu', 'gpu'}
        Processor that runs the network.
    precision : {'f32', 'bf16'}
        Precision of features.
    tiles : tuple of Tile or None
        Parts of the volume; None for the cubes that a model was trained on.
    need_gb : float
        Estimated peak memory of the process, GB.
    description : str
        The choices and their reasons, for a log.
    subvolumes : Subvolumes or None
        Cubes in place of tiles.
    tta : bool
        True if the mirrored volume is computed too.
    """

    engine: str
    device: str
    precision: str
    tiles: tuple[Tile, ...] | None
    need_gb: float
    description: str
    subvolumes: Subvolumes | None = None
    tta: bool = False


def make_plan(
    spec: ModelSpec,
    shape: Sequence[int],
    memory: Granted,
    options: InferenceOptions,
    *,
    box: Box | None = None,
) -> Plan:
    """Choose engine, device and tiles for a model and a volume.

    On a GPU, TensorFlow computes the whole volume at once. On a CPU the engine is OpenVINO, or
    TensorFlow if OpenVINO is not installed or TensorFlow was asked for. The box of the head (or
    the whole volume) is computed at once if it fits into the memory, and otherwise in as few
    tiles as fit, which are wide enough to give the same labels.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    shape : sequence of 3 int
        Shape of the conformed volume, in voxels.
    memory : Granted
        Memory that may be used, GB.
    options : InferenceOptions
        Options of the user.
    box : tuple of 3 slice, optional
        Bounding box of the head; by default the whole volume.

    Returns
    -------
    Plan

    Raises
    ------
    MemoryLimitError
        If not even tiles fit into the memory.
    SettingsError
        If a GPU was asked for and there is none.
    """
    found = _make_plan(spec, shape, memory, options, box)
    if options.tta:
        # Raises an error for labels that cannot be mirrored, before anything is computed.
        spec.labels.mirrored()
        found = replace(found, tta=True, description=f'{found.description}, and flipped')
    return found


def plan_scan(
    spec: ModelSpec,
    data: np.ndarray,
    zooms: Sequence[float] | np.ndarray,
    memory: Granted,
    options: InferenceOptions,
) -> Plan:
    """Choose engine, device and tiles for a model and a scan, cropped to the head if allowed.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    data : (X, Y, Z) uint8 array
        The conformed scan.
    zooms : sequence of 3 float
        Its voxel sizes in mm.
    memory, options
        As for `make_plan`.

    Returns
    -------
    Plan

    Raises
    ------
    MemoryLimitError, SettingsError
        As for `make_plan`.
    """
    box = None
    if options.margin_mm is not None and options.subvolumes is None:
        x, y, z = (math.ceil(options.margin_mm / zoom) for zoom in zooms)
        box = head_box(data, (x, y, z))
    return make_plan(spec, data.shape, memory, options, box=box)


def _make_plan(
    spec: ModelSpec,
    shape: Sequence[int],
    memory: Granted,
    options: InferenceOptions,
    box: Box | None,
) -> Plan:
    engine, device, why = _engine(options, spec)
    precision = options.precision
    size = 'x'.join(map(str, shape))
    rule = None if options.subvolumes is None else Subvolumes.parse(options.subvolumes)
    if rule is not None and spec.graph is not None and spec.block not in (None, rule.shape):
        raise SettingsError(
            f'{spec.name}: computes cubes of {"x".join(map(str, spec.block or ()))} only; give '
            '--subvolumes this size'
        )
    if device == 'gpu':
        description = f'{engine} on the GPU, whole volume of {size} ({why})'
        tiles = None if spec.block is not None else tuple(whole(shape))
        return Plan(engine, device, precision, tiles, 0.0, description, rule)

    def need(tile: Sequence[int] | None) -> float:
        return estimate_peak_gb(
            spec, shape, engine, tile=tile, precision=precision, subvolumes=rule
        )

    def plan(tiles: Sequence[Tile] | None, what: str) -> Plan:
        amount = need(None if tiles is None else _largest(tiles))
        description = (
            f'{engine} on the CPU, {what} ({why}; {amount:.1f} GB of {memory.amount:.1f} GB)'
        )
        found = None if tiles is None else tuple(tiles)
        return Plan(engine, device, precision, found, amount, description, rule)

    if rule is not None:
        chosen = plan(None, f'subvolumes {rule}')
    elif spec.block is not None:
        chosen = plan(None, f'cubes of {"x".join(map(str, spec.block))}')
    elif spec.reach is None or box is None:
        chosen = plan(whole(shape), f'whole volume of {size}')
    else:
        lengths = 'x'.join(str(side.stop - side.start) for side in box)
        chosen = plan(exact_tiles(shape, *spec.reach, box=box), f'head box of {lengths}')
    if chosen.need_gb <= memory.amount or chosen.tiles is None or spec.reach is None:
        least = chosen.need_gb
    else:
        parts = fitting_tiles(
            shape, *spec.reach, lambda tile: need(tile) <= memory.amount, box=box
        )
        if parts is not None:
            largest = 'x'.join(map(str, _largest(parts)))
            return plan(parts, f'{len(parts)} exact tiles of at most {largest}')
        smallest = exact_tiles(shape, *spec.reach, box=box, numbers=(8, 8, 8))
        least = min(chosen.need_gb, need(_largest(smallest)))
    if least > memory.amount:
        raise MemoryLimitError(
            f'{spec.name}: needs {least:.1f} GB of memory for a volume of {size} voxels, granted '
            f'are {memory.amount:.1f} GB ({memory.source}); grant more, or use a smaller model'
        )
    return chosen


def make_engine(
    plan: Plan, spec: ModelSpec, threads: int | None, normalization: Normalization | None
) -> 'Engine':
    """Load a model into the engine of a plan.

    Parameters
    ----------
    plan : Plan
        Plan that `make_plan` returned.
    spec : ModelSpec
        The model.
    threads : int, optional
        Number of threads.
    normalization : Normalization, optional
        Normalization that replaces the model's own.

    Returns
    -------
    Engine
    """
    if plan.engine == 'openvino':
        from .openvino_engine import OpenvinoEngine

        return OpenvinoEngine(
            spec, threads=threads, normalization=normalization, precision=plan.precision
        )
    from .keras_engine import KerasEngine

    return KerasEngine(spec, threads=threads, normalization=normalization, device=plan.device)


class Engines:
    """Makes engines, and keeps the last one for scans of the same model and settings.

    Parameters
    ----------
    keep_memory : bool
        True to also keep the memory for features, see `Engine.keep_memory`.
    """

    def __init__(self, *, keep_memory: bool = False) -> None:
        self._keep_memory = keep_memory
        # Each scan starts threads, and those of a new arena leave some 10 MB there: by default
        # memory grows by 60 to 100 MB a scan until there are eight arenas per processor.
        set_malloc({M_ARENA_MAX: 2})
        # Only one engine is kept, since each takes memory.
        self._last: tuple[tuple[object, ...], Engine] | None = None

    def make(
        self,
        plan: Plan,
        spec: ModelSpec,
        threads: int | None,
        normalization: Normalization | None,
    ) -> 'Engine':
        """Return the engine of a plan, see `make_engine`."""
        key = (plan.engine, plan.device, plan.precision, spec.sha256, threads, normalization)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        self._last = None
        engine = make_engine(plan, spec, threads, normalization)
        if self._keep_memory:
            engine.keep_memory()
        self._last = key, engine
        return engine


def _largest(tiles: Sequence[Tile]) -> tuple[int, int, int]:
    x, y, z = (max(tile.shape[axis] for tile in tiles) for axis in range(3))
    return x, y, z


def _engine(options: InferenceOptions, spec: ModelSpec) -> tuple[str, str, str]:
    """Return the engine, the device and the reason for this choice."""
    wanted, device = options.engine, options.device
    if spec.graph is not None:
        if wanted == 'tensorflow' or device == 'gpu':
            raise SettingsError(
                f'{spec.name}: is an ONNX graph, which runs with OpenVINO on a CPU; leave out '
                '--engine and --device'
            )
        return 'openvino', 'cpu', 'an ONNX graph'
    for_cpu = wanted == 'openvino' or options.precision == 'bf16' or device == 'cpu'
    gpu = not for_cpu and _has_gpu()
    if device == 'gpu' and not gpu:
        raise SettingsError('--device gpu: no NVIDIA GPU with its libraries was found')
    if gpu:
        return 'tensorflow', 'gpu', 'there is a GPU'
    why = 'as asked for' if wanted != 'auto' or device == 'cpu' else 'no GPU'
    if wanted == 'auto' and options.precision == 'f32' and find_spec('openvino') is None:
        return 'tensorflow', 'cpu', 'openvino is not installed'
    return ('openvino' if wanted == 'auto' else wanted), 'cpu', why


def _has_gpu() -> bool:
    """Return True if there is an NVIDIA GPU and the libraries that TensorFlow needs for it.

    TensorFlow itself is not asked, because importing it takes seconds.
    """
    cards = any(Path('/dev').glob('nvidia[0-9]*'))
    return cards and (find_library('cudnn') is not None or find_spec('nvidia') is not None)

"""Which engine runs a model on this machine."""

from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..image.normalise import Normalization
from ..models.spec import ModelSpec
from .memory import FEW_CLASSES, estimate_peak_gb

if TYPE_CHECKING:
    from .base import Engine


@dataclass(frozen=True)
class Choice:
    """An engine, and why it was chosen.

    Parameters
    ----------
    name : {'tensorflow', 'openvino'}
        The engine.
    why : str
        A few words, for a log.
    """

    name: str
    why: str


def choose_engine(
    spec: ModelSpec,
    wanted: str,
    shape: Sequence[int],
    memory_gb: float,
    *,
    probabilities: bool = False,
) -> Choice:
    """Choose how a model is run.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    wanted : {'auto', 'tensorflow', 'openvino'}
        What the user asked for. ``'auto'`` is TensorFlow on a GPU, and on a CPU OpenVINO for few
        classes, where its whole graph fits; TensorFlow's layers need less memory.
    shape : sequence of 3 int
        The conformed volume's, voxels.
    memory_gb : float
        What may be used, GB.
    probabilities : bool
        Whether they are wanted too.

    Returns
    -------
    Choice
    """
    if wanted != 'auto':
        return Choice(wanted, 'as asked for')
    if _has_gpu():
        return Choice('tensorflow', 'there is a GPU')
    if find_spec('openvino') is None:
        return Choice('tensorflow', 'openvino is not installed')
    if spec.classes > FEW_CLASSES:
        return Choice('tensorflow', 'with so many classes it is as quick, in less memory')
    need = estimate_peak_gb(spec, shape, 'openvino', probabilities=probabilities)
    told = f'{need:.1f} GB needed, {memory_gb:.1f} GB granted'
    if need > memory_gb:
        return Choice('tensorflow', f'openvino does not fit: {told}')
    return Choice('openvino', f'no GPU; {told}')


def make_engine(
    name: str, spec: ModelSpec, threads: int | None, normalization: Normalization | None
) -> 'Engine':
    """Load a model into an engine.

    Parameters
    ----------
    name : {'tensorflow', 'openvino'}
        The engine.
    spec : ModelSpec
        The model.
    threads : int, optional
        Threads.
    normalization : Normalization, optional
        Replaces the model's own.

    Returns
    -------
    Engine
    """
    if name == 'openvino':
        from .openvino_engine import OpenvinoEngine

        return OpenvinoEngine(spec, threads=threads, normalization=normalization)
    from .engine import KerasEngine

    return KerasEngine(spec, threads=threads, normalization=normalization)


def _has_gpu() -> bool:
    """Tell whether there is an NVIDIA card and what TensorFlow needs for it.

    Asking TensorFlow would take the seconds that OpenVINO saves.
    """
    cards = any(Path('/dev').glob('nvidia[0-9]*'))
    return cards and (find_library('cudnn') is not None or find_spec('nvidia') is not None)

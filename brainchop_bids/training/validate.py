"""Validation on whole volumes with the package's own inference instead of Keras."""

import gc
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from ..inference.options import InferenceOptions
from ..inference.plan import make_engine, plan_scan
from ..models.spec import ModelSpec, load_spec
from ..reports.text import one_line
from ..system.errors import InputError, ModelError, SettingsError
from ..system.resources import available_cpus, available_memory
from .report.overlays import draw_overlay
from .report.scores import WORST, Scores

# Training takes the memory of a GPU; labels are the same on the CPU.
_OPTIONS = InferenceOptions(device='cpu')
# Voxels along the last axis that are counted at once.
_SLAB = 16


@dataclass(frozen=True, eq=False)
class ValidationScan:
    """A scan with its true labels.

    Parameters
    ----------
    name : str
        Unique name for tables and pages.
    image : (X, Y, Z) or (X, Y, Z, C) uint8
        Conformed to 1 mm, LIA, before normalisation.
    labels : (X, Y, Z) uint8
        True classes on the same grid.
    """

    name: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


class Validator:
    """Scores models on a fixed set of scans.

    Scans are segmented by OpenVINO on the CPU, or by TensorFlow if Keras runs on it and OpenVINO
    is not installed. The model's rule for connected components is not applied, since it would hide
    errors of the network.

    Parameters
    ----------
    scans : sequence of ValidationScan
        At least one.
    names : sequence of str
        Names of all classes, the background first.

    Raises
    ------
    SettingsError
        If no engine for inference is installed.
    InputError
        If image and labels of a scan have different shapes, labels are not classes, or names are
        not unique.
    """

    def __init__(self, scans: Sequence[ValidationScan], names: Sequence[str]) -> None:
        require_engine()
        self.names = tuple(names)
        self.scans = tuple(
            ValidationScan(one_line(scan.name), scan.image, scan.labels) for scan in scans
        )
        if not scans:
            raise InputError('validation: there is no scan to score; set validation.every = 0')
        for scan in self.scans:
            _check_scan(scan, len(self.names))
        name, count = Counter(scan.name for scan in self.scans).most_common(1)[0]
        if count > 1:
            raise InputError(f'validation: {count} scans are called {name}; give them other names')

    def score(self, model_folder: Path) -> Scores:
        """Segment all scans, and compare the labels with the truth.

        Parameters
        ----------
        model_folder : Path
            Model folder with ``brainchop.json``.

        Returns
        -------
        Scores

        Raises
        ------
        ModelError
            If there is no model in the folder, or classes or channels differ.
        MemoryLimitError
            If a scan does not fit into memory.
        """
        spec = load_spec(model_folder)
        if spec.classes != len(self.names):
            raise ModelError(
                f'{spec.folder}: has {spec.classes} classes, the validation {len(self.names)}'
            )
        with preserve_state():
            try:
                return self._score(spec)
            finally:
                # Graphs and layers refer to each other; only the collector frees their memory.
                gc.collect()

    def _score(self, spec: ModelSpec) -> Scores:
        threads = max(1, int(available_cpus().amount))
        engine: Any = None
        dice, pictures = [], []
        for scan in self.scans:
            first = scan.image[..., 0] if scan.image.ndim == 4 else scan.image
            plan = plan_scan(spec, first, (1, 1, 1), available_memory(), _OPTIONS)
            if engine is None:
                engine = make_engine(plan, spec, threads, None)
            predicted = engine.segment(scan.image, tiles=plan.tiles)
            dice.append(class_dice([scan.labels], [predicted], spec.classes))
            pictures.append(draw_overlay(scan.image, scan.labels, predicted, spec.labels.colors))
        scores = Scores(
            tuple(scan.name for scan in self.scans), self.names, np.array(dice), spec.labels.colors
        )
        shown = {*scores.ranked[:WORST], scores.best}
        for scan, picture in zip(self.scans, pictures, strict=True):
            if scan.name in shown:
                scores.pictures[scan.name] = picture
        return scores


def require_engine() -> None:
    """Check that whole volumes can be segmented in this process.

    Raises
    ------
    SettingsError
        If OpenVINO is not installed and Keras does not run on TensorFlow.
    """
    backend = keras.backend.backend()
    if find_spec('openvino') is None and backend != 'tensorflow':
        raise SettingsError(
            f'validation.every in the training config: with Keras on {backend}, whole scans are '
            'segmented by OpenVINO, which is not installed; pip install openvino, or set '
            'validation.every = 0'
        )


@contextmanager
def preserve_state() -> Iterator[None]:
    """Restore random states and Keras' dtype policy afterwards; inside, the policy is float32.

    Building layers draws seeds from Python's random generator. Without this, a resumed run, which
    has validated less often, would differ from an uninterrupted one.
    """
    python, legacy, policy = random.getstate(), np.random.get_state(), keras.config.dtype_policy()
    keras.config.set_dtype_policy('float32')
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        keras.config.set_dtype_policy(policy)


def class_dice(
    truth: Iterable[npt.NDArray[np.integer]],
    predicted: Iterable[npt.NDArray[np.integer]],
    classes: int,
) -> npt.NDArray[np.float64]:
    """Return the Dice of each class over some volumes together.

    Parameters
    ----------
    truth, predicted : iterable of integer array
        Labels below ``classes`` of each volume, in pairs of equal shape.
    classes : int
        Number of classes, background included.

    Returns
    -------
    (classes,) float64
        NaN for a class that is in neither.

    Examples
    --------
    >>> class_dice([np.array([0, 1, 1])], [np.array([0, 0, 1])], 3).round(2).tolist()
    [0.67, 0.67, nan]
    """
    counts = np.zeros(classes**2, np.int64)
    for labels, others in zip(truth, predicted, strict=True):
        for start in range(0, labels.shape[-1], _SLAB):
            pairs = labels[..., start : start + _SLAB].astype(np.intp)
            pairs *= classes
            pairs += others[..., start : start + _SLAB]
            counts += np.bincount(pairs.ravel('K'), minlength=classes**2)
    table = counts.reshape(classes, classes)
    sizes = (table.sum(0) + table.sum(1)).astype(np.float64)
    return 2 * np.diag(table) / np.where(sizes > 0, sizes, np.nan)


def _check_scan(scan: ValidationScan, classes: int) -> None:
    shape = scan.image.shape
    if len(shape) not in (3, 4) or shape[:3] != scan.labels.shape:
        raise InputError(
            f'{scan.name}: its image of {shape} does not fit its labels of {scan.labels.shape}'
        )
    highest = int(scan.labels.max(initial=0))
    if highest >= classes:
        raise InputError(
            f'{scan.name}: has the label {highest}; the network has {classes} classes'
        )

"""What all engines share: volumes in, labels, logits or probabilities out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from ..image.normalise import Normalization, normalise
from ..models.formats import read_network
from ..models.spec import ModelSpec
from .blocks import blocks
from .plan import split_head


class Engine(ABC):
    """Runs a model on volumes.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    normalization : Normalization, optional
        Replaces the model's own.

    Raises
    ------
    ModelError
        Where the network cannot be read, or does not end with a convolution to classes.
    """

    def __init__(self, spec: ModelSpec, normalization: Normalization | None = None) -> None:
        self.spec = spec
        self.normalization = normalization or spec.normalization
        self._network, self._head = split_head(read_network(spec.folder)[0])
        if self._head.classes != spec.classes:
            raise ModelError(
                f'{spec.folder}: the network gives {self._head.classes} classes for '
                f'{spec.classes} labels; it must end with a convolution to classes'
            )

    @property
    @abstractmethod
    def device(self) -> str:
        """``'gpu'`` or ``'cpu'``."""

    @property
    @abstractmethod
    def versions(self) -> str:
        """What computes, with versions."""

    def segment(self, data: np.ndarray, *, probabilities: Any = None) -> np.ndarray:
        """Label a volume.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            A conformed volume before normalisation, LIA; with all channels where the network
            takes several, each of which is normalised by itself.
        probabilities : (X, Y, Z, classes) float32 array, optional
            Is filled as by `probabilities`, in the same pass.

        Returns
        -------
        (X, Y, Z) uint8 or uint16
            The most likely class of each voxel; of equal ones the first. In Fortran order.

        Raises
        ------
        BrainchopError
            Where memory runs out.
        """
        dtype = np.uint8 if self.spec.classes <= 256 else np.uint16
        labels = np.empty(data.shape[:3], dtype, order='F')
        outputs = {'labels': labels}
        if probabilities is not None:
            outputs['probabilities'] = probabilities
        self._fill(data, outputs)
        return labels

    def probabilities(self, data: np.ndarray, out: Any) -> None:
        """Write each class's probability, the softmax of the logits.

        Parameters
        ----------
        data : (X, Y, Z) or (X, Y, Z, channels) array
            As for `segment`.
        out : (X, Y, Z, classes) float32 array
            Is filled slab by slab; a `numpy.memmap` keeps it out of memory.

        Raises
        ------
        BrainchopError
            Where memory runs out.
        """
        self._fill(data, {'probabilities': out})

    def logits(self, data: np.ndarray) -> np.ndarray:
        """Return the network's output, ``(X, Y, Z, classes)`` float32: all of it, in memory."""
        out = np.empty((*data.shape[:3], self.spec.classes), np.float32)
        self._fill(data, {'logits': out})
        return out

    def _fill(self, data: np.ndarray, outputs: dict[str, Any]) -> None:
        channels = [data] if data.ndim == 3 else list(np.moveaxis(data, -1, 0))
        if channels[0].ndim != 3 or len(channels) != self.spec.in_channels:
            raise ModelError(
                f'{self.spec.name} takes volumes of {self.spec.in_channels} channels; '
                f'it was given the shape {data.shape}'
            )
        shape = channels[0].shape
        for out in outputs.values():
            if out.shape[:3] != shape:
                raise ValueError(f'output of shape {out.shape} for a volume of {shape}')
        self._compute(channels, outputs)

    @abstractmethod
    def _compute(self, channels: list[np.ndarray], outputs: dict[str, Any]) -> None:
        """Fill outputs, which go by ``labels``, ``probabilities`` and ``logits``."""

    def _normalised(self, channels: list[np.ndarray]) -> np.ndarray:
        volumes = [normalise(channel, self.normalization) for channel in channels]
        return volumes[0][..., None] if len(volumes) == 1 else np.stack(volumes, -1)

    def _fill_blocks(
        self,
        volume: np.ndarray,
        size: tuple[int, ...],
        outputs: dict[str, Any],
        compute: Callable[[np.ndarray], dict[str, np.ndarray]],
    ) -> None:
        """Compute cubes of the size that the network was trained on, side by side."""
        # Behind the end of a volume smaller than a cube there is nothing.
        shape = volume.shape[:3]
        padding = [(0, max(0, n - length)) for n, length in zip(size, shape, strict=True)]
        padded = np.pad(volume, [*padding, (0, 0)])
        for start, own in blocks(padded.shape[:3], size):
            cube = tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))
            inner = tuple(
                slice(place.start - first, min(place.stop, length) - first)
                for place, first, length in zip(own, start, shape, strict=True)
            )
            for kind, values in compute(padded[cube]).items():
                outputs[kind][own] = values[inner]

    def _check_grid(self, made: Sequence[int], shape: tuple[int, ...]) -> None:
        if tuple(made) != tuple(shape):
            raise ModelError(
                f'{self.spec.folder}: the network makes a volume of {tuple(made)} '
                f'out of {tuple(shape)}; expected one of the same shape'
            )

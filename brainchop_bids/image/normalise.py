"""Normalization of intensities for networks."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..system.errors import SettingsError
from .lookup import flat, histogram, lookup

KINDS = ('minmax', 'quantile', 'zscore', 'zscore-whole', 'max', 'brats', 'window', 'none')
# Names of MedicalZoo (https://github.com/black0017/MedicalZooPytorch,
# lib/medloaders/medical_image_process.py) for what has another name here.
ALIASES = {'full_volume_mean': 'zscore-whole', 'max_min': 'minmax', 'mean': 'zscore'}


@dataclass(frozen=True)
class Normalization:
    """Rule for scaling the input of a network.

    Parameters
    ----------
    kind : {'minmax', 'quantile', 'zscore', 'zscore-whole', 'max', 'brats', 'window', 'none'}
        ``(x - min) / (max - min)``; ``(x - q_low) / (q_high - q_low)``; ``(x - mean) / sd``
        with mean and standard deviation over the foreground (voxels above 0), or over the whole
        volume, as Nobrainer does; ``x / max``; MedicalZoo's ``brats``, which is ``100 (z - min) /
        (max - min) + 10``, where ``z`` is ``zscore-whole``, and 0 where x is; ``(x - low) /
        (high - low)``, clipped to 0..1, for Hounsfield units; or the conformed 0 to 255 as they
        are. MedicalZoo's names `ALIASES` are also understood.
    low, high : float
        The two quantiles, between 0 and 1, of ``'quantile'``; the ends of ``'window'``.
    clip : bool
        Clip the result of ``'quantile'`` to 0..1.

    Raises
    ------
    SettingsError
        If the kind is unknown or the quantiles are not in ascending order.

    Examples
    --------
    >>> str(Normalization.parse('quantile:0.02:0.98:clip'))
    'quantile:0.02:0.98:clip'
    """

    kind: str = 'minmax'
    low: float = 0.02
    high: float = 0.98
    clip: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.kind not in KINDS:
            raise SettingsError(
                f'normalisation {self.kind!r} is not known; use one of {", ".join(KINDS)}'
            )
        if self.kind == 'window':
            if not -np.inf < self.low < self.high < np.inf:
                raise SettingsError(
                    f'normalisation window is {self.low} to {self.high}; expected the lower end '
                    'first'
                )
        elif not 0 <= self.low < self.high <= 1:
            raise SettingsError(
                f'normalisation quantiles are {self.low} and {self.high}; '
                'they must lie between 0 and 1, the lower one first'
            )

    @classmethod
    def parse(cls, text: str) -> 'Normalization':
        """Parse the short form: a kind, ``quantile:LOW:HIGH[:clip]`` or ``window:LOW:HIGH``.

        Raises
        ------
        SettingsError
            If the text is not such a rule.
        """
        kind, *rest = text.strip().split(':')
        kind = ALIASES.get(kind, kind)
        clip = bool(rest) and rest[-1] == 'clip'
        numbers = rest[:-1] if clip else rest
        try:
            if kind == 'quantile' and len(numbers) in (0, 2):
                low, high = (float(n) for n in numbers) if numbers else (cls.low, cls.high)
                return cls('quantile', low, high, clip)
            if kind == 'window' and len(rest) == 2:
                return cls(kind, float(rest[0]), float(rest[1]))
            if not rest and kind != 'window':
                return cls(kind)
        except ValueError:
            pass
        raise SettingsError(
            f'normalisation {text!r} is not understood; '
            "write 'minmax', 'zscore', 'zscore-whole', 'max', 'brats', 'none', "
            "'quantile:0.02:0.98', 'quantile:0.02:0.98:clip' or 'window:-200:300'"
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'Normalization':
        """Build from a mapping as `to_dict` returns it; missing keys take their defaults.

        Raises
        ------
        SettingsError
            If a key is unknown.
        """
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise SettingsError(f'normalisation has unknown keys {sorted(unknown)}')
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that matter for this kind, ready for JSON or TOML."""
        if self.kind == 'window':
            return {'kind': self.kind, 'low': self.low, 'high': self.high}
        return asdict(self) if self.kind == 'quantile' else {'kind': self.kind}

    def __str__(self) -> str:
        """Return the short form, as `parse` reads it."""
        if self.kind == 'window':
            return f'window:{self.low:g}:{self.high:g}'
        if self.kind != 'quantile':
            return self.kind
        return f'quantile:{self.low}:{self.high}' + (':clip' if self.clip else '')


def normalise(data: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Scale the intensities of a volume.

    Parameters
    ----------
    data : (X, Y, Z) array
        Intensities; uint8 values are scaled by a look-up table.
    normalization : Normalization
        The rule.

    Returns
    -------
    (X, Y, Z) float32
        In the memory order of ``data``. Constant volumes become 0, except with ``'max'``, and
        with ``'zscore'`` also volumes without foreground.
    """
    return normaliser(data, normalization)(data)


def normalise_channels(images: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Scale each channel of a volume separately, as the App does.

    Parameters
    ----------
    images : (X, Y, Z, C) array
        Intensities.
    normalization : Normalization
        Rule for each channel.

    Returns
    -------
    (X, Y, Z, C) float32
        Each channel is contiguous in memory.
    """
    scaled = np.empty((images.shape[-1], *images.shape[:-1]), np.float32)
    for number in range(images.shape[-1]):
        scaled[number] = normalise(images[..., number], normalization)
    return np.moveaxis(scaled, 0, -1)


def normaliser(
    data: np.ndarray, normalization: Normalization
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that scales parts of a volume as `normalise` scales the whole.

    Parameters
    ----------
    data : (X, Y, Z) array
        The whole volume.
    normalization : Normalization
        The rule.

    Returns
    -------
    callable
        Takes an array of the same type and returns it scaled, float32.
    """
    clip = normalization.kind == 'window' or (
        normalization.kind == 'quantile' and normalization.clip
    )

    def scaled(part: np.ndarray) -> np.ndarray:
        result = _scaled(part, *limits)
        if normalization.kind == 'brats':
            result[part == 0] = 0
        return np.clip(result, 0, 1, out=result) if clip else result

    if data.dtype != np.uint8:
        limits = _range_of_data(data, normalization)
        return scaled
    limits = _range_of_counts(histogram(data, 256), normalization)
    return partial(lookup, scaled(np.arange(256, dtype=np.uint8)))


def _scaled(data: np.ndarray, shift: float, span: float) -> np.ndarray:
    result = data.astype(np.float32)
    result -= np.float32(shift)
    # The span is zero if the volume, or the part between the quantiles, is constant.
    if span > 0:
        result /= np.float32(span)
    return result


def _range_of_data(data: np.ndarray, rule: Normalization) -> tuple[float, float]:
    """Return what is subtracted, and what the result is divided by unless that is 0."""
    if rule.kind == 'window':
        return rule.low, rule.high - rule.low
    if rule.kind == 'quantile':
        low, high = (float(q) for q in np.quantile(flat(data), (rule.low, rule.high)))
        return low, high - low
    if rule.kind == 'none':
        return 0.0, 0.0
    foreground = data[data > 0] if rule.kind == 'zscore' else data
    if not foreground.size:
        return 0.0, 0.0
    ends = float(foreground.min()), float(foreground.max())
    if rule.kind in ('minmax', 'max'):
        return _range(rule.kind, ends)
    mean = float(foreground.mean(dtype=np.float64))
    return _range(rule.kind, ends, mean, float(foreground.std(dtype=np.float64)))


def _range_of_counts(counts: np.ndarray, rule: Normalization) -> tuple[float, float]:
    if rule.kind == 'window':
        return rule.low, rule.high - rule.low
    if rule.kind == 'quantile':
        low, high = (_quantile_of_counts(counts, q) for q in (rule.low, rule.high))
        return low, high - low
    if rule.kind == 'none':
        return 0.0, 0.0
    values = np.arange(counts.size, dtype=np.float64)
    if rule.kind == 'zscore':
        values, counts = values[1:], counts[1:]
    number = counts.sum()
    if not number:
        return 0.0, 0.0
    present = values[np.flatnonzero(counts)]
    mean = float((counts * values).sum() / number)
    spread = float(np.sqrt((counts * (values - mean) ** 2).sum() / number))
    return _range(rule.kind, (float(present[0]), float(present[-1])), mean, spread)


def _range(
    kind: str, ends: tuple[float, float], mean: float = 0.0, spread: float = 0.0
) -> tuple[float, float]:
    low, high = ends
    if kind == 'minmax':
        return low, high - low
    if kind == 'max':
        return 0.0, high
    if kind == 'brats' and spread > 0:
        span = spread * (high - low) / 100
        # Its value at x = 0 is -shift / span.
        return span * (100 * (mean / spread + low) / (high - low) - 10), span
    return mean, spread


def _quantile_of_counts(counts: np.ndarray, q: float) -> float:
    """Compute `numpy.quantile` (linear, Hyndman and Fan's type 7) from counts of values."""
    ends = np.cumsum(counts)
    position = q * (int(ends[-1]) - 1)
    lower = int(np.floor(position))
    upper = min(lower + 1, int(ends[-1]) - 1)
    a, b = (int(np.searchsorted(ends, i, side='right')) for i in (lower, upper))
    part = position - lower
    # Interpolated from the nearer end, as in NumPy, for equality to the last bit.
    return b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part

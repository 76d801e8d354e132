"""Least confidence of a model, below which a scan is flagged."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..system.errors import ModelError


@dataclass(frozen=True)
class ConfidenceLimit:
    """Least confidence of a model, as calibrated on images spoilt on purpose.

    Parameters
    ----------
    least : float
        Scans with a lower `brainchop_bids.inference.confidence.mean_confidence` are flagged.
    dice : float
        Mean Dice over structures below which labels were called bad.
    hits, bad : int
        Number of images with bad labels that were flagged, and of all with bad labels.
    false_alarms, good : int
        Number of other images that were flagged, and of all others.
    """

    least: float
    dice: float
    hits: int
    bad: int
    false_alarms: int
    good: int

    @classmethod
    def from_dict(cls, content: Any, path: Path) -> 'ConfidenceLimit':
        """Read the entry of a model folder's ``brainchop.json``.

        Parameters
        ----------
        content : object
            The entry.
        path : Path
            The file, for messages.

        Returns
        -------
        ConfidenceLimit

        Raises
        ------
        ModelError
            If it does not have these numbers: ``least`` and ``dice`` are between 0 and 1, counts
            are not larger than the numbers of images.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ModelError(
                f'{path}: "confidence" is {content!r}; expected an object with {", ".join(names)}'
            )
        for name, kinds, most in (
            ('least', (int, float), 1),
            ('dice', (int, float), 1),
            ('bad', (int,), 10**9),
            ('good', (int,), 10**9),
            ('hits', (int,), content['bad']),
            ('false_alarms', (int,), content['good']),
        ):
            value = content[name]
            if type(value) not in kinds or not 0 <= value <= most:
                kind = 'a number' if float in kinds else 'a whole number'
                raise ModelError(
                    f'{path}: confidence {name} is {value!r}; expected {kind} from 0 to {most}'
                )
        return cls(**content)

    def to_dict(self) -> dict[str, float | int]:
        """Return the entry of ``brainchop.json``."""
        return asdict(self)

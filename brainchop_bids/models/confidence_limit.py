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
    hits, false_alarms : float
        Shares of the images with bad labels, and of the others, that were flagged.
    """

    least: float
    dice: float
    hits: float
    false_alarms: float

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
            If it does not have these four numbers between 0 and 1.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ModelError(
                f'{path}: "confidence" is {content!r}; expected an object with {", ".join(names)}'
            )
        for name, value in content.items():
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise ModelError(
                    f'{path}: confidence {name} is {value!r}; expected a number from 0 to 1'
                )
        return cls(**content)

    def to_dict(self) -> dict[str, float]:
        """Return the entry of ``brainchop.json``."""
        return asdict(self)

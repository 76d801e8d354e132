"""Options of running a network."""

from dataclasses import asdict, dataclass
from typing import Any

from ..system.errors import SettingsError

ENGINES = ('auto', 'openvino', 'tensorflow')
DEVICES = ('auto', 'cpu', 'gpu')
PRECISIONS = ('f32', 'bf16')
# Around the head, so that a dark rim of it is not lost; the labels inside do not depend on it.
MARGIN_MM = 4.0


@dataclass(frozen=True)
class InferenceOptions:
    """How a network is run.

    Parameters
    ----------
    engine : {'auto', 'openvino', 'tensorflow'}
        What computes, see `make_plan`.
    device : {'auto', 'cpu', 'gpu'}
        Processor that runs the network.
    precision : {'f32', 'bf16'}
        Of features and products; bfloat16 by OpenVINO only.
    crop : str
        ``'auto'`` to compute the head and a few millimetres around it, a number for so many
        millimetres, or ``'none'`` for everything.
    tta : bool
        Whether probabilities are averaged with those of the scan flipped left to right.
    subvolumes : str, optional
        Cubes instead of the whole, see `Subvolumes`.

    Raises
    ------
    SettingsError
        For values that no run could follow.
    """

    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'f32'
    crop: str = 'auto'
    tta: bool = False
    subvolumes: str | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        for value, known in (
            (self.engine, ENGINES),
            (self.device, DEVICES),
            (self.precision, PRECISIONS),
        ):
            if value not in known:
                raise SettingsError(f'{value!r} is none of {", ".join(known)}')
        _ = self.margin_mm
        if self.engine == 'openvino' and self.device == 'gpu':
            raise SettingsError('--engine openvino runs on CPUs; leave out --device gpu')
        if self.precision == 'bf16' and (self.engine == 'tensorflow' or self.device == 'gpu'):
            raise SettingsError('--precision bf16 is for --engine openvino, on a CPU')

    @property
    def margin_mm(self) -> float | None:
        """Millimetres around the head, None for everything."""
        if self.crop in ('auto', 'none'):
            return MARGIN_MM if self.crop == 'auto' else None
        try:
            margin = float(self.crop)
        except ValueError:
            margin = -1.0
        if not 0 <= margin < 1000:
            raise SettingsError(f'--crop {self.crop}: give auto, none or millimetres')
        return margin

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        default = asdict(InferenceOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

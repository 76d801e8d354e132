"""Options of inference."""

from dataclasses import asdict, dataclass
from typing import Any

from ..system.errors import SettingsError

ENGINES = ('auto', 'openvino', 'tensorflow')
DEVICES = ('auto', 'cpu', 'gpu')
PRECISIONS = ('f32', 'bf16')
# Default margin around the head, so that a dark rim is not lost; labels inside are unaffected.
MARGIN_MM = 4.0


@dataclass(frozen=True)
class InferenceOptions:
    """Options of inference with a network.

    Parameters
    ----------
    engine : {'auto', 'openvino', 'tensorflow'}
        Library that runs the network, see `make_plan`.
    device : {'auto', 'cpu', 'gpu'}
        Processor that runs the network.
    precision : {'f32', 'bf16'}
        Precision of features and products; bfloat16 with OpenVINO only.
    crop : str
        Margin around the head, outside of which nothing is computed: ``'auto'``, a number of
        millimetres, or ``'none'`` to compute the whole volume.
    tta : bool
        Test-time augmentation: average probabilities with those of the left-right mirror image.
    subvolumes : str, optional
        Cubes that are computed in place of the whole volume, see `Subvolumes`.

    Raises
    ------
    SettingsError
        If a value is invalid, or options exclude each other.
    """

    engine: str = 'auto'
    device: str = 'auto'
    precision: str = 'f32'
    crop: str = 'auto'
    tta: bool = False
    subvolumes: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
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
        """Margin around the head in mm, None for the whole volume."""
        if self.crop in ('auto', 'none'):
            return MARGIN_MM if self.crop == 'auto' else None
        try:
            margin = float(self.crop)
        except ValueError:
            margin = -1.0
        if not 0 <= margin < 1000:
            raise SettingsError(f'crop {self.crop!r}: give auto, none or millimetres')
        return margin

    def to_dict(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        default = asdict(InferenceOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

"""Options of segmentation by the names of the command's, with ``_`` in place of ``-``."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict

from ..image.cleanup import Cleanup
from ..image.conform import ConformOptions
from ..image.normalise import Normalization
from ..inference.options import InferenceOptions
from ..inference.scan_settings import ScanOptions
from ..inference.subvolumes import Subvolumes
from ..models.zoo import find_model
from ..system.errors import SettingsError
from ..system.resources import Granted, available_cpus, parse_memory
from ..system.text import near


class Options(TypedDict, total=False):
    """Options of `brainchop_bids.segment`, which ``brainchop-segment --help`` explains.

    The defaults are those of the command.

    Parameters
    ----------
    models_dir : path
        Folder that contains model folders.
    engine, device, precision, crop, tta, subvolumes
        See `InferenceOptions`.
    space, components, resample, label_codes, roi_subset, border, localiser, frame
        See `ScanOptions`.
    normalization : str
        Normalization of intensities, see `Normalization.parse`.
    voxel_size, conform_min, cw256, interpolation, no_scale, intensity_window, ct
        See `ConformOptions`.
    mem : str
        Maximum memory, in MB or with a suffix, e.g. ``'4G'``.
    omp_nthreads : int
        Maximum number of threads.
    """

    models_dir: str | Path | None
    engine: str
    device: str
    precision: str
    crop: str
    tta: bool
    subvolumes: str | None
    space: str
    components: str | None
    resample: str
    label_codes: str
    roi_subset: Sequence[str]
    border: float
    localiser: str
    frame: int | None
    normalization: str | None
    voxel_size: float
    conform_min: bool
    cw256: bool
    interpolation: str
    no_scale: bool
    intensity_window: str
    ct: bool
    mem: str | None
    omp_nthreads: int | None


# Those of the conform step that have other names in `ConformOptions`.
_CONFORM = {
    'voxel_size': 'voxel_size',
    'conform_min': 'smallest',
    'cw256': 'force_256',
    'interpolation': 'interpolation',
    'intensity_window': 'window',
    'ct': 'ct',
}


def scan_options(given: Mapping[str, Any]) -> ScanOptions:
    """Check options, and convert them.

    Parameters
    ----------
    given : mapping of str to object
        `Options`.

    Returns
    -------
    ScanOptions

    Raises
    ------
    SettingsError
        If there is no such option, or a value is invalid.
    ModelError
        If the localiser is not installed.
    """
    known = Options.__annotations__
    for name in given:
        if name not in known:
            hint = near(name, ['model', *known]) or f'; known are {", ".join(known)}'
            raise SettingsError(f'there is no option {name!r}{hint}')
    values = dict(given)
    network = {field.name for field in fields(InferenceOptions)} & values.keys()
    inference = InferenceOptions(**{name: values.pop(name) for name in network})
    if inference.subvolumes is not None:
        Subvolumes.parse(inference.subvolumes)
    conform = {new: values.pop(old) for old, new in _CONFORM.items() if old in values}
    conform['scale'] = not values.pop('no_scale', False)
    models_dir, rule = values.pop('models_dir', None), values.pop('normalization', None)
    memory, threads = values.pop('mem', None), values.pop('omp_nthreads', None)
    if values.get('components') is not None:
        values['components'] = str(Cleanup.parse(values['components']))
    localiser = values.pop('localiser', 'auto')
    if localiser not in ('auto', 'none'):
        # It may be in models_dir.
        localiser = str(find_model(localiser, models_dir))
    granted = int(available_cpus().amount)
    return ScanOptions(
        inference=inference,
        memory=None if memory is None else Granted(parse_memory(str(memory)), '--mem'),
        roi_subset=tuple(values.pop('roi_subset', ())),
        localiser=localiser,
        normalization=None if rule is None else Normalization.parse(rule),
        conform=ConformOptions(**conform),
        threads=min(threads or granted, granted),
        **values,
    )

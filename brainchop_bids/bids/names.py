"""Names of derivatives: the entities of the scan and those that are added, in the order of BIDS.

The entities of a scan are read from its file name and not from an index, so that none is lost
(zero padding, or an entity unknown to the index) and two scans never share a name.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..system.errors import DatasetError

# Suffixes of scans, and what they are called in a text.
MODALITIES = {
    'T1w': 'T1-weighted',
    'T2w': 'T2-weighted',
    'FLAIR': 'FLAIR',
    'PDw': 'proton-density-weighted',
}
# Suffixes of scans that look like T1-weighted ones.
T1_LIKE = ('T1w', 'UNIT1', 'inplaneT1')
# Order of the BIDS schema (rules/entities.yaml) from `space` on; all other entities come before.
_LATE = ('space', 'split', 'recording', 'chunk', 'seg', 'res', 'den', 'label', 'desc')


@dataclass(frozen=True)
class ScanName:
    """Parts of a BIDS file name.

    Parameters
    ----------
    entities : dict of str to str
        Short entity names to values, in the order of the file name.
    suffix : str
        Suffix, e.g. ``'T1w'``.
    extension : str
        Extension, e.g. ``'.nii.gz'``.
    """

    entities: dict[str, str]
    suffix: str
    extension: str

    @classmethod
    def parse(cls, path: str | Path) -> 'ScanName':
        """Read a BIDS file name.

        Parameters
        ----------
        path : str or Path
            Path or name of the file.

        Returns
        -------
        ScanName

        Raises
        ------
        DatasetError
            If the name does not follow BIDS.

        Examples
        --------
        >>> ScanName.parse('sub-01_run-02_T1w.nii.gz').stem
        'sub-01_run-02_T1w'
        """
        name = Path(path).name
        match = re.fullmatch(r'((?:[A-Za-z]+-[^_.]+_)+)([A-Za-z0-9]+)(\.[^/]+)', name)
        if match is None or not name.startswith('sub-'):
            raise DatasetError(
                f'{name} is no BIDS name: expected sub-LABEL[_key-value...]_T1w.nii.gz'
            )
        pairs = (pair.split('-', 1) for pair in match[1].rstrip('_').split('_'))
        return cls(dict(pairs), match[2], match[3])

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return self.name(self.suffix, '')

    @property
    def subject(self) -> str:
        """Participant label, without ``sub-``."""
        return self.entities['sub']

    @property
    def session(self) -> str | None:
        """Session label, without ``ses-``, if the name has one."""
        return self.entities.get('ses')

    @property
    def modality(self) -> str:
        """One of `MODALITIES`; ``'T1w'`` for scans with another suffix, such as UNIT1."""
        return self.suffix if self.suffix in MODALITIES else 'T1w'

    @property
    def prefix(self) -> str:
        """The entities, as they stand at the beginning of the file name."""
        return self.stem.rpartition('_')[0]

    @property
    def folder(self) -> PurePosixPath:
        """Folder of the scan's derivatives, relative to the dataset."""
        parts = [f'{key}-{self.entities[key]}' for key in ('sub', 'ses') if key in self.entities]
        return PurePosixPath(*parts, 'anat')

    def name(self, suffix: str, extension: str, **added: str) -> str:
        """Build the name of a file derived from this one.

        Parameters
        ----------
        suffix, extension : str
            Suffix and extension of the new file.
        **added : str
            Entities to add (``space='conform'``); they must not be in the scan's name.

        Returns
        -------
        str

        Examples
        --------
        >>> scan = ScanName.parse('sub-01_acq-x_chunk-1_T1w.nii.gz')
        >>> scan.name('dseg', '.nii.gz', seg='tissue', space='conform')
        'sub-01_acq-x_space-conform_chunk-1_seg-tissue_dseg.nii.gz'
        """
        merged = {**self.entities, **added}
        early = [key for key in merged if key not in _LATE]
        late = [key for key in _LATE if key in merged]
        pairs = [f'{key}-{merged[key]}' for key in early + late]
        return '_'.join([*pairs, suffix]) + extension


def scan_node_name(stem: str) -> str:
    """Return the name of a scan's workflow; Nipype allows letters, digits and underscores.

    Examples
    --------
    >>> scan_node_name('sub-01_acq-x_T1w')
    'sub_01_acq_x_T1w_wf'
    """
    name = ''.join(char if char.isalnum() else '_' for char in stem)
    # Labels that BIDS does not allow, such as a-b and a+b, may differ in these characters alone.
    if not re.fullmatch(r'(?:[A-Za-z]+-[A-Za-z0-9]+_)*[A-Za-z0-9]+', stem):
        name += f'_{hashlib.sha256(stem.encode()).hexdigest()[:8]}'
    return f'{name}_wf'

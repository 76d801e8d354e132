"""The files at the root of the derivative dataset."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..system.atomic import write_text, writing
from ..system.errors import DatasetError, SettingsError
from .derivatives import ScanOutputs
from .names import MODALITIES, ScanName
from .near_misses import is_utf8, shown

CODE_URL = 'https://github.com/neuroneural/brainchop-bids'
BIDS_VERSION = '1.10.0'


def check_folders(bids_dir: Path, output_dir: Path, work_dir: Path) -> None:
    """Refuse folders that would mix results or intermediate files with the input.

    ``<bids_dir>/derivatives/<name>``, where BIDS keeps derivatives, is allowed as output.

    Parameters
    ----------
    bids_dir, output_dir, work_dir : Path
        Folders of the run; output and work folder need not exist.

    Raises
    ------
    SettingsError
        If the output or work folder lies in the input, or a path is not UTF-8.
    OutputError
        If the output or work folder cannot be created or written to.
    """
    for path in (bids_dir, output_dir, work_dir):
        if not is_utf8(path):
            raise SettingsError(
                f'{shown(path)}: the path is not UTF-8, as BIDS requires; rename the folder'
            )
    bids, output, work = (path.resolve() for path in (bids_dir, output_dir, work_dir))
    advice = f'choose a folder outside it, or {bids_dir / "derivatives" / "brainchop"}'
    if output == bids:
        raise SettingsError(f'the output folder is the input dataset {bids_dir}: {advice}')
    if output.is_relative_to(bids) and not (
        output.is_relative_to(bids / 'derivatives') and output != bids / 'derivatives'
    ):
        raise SettingsError(f'the output folder {output_dir} lies in the input dataset: {advice}')
    if work.is_relative_to(bids) and not work.is_relative_to(output):
        raise SettingsError(
            f'the work folder {work_dir} lies in the input dataset {bids_dir}: '
            'choose one outside it with --work-dir'
        )
    if work == output or bids.is_relative_to(work):
        raise SettingsError(
            f'the work folder {work_dir} is or holds another folder of this run: '
            'choose one of its own with --work-dir'
        )


def check_writable(folder: Path) -> None:
    """Create a folder and check that files can be written to it.

    Parameters
    ----------
    folder : Path
        The folder; missing parents are created too.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to.
    """
    probe = folder / f'.brainchop-{os.getpid()}'
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def check_distinct(folder: Path, participants: Iterable[str]) -> None:
    """Check that no participant's files would replace those of another.

    Parameters
    ----------
    folder : Path
        Existing folder for the files. On exFAT, NTFS and macOS ``sub-A`` is ``sub-a``.
    participants : iterable of str
        Labels without ``sub-``.

    Raises
    ------
    DatasetError
        If two participants share a name; the message names them.
    OutputError
        If the folder cannot be written to.
    """
    probe = folder / f'.brainchop-{os.getpid()}-Case'
    with writing(folder):
        probe.touch()
        blind = probe.with_name(probe.name.lower()).exists()
        probe.unlink()
    if not blind:
        return
    there = [path.name for path in folder.glob('sub-*') if path.is_dir()]
    known: dict[str, str] = {}
    for name in [*there, *(f'sub-{label}' for label in participants)]:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise DatasetError(
                f'{name} and {other}: {folder} lies where upper and lower case are the same, '
                'so one would replace the other; choose an output folder elsewhere'
            )


def check_modality(folder: Path, scans: Iterable[ScanName]) -> None:
    """Check that no scan's files would replace those of one of another modality.

    Parameters
    ----------
    folder : Path
        Root of the derivatives.
    scans : iterable of ScanName
        The scans of the run.

    Raises
    ------
    SettingsError
        If results of a scan lie there that differs from one of these in its suffix alone.
    """
    for name in scans:
        for other in MODALITIES.keys() - {name.modality}:
            there = ScanOutputs(folder, replace(name, suffix=other), '').preproc
            if there.exists():
                raise SettingsError(
                    f'{there}: results of {name.modality} scans would have the names of those of '
                    f'this {other} scan; choose another output folder'
                )


def describe(raw: dict[str, Any], bids_dir: Path, output_dir: Path) -> dict[str, Any]:
    """Return the description of the derivative dataset.

    Parameters
    ----------
    raw : dict
        Description of the input dataset.
    bids_dir, output_dir : Path
        Folders of input and output.

    Returns
    -------
    dict
        Content of ``dataset_description.json``.
    """
    bids, output = bids_dir.resolve(), output_dir.resolve()
    # A relative link stays valid if the dataset is moved together with its derivatives.
    link = Path(os.path.relpath(bids, output)).as_posix() if bids in output.parents else None
    generated: dict[str, Any] = {
        'Name': 'brainchop-bids',
        'Version': __version__,
        'CodeURL': CODE_URL,
    }
    container = container_facts(os.environ)
    if container:
        generated['Container'] = container
    source: dict[str, Any] = {'URL': bids.as_uri()}
    doi = raw.get('DatasetDOI')
    if isinstance(doi, str) and doi:
        source['DOI'] = doi
    name = raw.get('Name')
    description: dict[str, Any] = {
        'Name': f'Brain labels of {name if isinstance(name, str) and name else bids.name}',
        'BIDSVersion': BIDS_VERSION,
        'DatasetType': 'derivative',
        'GeneratedBy': [generated],
        'SourceDatasets': [source],
        'DatasetLinks': {'raw': link or bids.as_uri()},
    }
    if isinstance(raw.get('License'), str):
        description['License'] = raw['License']
    return description


def container_facts(environment: Mapping[str, str]) -> dict[str, str]:
    """Describe the container image that this process runs in.

    Parameters
    ----------
    environment : mapping of str to str
        Environment variables. ``BRAINCHOP_IMAGE`` is set by this package's images only; Apptainer
        and Singularity name the file that they run.

    Returns
    -------
    dict
        ``Type`` and ``Tag``, as in ``GeneratedBy.Container`` of BIDS; empty outside of this
        package's images.
    """
    tag = environment.get('BRAINCHOP_IMAGE')
    if not tag:
        return {}
    apptainer = 'APPTAINER_CONTAINER' in environment or 'SINGULARITY_CONTAINER' in environment
    return {'Type': 'singularity' if apptainer else 'docker', 'Tag': tag}


def write_root(
    output_dir: Path, description: dict[str, Any], label_tables: Mapping[str, str]
) -> None:
    """Write the files at the root of the derivatives; files with equal content are not touched.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives.
    description : dict
        Content of ``dataset_description.json``, see `describe`.
    label_tables : mapping of str to str
        Model name in file names to table of labels as TSV.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    text = json.dumps(description, indent=2, ensure_ascii=False) + '\n'
    write_text(output_dir / 'dataset_description.json', text)
    # bids-validator-deno 3 does not understand "figures/" with a slash; BIDS has no name for a
    # table of all participants.
    write_text(
        output_dir / '.bidsignore', '*.html\nfigures\nlogs\ngroup_*\n*_ratings.*\nratings\n'
    )
    for slug, table in label_tables.items():
        write_text(output_dir / f'seg-{slug}_dseg.tsv', table)
    write_text(
        output_dir / 'README',
        f'Brain segmentations made by brainchop-bids {__version__} ({CODE_URL}).\n'
        'Open the sub-*.html pages to look at them; logs/CITATION.md has the methods text.\n',
    )

"""Writing of the derivatives of one scan, with their sidecars."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..system.atomic import Writer, copy_writer, publish, text_writer
from .derivatives import MAPS, ScanOutputs, sidecar

# `index` and `name` are defined by BIDS and must not be described again.
COLUMNS = {
    'voxels': {'Description': 'Number of voxels with this label in the image'},
    'volume': {'Description': 'Volume of the structure', 'Units': 'mm^3'},
}


@dataclass(frozen=True)
class DerivedFiles:
    """Files of a segmentation that is derived from a model's labels by a look-up table.

    Parameters
    ----------
    slug : str
        Name of the segmentation in file names.
    table : str
        Name of the look-up table.
    dseg, dseg_conform : Path
        Labels in the scan's own grid and in the conformed one.
    volumes : Path
        Table of volumes.
    """

    slug: str
    table: str
    dseg: Path
    dseg_conform: Path
    volumes: Path


def write_scan(
    outputs: ScanOutputs,
    *,
    source: str,
    images: dict[str, Path],
    volumes: Path,
    figures: dict[str, Path],
    probsegs: dict[str, Path],
    maps: dict[str, Path],
    derived: Sequence[DerivedFiles] = (),
    record: dict[str, Any],
) -> None:
    """Write all derivatives of a scan; labels in the scan's own grid are written last.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the files.
    source : str
        The scan's path in its dataset.
    images : dict of str to Path
        Files of ``preproc``, ``dseg_conform``, ``dseg`` and, if this model writes them, ``mask``
        and ``brain``.
    volumes : Path
        Table of volumes.
    figures : dict of str to Path
        Files of the figures, by name.
    probsegs : dict of str to Path
        Abbreviation of a label to its probability map.
    maps : dict of str to Path
        Maps of uncertainty by their names in `MAPS`.
    derived : sequence of DerivedFiles
        Derived segmentations.
    record : dict
        Facts about the run, for the sidecar of the labels.

    Raises
    ------
    OutputError
        If a file cannot be written; existing files are then unchanged.
    """
    facts = _sidecars(outputs, source, probsegs, record)
    contents = {
        outputs.preproc: images['preproc'],
        outputs.dseg_conform: images['dseg_conform'],
        **{getattr(outputs, key): images[key] for key in ('mask', 'brain') if key in images},
        **{outputs.probseg(label): path for label, path in probsegs.items()},
        **{outputs.uncertainty(name): path for name, path in maps.items()},
        **{outputs.figure(name): path for name, path in figures.items()},
    }
    for one in derived:
        more_facts, more_contents = _derived(outputs, one, record)
        facts |= more_facts
        contents |= more_contents
    contents |= {outputs.volumes: volumes, outputs.dseg: images['dseg']}
    files: list[tuple[Path, Writer]] = []
    for path, content in contents.items():
        if path in facts:
            text = json.dumps(facts[path], indent=2, ensure_ascii=False) + '\n'
            files.append((sidecar(path), text_writer(text)))
        files.append((path, copy_writer(content)))
    publish(files, replaces=outputs.dseg)


def _sidecars(
    outputs: ScanOutputs, source: str, probsegs: Iterable[str], record: dict[str, Any]
) -> dict[Path, dict[str, Any]]:
    """Return the content of the sidecar of each image."""
    raw = f'bids:raw:{source}'
    space = f'bids::{outputs.preproc.relative_to(outputs.root).as_posix()}'
    border = {'Border': record['Border']} if 'Border' in record else {}
    model = record.get('Model', {})
    return {
        outputs.preproc: {
            'Description': "Scan conformed as FreeSurfer's mri_convert -c does",
            'Sources': [raw],
            'SkullStripped': False,
            'SpatialReference': space,
        },
        outputs.dseg_conform: {
            'Description': 'Labels in the conformed grid',
            'Sources': [space],
            'SpatialReference': space,
            **{key: record[key] for key in ('Model', 'Components') if key in record},
        },
        outputs.mask: {
            'Type': 'Brain',
            'Sources': [raw],
            'Model': model,
            **border,
        },
        outputs.brain: {
            'Description': 'The scan, 0 outside the brain mask',
            'Sources': [raw],
            'SkullStripped': True,
            **border,
        },
        **{
            outputs.probseg(label): {'Description': f'Probability of {label}', 'Sources': [raw]}
            for label in probsegs
        },
        **{
            outputs.uncertainty(name): {
                'Description': f'{text}. Computed in the conformed grid, resampled linearly',
                'Units': 'nat',
                'Sources': [raw, space],
                'Model': model,
            }
            for name, text in MAPS.items()
        },
        outputs.dseg: {
            'Description': "Labels in the scan's own grid",
            'Sources': [raw, space],
            **record,
            **COLUMNS,
        },
    }


def _derived(
    outputs: ScanOutputs, files: DerivedFiles, record: dict[str, Any]
) -> tuple[dict[Path, dict[str, Any]], dict[Path, Path]]:
    """Return the sidecars and files of a derived segmentation, by the paths of its outputs."""
    other = replace(outputs, slug=files.slug)
    space = f'bids::{outputs.preproc.relative_to(outputs.root).as_posix()}'
    kept = ('Model', 'BrainVolume', 'IntracranialVolume', 'Brainchop')
    facts: dict[Path, dict[str, Any]] = {
        target: {
            'Description': f'Labels that follow from those of seg-{outputs.slug} by a table',
            'Sources': [f'bids::{source.relative_to(outputs.root).as_posix()}'],
            'DerivedBy': files.table,
            **{key: record[key] for key in kept if key in record},
            **more,
        }
        for target, source, more in (
            (other.dseg_conform, outputs.dseg_conform, {'SpatialReference': space}),
            (other.dseg, outputs.dseg, COLUMNS),
        )
    }
    contents = {
        other.dseg_conform: files.dseg_conform,
        other.volumes: files.volumes,
        other.dseg: files.dseg,
    }
    return facts, contents

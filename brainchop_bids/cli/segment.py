"""Segment one scan: ``brainchop-segment T1w.nii.gz OUT.nii.gz --model DIR``.

Also the process in which the Nipype interface `brainchop_bids.interfaces.Segment` runs a model.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import BrainchopError, ModelError, SettingsError

if TYPE_CHECKING:
    from ..image.conform import Conformed
    from ..models.spec import ModelSpec

DONE, FAILED, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Segment one scan.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 the scan failed, 2 the command cannot run as given.
    """
    options = build_parser().parse_args(argv)
    try:
        segment_file(options)
        return DONE
    except (ModelError, SettingsError) as error:
        return _refuse(error, USAGE)
    except BrainchopError as error:
        return _refuse(error, FAILED)
    except MemoryError:
        return _refuse(f'{options.scan}: the memory ran out; use a smaller model', FAILED)
    except KeyboardInterrupt:
        return _refuse('interrupted', 130)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-segment``.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(
        prog='brainchop-segment',
        description='Segment one T1-weighted scan with a tiny network.',
        epilog='Exit code: 0 done, 1 the scan failed, 2 the command cannot run as given.',
    )
    parser.add_argument('scan', type=Path, help='the scan: NIfTI-1/2 or MGH/MGZ')
    parser.add_argument('out', type=Path, help='where the labels go: .nii or .nii.gz')
    parser.add_argument('--version', action='version', version=f'brainchop-segment {__version__}')
    group = parser.add_argument_group('model')
    group.add_argument('--model', metavar='NAME|DIR', help='a model folder or a name')
    group.add_argument('--models-dir', metavar='DIR', type=Path, help='holds model folders')
    group.add_argument(
        '--normalization',
        metavar='HOW',
        help="instead of the model's own: minmax, quantile:LOW:HIGH[:clip] or zscore",
    )
    group = parser.add_argument_group('labels')
    group.add_argument(
        '--space',
        choices=['native', 'conform'],
        default='native',
        help="the grid of the output: the scan's own or the conformed one (default: native)",
    )
    group.add_argument(
        '--components',
        choices=['largest', 'per-label', 'none'],
        default='largest',
        help='which connected components stay (default: %(default)s)',
    )
    group.add_argument(
        '--resample',
        choices=['linear', 'nearest'],
        default='linear',
        help="how labels return to the scan's own grid (default: %(default)s)",
    )
    group = parser.add_argument_group('more results')
    group.add_argument('--mask', metavar='FILE', type=Path, help='write the brain mask')
    group.add_argument(
        '--probseg', metavar='FILE', type=Path, help='write probabilities, 4-D, one a label'
    )
    group.add_argument('--volumes', metavar='FILE.tsv', type=Path, help='write volumes')
    group.add_argument(
        '--stats', metavar='FILE.json', type=Path, help='write seconds, peak memory and settings'
    )
    _add_conform(parser)
    parser.add_argument('--omp-nthreads', metavar='N', type=int, help='threads')
    parser.add_argument('-v', '--verbose', action='store_true', help='say what is done')
    return parser


def _add_conform(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('reading and conforming')
    group.add_argument(
        '--frame', metavar='N', type=int, help='the frame of a 4-D file with several, from 0'
    )
    group.add_argument('--voxel-size', metavar='MM', type=float, default=1.0, help='default: 1')
    group.add_argument(
        '--conform-min', action='store_true', help="voxels as small as the scan's smallest side"
    )
    group.add_argument('--cw256', action='store_true', help='256 voxels wide, whatever is cut')
    group.add_argument(
        '--interpolation', choices=['trilinear', 'nearest', 'cubic'], default='trilinear'
    )
    group.add_argument(
        '--no-scale', action='store_true', help='keep intensities instead of scaling to 0..255'
    )


def segment_file(options: argparse.Namespace) -> None:
    """Read, conform, label, clean up, bring back, write.

    Parameters
    ----------
    options : argparse.Namespace
        Of `build_parser`.

    Raises
    ------
    BrainchopError
        If anything cannot be done; then no file is written.
    """
    from ..bids.publish import publish, text_writer
    from ..models.spec import load_spec
    from ..models.zoo import find_model

    clock = _Clock(options.verbose)
    if not options.out.name.endswith(('.nii', '.nii.gz')):
        raise SettingsError(f'{options.out}: give an output name that ends in .nii or .nii.gz')
    if not options.model:
        raise SettingsError('no model is packaged in this version: give --model a model folder')
    spec = load_spec(find_model(options.model, options.models_dir))
    with clock.step('conform'):
        conformed = _conform(options)
    for warning in conformed.warnings if options.verbose else ():
        print(f'{options.scan}: {warning}', file=sys.stderr)
    # Probabilities are larger than memory may be: they stream into a file.
    with TemporaryDirectory(prefix='.brainchop-', dir=_existing(options)) as scratch:
        files, facts = _label(options, spec, conformed, Path(scratch), clock)
        facts['seconds'] = clock.seconds()
        facts['peak_mb'] = _peak_mb()
        if options.stats:
            text = json.dumps(facts, indent=2) + '\n'
            files.insert(0, (options.stats, text_writer(text)))
        publish(files)


def _existing(options: argparse.Namespace) -> Path:
    """Return a folder for scratch files: where the largest output goes."""
    from ..bids.dataset import check_writable

    folder = (options.probseg or options.out).absolute().parent
    check_writable(folder)
    return Path(folder)


def _conform(options: argparse.Namespace) -> 'Conformed':
    from ..image.conform import ConformOptions, conform
    from ..image.io import read_volume, require_contrast

    wanted = ConformOptions(
        voxel_size=options.voxel_size,
        smallest=options.conform_min,
        force_256=options.cw256,
        interpolation=options.interpolation,
        scale=not options.no_scale,
    )
    volume = read_volume(options.scan, frame=options.frame)
    require_contrast(volume)
    return conform(volume, wanted, threads=options.omp_nthreads or 1)


def _label(
    options: argparse.Namespace,
    spec: 'ModelSpec',
    conformed: 'Conformed',
    scratch: Path,
    clock: '_Clock',
) -> tuple[list[tuple[Path, Callable[[Path], object]]], dict[str, Any]]:
    """Return the files to write, with what writes them, and the facts for ``--stats``."""
    import numpy as np

    from ..image.components import brain_mask, keep_components
    from ..image.normalise import Normalization
    from ..image.volumes import label_volumes, volumes_table
    from ..inference.engine import KerasEngine

    rule = Normalization.parse(options.normalization) if options.normalization else None
    with clock.step('load'):
        engine = KerasEngine(spec, threads=options.omp_nthreads, normalization=rule)
    with clock.step('network'):
        probabilities = _scratch_probabilities(options, spec, conformed, scratch)
        labels = engine.segment(conformed.data, probabilities=probabilities)
    with clock.step('components'):
        kept, removed = keep_components(labels, options.components)
    grid = _Grid(options, conformed)
    with clock.step('resample'):
        kept_there = grid.labels(kept)
    files: list[tuple[Path, Callable[[Path], object]]] = []
    if options.mask:
        with clock.step('mask'):
            mask = brain_mask(
                kept,
                conformed.geometry.zooms,
                closing_mm=spec.mask_closing_mm,
                exclude=spec.mask_exclude,
            )
            mask = grid.labels(mask)
        files.append((options.mask, lambda path: grid.save(path, mask, labels=True)))
    if options.volumes:
        volumes = label_volumes(kept_there, grid.geometry.voxel_volume)
        table = volumes_table(volumes, {label.index: label.name for label in spec.labels})
        files.append((options.volumes, lambda path: path.write_text(table)))
    if probabilities is not None:
        with clock.step('probabilities'):
            maps = grid.probabilities(probabilities, scratch)
        files.append((options.probseg, lambda path: grid.save(path, maps)))
    files.append((options.out, lambda path: grid.save(path, kept_there, labels=True)))
    found, counts = np.unique(labels, return_counts=True)
    facts = {
        'version': __version__,
        'model': {'name': spec.name, 'sha256': spec.sha256},
        'engine': engine.versions,
        'device': engine.device,
        'normalization': str(engine.normalization),
        'warnings': list(conformed.warnings),
        'voxels_before_components': dict(zip(found.tolist(), counts.tolist(), strict=True)),
        'removed': {'components': int(removed.components), 'voxels': int(removed.voxels)},
    }
    return files, facts


def _scratch_probabilities(
    options: argparse.Namespace, spec: 'ModelSpec', conformed: 'Conformed', scratch: Path
) -> Any:
    """Return a file-backed array for the probabilities, if they are wanted."""
    import numpy as np

    if not options.probseg:
        return None
    shape = (*conformed.data.shape, spec.classes)
    return np.memmap(scratch / 'probabilities', np.float32, 'w+', shape=shape)


class _Grid:
    """The grid of the output."""

    def __init__(self, options: argparse.Namespace, conformed: 'Conformed') -> None:
        from ..image.io import read_geometry

        self.native = options.space == 'native'
        self.conformed = conformed
        self.method = options.resample
        self.like = options.scan
        self.geometry = read_geometry(options.scan)[0] if self.native else conformed.geometry

    def labels(self, labels: Any) -> Any:
        """Bring labels there."""
        from ..image.resample import labels_to_grid

        if not self.native:
            return labels
        return labels_to_grid(labels, self.conformed.geometry, self.geometry, method=self.method)

    def probabilities(self, maps: Any, scratch: Path) -> Any:
        """Bring probabilities there, one map at a time."""
        import numpy as np

        from ..image.resample import image_to_grid

        if not self.native:
            return maps
        shape = (*self.geometry.shape, maps.shape[3])
        out = np.memmap(scratch / 'native', np.float32, 'w+', shape=shape, order='F')
        for index in range(shape[3]):
            one = np.ascontiguousarray(maps[..., index])
            out[..., index] = image_to_grid(one, self.conformed.geometry, self.geometry)
        return out

    def save(self, path: Path, data: Any, *, labels: bool = False) -> None:
        """Write an image in this grid."""
        from ..image.io import save_nifti

        if self.native:
            save_nifti(path, data, like=self.like, labels=labels)
        else:
            save_nifti(path, data, affine=self.conformed.affine, labels=labels)


class _Clock:
    """Seconds of each step, told as they end."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._begun = perf_counter()
        self._steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step."""
        begun = perf_counter()
        yield
        self._steps[name] = round(perf_counter() - begun, 3)
        if self._verbose:
            print(f'{name}: {self._steps[name]:.2f} s', file=sys.stderr)

    def seconds(self) -> dict[str, float]:
        """Return the steps and their total."""
        return {**self._steps, 'total': round(perf_counter() - self._begun, 3)}


def _peak_mb() -> float:
    import resource

    # Linux counts kilobytes of 1024.
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)


def _refuse(error: object, code: int) -> int:
    print(f'brainchop-segment: error: {error}', file=sys.stderr)
    return code


if __name__ == '__main__':
    sys.exit(main())

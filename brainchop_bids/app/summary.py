"""Messages of a run before and after its work."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import __version__
from ..bids.derivatives import NEW
from ..system.text import show
from .outcome import DONE, FAILED

if TYPE_CHECKING:
    from ..bids.query import Selection
    from ..models.spec import ModelSpec
    from ..settings import Settings
    from .workload import Workload


def announce(
    settings: 'Settings',
    specs: 'Sequence[ModelSpec]',
    selection: 'Selection',
    workload: 'Workload',
    plans: 'Sequence[str]',
    left_out: 'Sequence[str]' = (),
) -> None:
    """Print what will be done.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    specs : sequence of ModelSpec
        The models.
    selection : Selection
        The selected scans.
    workload : Workload
        Scans to process, and scans that are done already.
    plans : sequence of str
        Description of how each network will be run.
    left_out : sequence of str
        Results that are left out, with the reason for each.
    """
    models = ', '.join(spec.name for spec in specs)
    show(
        f'brainchop {__version__}: {_count(len(selection.scans), f"{settings.modality} scan")} in '
        f'{settings.bids_dir}, model{"s" * (len(specs) > 1)} {models}: '
        f'{len(workload.current)} already done, {len(workload.todo)} to do'
    )
    for note in left_out:
        show(f'  {note}')
    verbose = settings.verbose or settings.dry_run
    if verbose:
        for note in (*settings.notes, *plans):
            show(f'  {note}')
    for scan, needs in workload.todo:
        for spec, why in needs.items():
            # Scans that are done again are always listed, new ones (maybe thousands) are not.
            if verbose or why != NEW:
                show(f'  {scan.label}: to do{f" with {spec.name}" * (len(specs) > 1)} ({why})')
    if verbose:
        for scan in workload.current:
            show(f'  {scan.label}: already done')
    for label in selection.empty:
        show(f'  {label}: no {settings.modality} scan')
    for line in selection.notes:
        show(f'  warning: {line}', error=True)
    for line in selection.missing:
        show(f'  {line}', error=True)
    sys.stdout.flush()


def summarise(
    settings: 'Settings',
    specs: 'Sequence[ModelSpec]',
    workload: 'Workload',
    failures: dict[str, str],
    seconds: float,
) -> int:
    """Print what was done and what failed.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    specs : sequence of ModelSpec
        The models.
    workload : Workload
        Scans that were to be processed, and scans that were done before.
    failures : dict of str to str
        Scans that failed, and the reasons.
    seconds : float
        Wall time, s.

    Returns
    -------
    int
        The exit code.
    """
    done = len(workload.todo) - sum(scan.label in failures for scan, _ in workload.todo)
    show(
        f'{_count(done, "scan")} done, {len(workload.current)} already done, '
        f'{len(failures)} failed, in {seconds:.1f} s'
    )
    if done or workload.current:
        show(f'results: {settings.output_dir} (open the sub-*.html pages)')
    for label, why in failures.items():
        show(f'  failed: {label}{f": {why}" if why else ""}', error=True)
    if failures and workload.todo:
        show(f'  crash files: {settings.output_dir / "logs"}', error=True)
    for spec in specs:
        if spec.caution:
            show(spec.caution)
    return FAILED if failures else DONE


def _count(number: int, what: str) -> str:
    return f'{number} {what}{"" if number == 1 else "s"}'

"""One run of the BIDS App on a dataset."""

import os
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..system.errors import BrainchopError, SettingsError
from ..system.processes import check_processes
from ..system.resources import check_address_space
from ..system.text import show
from .outcome import DONE, FAILED

# Of thousands of scans that are not done, the table of the group level has the others.
_MOST_LINES = 40

if TYPE_CHECKING:
    from ..bids.query import Scan, Selection
    from ..models.spec import ModelSpec
    from ..settings import Settings
    from .workload import Workload


def run(settings: 'Settings') -> int:
    """Run the App with its settings.

    Parameters
    ----------
    settings : Settings
        Settings of the run.

    Returns
    -------
    int
        0 if all scans are done, 1 if one failed.

    Raises
    ------
    BrainchopError
        If the run is not possible with these settings; nothing is written then.
    """
    check_address_space()
    _prepare_environment(settings)
    if settings.analysis_level == 'group':
        return _group(settings)
    return _participant(settings)


def _prepare_environment(settings: 'Settings') -> None:
    """Keep libraries from using the network and the home folder and from printing messages.

    Called before Nipype is imported; workers inherit the environment.
    """
    private = settings.work_dir / '.home'
    os.environ.update(
        NIPYPE_NO_ET='1',
        NO_ET='1',
        TEMPLATEFLOW_AUTOUPDATE='false',
        NIPYPE_CONFIG_DIR=str(private / 'nipype'),
        MPLCONFIGDIR=str(private / 'matplotlib'),
        KERAS_HOME=str(private / 'keras'),
        # Cache of the BIDS validator.
        DENO_DIR=str(private / 'deno'),
        DENO_NO_UPDATE_CHECK='1',
        TF_CPP_MIN_LOG_LEVEL='3',
    )


def _participant(settings: 'Settings') -> int:
    """Segment the selected scans."""
    from ..bids.dataset import check_distinct, check_folders, check_modality, check_writable
    from ..bids.query import check_dataset, find_scans
    from ..models.spec import load_segmenter
    from ..models.zoo import find_model
    from .summary import announce, summarise
    from .workload import drop_duplicates, find_workload

    begun = time.monotonic()
    description = check_dataset(settings.bids_dir)
    check_folders(settings.bids_dir, settings.output_dir, settings.work_dir)
    if not settings.dry_run:
        check_writable(settings.output_dir)
    selection = find_scans(
        settings.bids_dir,
        participants=settings.participant_label,
        sessions=settings.session_label,
        filters=settings.filters,
        database_dir=settings.bids_database_dir,
    )
    check_modality(settings.output_dir, (scan.name for scan in selection.scans))
    if not settings.dry_run:
        check_distinct(settings.output_dir, (scan.name.subject for scan in selection.scans))
    if settings.reports_only:
        return _reports_only(settings, selection)
    folders = [find_model(model, settings.models_dir) for model in settings.model]
    specs = [load_segmenter(folder) for folder in folders]
    _check_options(settings, specs)
    specs, left_out = drop_duplicates(specs)
    workload = find_workload(settings, specs, selection)
    # A model that does not fit into memory is reported before anything is written.
    plans = _describe_plans(settings, specs) if workload.todo else []
    announce(settings, specs, selection, workload, plans, left_out)
    if settings.dry_run:
        return FAILED if selection.missing else DONE
    _write_root(settings, specs, description, anew=bool(workload.todo))
    if settings.boilerplate:
        show(f'methods text: {settings.output_dir / "logs" / "CITATION.md"}')
        return DONE
    failures = dict.fromkeys(selection.missing, '')
    failures |= _process(settings, specs, workload)
    failures |= _missing_pages(settings, workload.current)
    return summarise(settings, specs, workload, failures, time.monotonic() - begun)


def _process(
    settings: 'Settings', specs: 'Sequence[ModelSpec]', workload: 'Workload'
) -> dict[str, str]:
    """Process the scans whose files exist; return the scans that failed, and the reasons."""
    from ..bids.dataset import check_writable
    from ..models.spec import mask_owner
    from .workload import absent_file

    absent = {scan.label: absent_file(scan, needs) for scan, needs in workload.todo}
    failures = {label: reason for label, reason in absent.items() if reason}
    present = [(scan, list(needs)) for scan, needs in workload.todo if not absent[scan.label]]
    if present:
        check_writable(settings.work_dir)
        check_processes()
        from .execution import process

        failures |= process(settings, present, mask_owner(specs))
    return failures


def _check_options(settings: 'Settings', specs: 'Sequence[ModelSpec]') -> None:
    """Check the options before the first scan is read."""
    from ..image.normalise import Normalization

    if not specs:
        raise SettingsError('--model names no model')
    by_slug: dict[str, ModelSpec] = {}
    for spec in specs:
        if by_slug.setdefault(spec.slug, spec) is not spec:
            raise SettingsError(
                f'{by_slug[spec.slug].folder} and {spec.folder} would both be written as '
                f'seg-{spec.slug}; rename one of the folders'
            )
    if settings.border and not any(spec.covers_brain for spec in specs):
        raise SettingsError('--border: no model makes a brain mask; leave it out')
    if settings.normalization is not None:
        Normalization.parse(settings.normalization)
        if len(specs) > 1:
            raise SettingsError(
                '--normalization is for one model; with several write it into their brainchop.json'
            )
    _localiser(settings, specs)
    _ = settings.filters
    if settings.use_plugin is not None:
        from .execution import read_plugin

        read_plugin(settings.use_plugin)


def _localiser(settings: 'Settings', specs: 'Sequence[ModelSpec]') -> 'ModelSpec | None':
    """Return the localiser of the run, None if there is none."""
    from ..inference.localise.localisation import find_localiser
    from ..models.spec import load_spec

    folder = find_localiser(settings.localiser, specs, settings.models_dir)
    return None if folder is None else load_spec(folder)


def _describe_plans(settings: 'Settings', specs: 'Sequence[ModelSpec]') -> list[str]:
    """Describe how each network will be run on a whole volume."""
    from ..image.conform import CONFORMED_SHAPE
    from ..inference.plan import make_plan

    memory, options = settings.network_memory, settings.inference
    return [
        f'{spec.name}: {make_plan(spec, CONFORMED_SHAPE, memory, options).description}'
        for spec in specs
    ]


def _write_root(
    settings: 'Settings',
    specs: 'Sequence[ModelSpec]',
    description: dict[str, Any],
    *,
    anew: bool,
) -> None:
    """Write the files of the dataset and of the run."""
    from ..bids.dataset import describe, write_root
    from ..system.atomic import write_text

    described = describe(description, settings.bids_dir, settings.output_dir)
    tables = {derived.name: derived.labels.to_tsv() for spec in specs for derived in spec.derived}
    tables |= {spec.slug: spec.labels.to_tsv(settings.label_codes) for spec in specs}
    write_root(settings.output_dir, described, tables)
    logs = settings.output_dir / 'logs'
    stamp = f'{time.strftime("%Y%m%d-%H%M%S")}_{uuid.uuid4()}'
    write_text(logs / f'run-{stamp}.toml', settings.to_toml())
    if anew or settings.boilerplate or not (logs / 'CITATION.md').exists():
        from brainchop_bids.workflows.boilerplate import describe_methods, list_references

        text = describe_methods(
            specs,
            settings.components,
            settings.resample,
            settings.inference,
            normalization=settings.normalization,
            conform=settings.conform,
            border=settings.border,
            uncertainty=settings.uncertainty,
            localiser=_localiser(settings, specs),
            modality=settings.modality,
        )
        write_text(logs / 'CITATION.md', text + list_references(text))


def _missing_pages(settings: 'Settings', scans: 'Sequence[Scan]') -> dict[str, str]:
    """Write the pages that are missing after an interrupted run."""
    from ..bids.derivatives import page_path

    failures = {}
    for scan in scans:
        session = scan.name.session if settings.session_label else None
        if not page_path(settings.output_dir, scan.name.subject, session).exists():
            # Imported here, so that a run with nothing to do does not load it.
            from .execution import write_page

            try:
                write_page(settings, scan)
            except BrainchopError as error:
                failures[scan.label] = str(error)
    return failures


def _reports_only(settings: 'Settings', selection: 'Selection') -> int:
    """Rebuild pages from the derivatives, and draw missing figures."""
    from ..reports.collect import read_participant
    from ..reports.participant.page import write_participant_page

    sessions = {(scan.name.subject, scan.name.session) for scan in selection.scans}
    if not settings.session_label:
        sessions = {(subject, None) for subject, _ in sessions}
    failed = bool(selection.missing)
    for subject, session in sorted(sessions, key=str):
        for record in read_participant(settings.output_dir, subject, session):
            if record.finished and record.lacks_figures:
                # Imported here, because drawing loads libraries that pages do not need.
                from ..reports.figures.draw import draw_missing

                why = draw_missing(settings.bids_dir, record)
                if why is not None:
                    show(why, error=True)
        page = write_participant_page(
            settings.output_dir, subject, session, viewer=settings.viewer
        )
        show(page or f'sub-{subject}: no finished scan in {settings.output_dir}, no page')
        failed = failed or page is None
    return FAILED if failed else DONE


def _group(settings: 'Settings') -> int:
    """Collect the results of all scans in a table and a page for each model."""
    from ..reports.group.outputs import write_group

    written = write_group(
        settings.bids_dir,
        settings.output_dir,
        settings.participant_label,
        settings.session_label,
        settings.filters,
        settings.bids_database_dir,
    )
    for path in written.paths:
        show(path)
    lines = written.unfinished
    more = len(lines) - _MOST_LINES
    for line in (*written.notes, *lines[:_MOST_LINES]):
        show(f'  {line}', error=True)
    if more > 0:
        show(f'  and {more:,} more scans that are not done: see the table', error=True)
    return FAILED if lines else DONE

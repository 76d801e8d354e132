"""The BIDS App: ``brainchop bids_dir output_dir {participant,group}``."""

import os
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..app.outcome import DONE, FAILED, outcome
from ..system.errors import BrainchopError, DatasetError, SettingsError
from ..system.resources import check_address_space
from .parser import LEVELS, build_parser

if TYPE_CHECKING:
    from ..bids.query import Scan, Selection
    from ..models.spec import ModelSpec
    from ..settings import Settings


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Parameters
    ----------
    todo : list of (Scan, dict of ModelSpec to str)
        Scans to process, with which models, and why.
    current : list of Scan
        Scans whose results are complete and current.
    """

    todo: 'list[tuple[Scan, dict[ModelSpec, str]]]'
    current: 'list[Scan]'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the BIDS App.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 all done, 1 some scan failed, 2 the command cannot run as given.
    """

    def work() -> int:
        settings = parse_settings(argv)
        check_address_space()
        _prepare_environment(settings)
        if settings.analysis_level == 'group':
            return _group(settings)
        return _participant(settings)

    return outcome(
        'brainchop',
        work,
        usage=(BrainchopError,),
        interrupted='what is done stays done; run again to go on',
    )


def parse_settings(argv: Sequence[str] | None = None) -> 'Settings':
    """Read the command line, and a config file where one is named.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    Settings

    Raises
    ------
    SettingsError
        If a value is impossible.
    """
    from ..settings import make_settings, read_config

    parser = build_parser()
    argv = _positionals_first(sys.argv[1:] if argv is None else list(argv))
    options = parser.parse_args(argv)
    if options.config_file is not None:
        parser.set_defaults(**read_config(options.config_file))
        options = parser.parse_args(argv)
    return make_settings(vars(options))


def _positionals_first(argv: list[str]) -> list[str]:
    """Keep options of several values from taking the folders that stand behind them.

    Examples
    --------
    >>> _positionals_first(['--model', 'tissue', 'bids', 'out', 'participant'])
    ['bids', 'out', 'participant', '--model', 'tissue']
    """
    last = argv[-3:]
    if len(last) < 3 or last[2] not in LEVELS or any(word.startswith('-') for word in last):
        return argv
    return last + argv[:-3]


def _prepare_environment(settings: 'Settings') -> None:
    """Keep libraries from the network, from the home folder and from talking.

    Set before Nipype is imported, and inherited by the workers.
    """
    private = settings.work_dir / '.home'
    os.environ.update(
        NIPYPE_NO_ET='1',
        NO_ET='1',
        TEMPLATEFLOW_AUTOUPDATE='false',
        NIPYPE_CONFIG_DIR=str(private / 'nipype'),
        MPLCONFIGDIR=str(private / 'matplotlib'),
        KERAS_HOME=str(private / 'keras'),
        # The BIDS validator's.
        DENO_DIR=str(private / 'deno'),
        DENO_NO_UPDATE_CHECK='1',
        TF_CPP_MIN_LOG_LEVEL='3',
    )


def _participant(settings: 'Settings') -> int:
    """Segment each scan that was asked for."""
    from ..app.summary import announce, summarise
    from ..bids.dataset import check_distinct, check_folders, check_writable
    from ..bids.query import check_dataset, find_scans
    from ..models.derived import leave_out_twins
    from ..models.spec import load_spec, mask_owner
    from ..models.zoo import find_model

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
    if not settings.dry_run:
        check_distinct(settings.output_dir, (scan.name.subject for scan in selection.scans))
    if settings.reports_only:
        return _reports_only(settings, selection)
    specs = [load_spec(find_model(model, settings.models_dir)) for model in settings.model]
    _check_options(settings, specs)
    specs, left_out = leave_out_twins(specs)
    plan = make_plan(settings, specs, selection)
    # What does not fit is told before anything is written.
    ways = _ways(settings, specs) if plan.todo else []
    announce(settings, specs, selection, plan, ways, left_out)
    if settings.dry_run:
        return FAILED if selection.missing else DONE
    _write_root(settings, specs, description, anew=bool(plan.todo))
    if settings.boilerplate:
        print(f'methods text: {settings.output_dir / "logs" / "CITATION.md"}')
        return DONE
    failures = dict.fromkeys(selection.missing, '')
    absent = {scan.label: _absent(scan, needs) for scan, needs in plan.todo}
    failures.update({label: why for label, why in absent.items() if why})
    present = [(scan, list(needs)) for scan, needs in plan.todo if not absent[scan.label]]
    if present:
        check_writable(settings.work_dir)
        from ..app.execution import process

        failures.update(process(settings, present, mask_owner(specs)))
    failures.update(_missing_pages(settings, plan.current))
    return summarise(settings, plan, failures, time.monotonic() - begun)


def _absent(scan: 'Scan', specs: 'Iterable[ModelSpec]') -> str | None:
    """Say which file of a scan cannot be opened, None where all can."""
    from ..bids.query import find_siblings, why_absent

    try:
        others = [path for spec in specs for path in find_siblings(scan, spec.inputs[1:])]
    except DatasetError as error:
        return str(error)
    return next(filter(None, map(why_absent, [scan.path, *others])), None)


def _check_options(settings: 'Settings', specs: 'Sequence[ModelSpec]') -> None:
    """Find impossible values before the first scan is read."""
    from ..image.normalise import Normalization

    if not specs:
        raise SettingsError('--model names no model')
    by_slug: dict[str, ModelSpec] = {}
    for spec in specs:
        spec.label_values(settings.label_codes)
        if by_slug.setdefault(spec.slug, spec) is not spec:
            raise SettingsError(
                f'{by_slug[spec.slug].folder} and {spec.folder} would both be written as '
                f'seg-{spec.slug}; rename one of the folders'
            )
    if settings.normalization is not None:
        Normalization.parse(settings.normalization)
        if len(specs) > 1:
            raise SettingsError(
                '--normalization is for one model; with several write it into their brainchop.json'
            )
    _ = settings.filters
    if settings.use_plugin is not None:
        from ..app.execution import read_plugin

        read_plugin(settings.use_plugin)


def make_plan(settings: 'Settings', specs: 'Sequence[ModelSpec]', selection: 'Selection') -> Plan:
    """Decide for each scan what must be done.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    specs : sequence of ModelSpec
        The models.
    selection : Selection
        Scans that were asked for.

    Returns
    -------
    Plan
    """
    from ..models.spec import mask_owner

    owner = mask_owner(specs)
    todo, current = [], []
    for scan in selection.scans:
        whys = {spec: _why_redo(settings, scan, spec, owns_mask=spec is owner) for spec in specs}
        needs = {spec: why for spec, why in whys.items() if why is not None}
        if needs:
            todo.append((scan, needs))
        else:
            current.append(scan)
    return Plan(todo, current)


def _why_redo(
    settings: 'Settings', scan: 'Scan', spec: 'ModelSpec', *, owns_mask: bool
) -> str | None:
    from ..bids.derivatives import ScanOutputs, why_redo
    from ..bids.query import find_siblings

    try:
        return why_redo(
            ScanOutputs(settings.output_dir, scan.name, spec.slug),
            scan.path,
            spec.sha256,
            settings.recipe(),
            [label.abbreviation for label in spec.labels][1:] if settings.probseg else [],
            mask=owns_mask,
            brain=owns_mask and spec.strips_skulls,
            derived=[derived.name for derived in spec.derived],
            others=find_siblings(scan, spec.inputs[1:]),
        )
    except DatasetError:
        return 'another scan of the head is missing'
    except OSError:
        # The conform step says what is wrong with the scan.
        return 'the scan cannot be compared'


def _ways(settings: 'Settings', specs: 'Sequence[ModelSpec]') -> list[str]:
    """Say how each network will be run on a whole volume."""
    from ..image.conform import CONFORMED_SHAPE
    from ..inference.plan import make_plan

    memory, options = settings.segment_memory, settings.inference
    return [
        f'{spec.name}: {make_plan(spec, CONFORMED_SHAPE, memory, options).told}' for spec in specs
    ]


def _write_root(
    settings: 'Settings',
    specs: 'Sequence[ModelSpec]',
    description: dict[str, Any],
    *,
    anew: bool,
) -> None:
    """Write what belongs to the dataset and to the run."""
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
        from brainchop_bids.workflows.boilerplate import REFERENCES, describe_methods

        text = describe_methods(specs, settings.components, settings.resample, settings.inference)
        write_text(logs / 'CITATION.md', text + REFERENCES)


def _missing_pages(settings: 'Settings', scans: 'Sequence[Scan]') -> dict[str, str]:
    """Write pages that an interrupted run did not come to."""
    from ..bids.derivatives import page_path

    failures = {}
    for scan in scans:
        session = scan.name.session if settings.session_label else None
        if not page_path(settings.output_dir, scan.name.subject, session).exists():
            # Only where a page is missing: a run with nothing to do loads neither.
            from ..app.execution import write_page

            try:
                write_page(settings, scan)
            except BrainchopError as error:
                failures[scan.label] = str(error)
    return failures


def _reports_only(settings: 'Settings', selection: 'Selection') -> int:
    """Rebuild pages from the derivatives, and figures that are missing."""
    from ..reports.collect import read_participant
    from ..reports.participant.page import write_participant_page

    sessions = {(scan.name.subject, scan.name.session) for scan in selection.scans}
    if not settings.session_label:
        sessions = {(subject, None) for subject, _ in sessions}
    failed = bool(selection.missing)
    for subject, session in sorted(sessions, key=str):
        for record in read_participant(settings.output_dir, subject, session):
            if record.finished and record.lacks_figures:
                # Only then: drawing loads much that pages alone do not need.
                from ..reports.figures.draw import draw_missing

                why = draw_missing(settings.bids_dir, record)
                if why is not None:
                    print(why, file=sys.stderr)
        page = write_participant_page(
            settings.output_dir, subject, session, viewer=settings.viewer
        )
        print(page or f'sub-{subject}: no finished scan in {settings.output_dir}, no page')
        failed = failed or page is None
    return FAILED if failed else DONE


def _group(settings: 'Settings') -> int:
    """Gather the results of all scans into a table and a page for each model."""
    from ..reports.group.outputs import write_group

    written = write_group(
        settings.bids_dir,
        settings.output_dir,
        settings.participant_label,
        settings.session_label,
    )
    for path in written.paths:
        print(path)
    for line in (*written.notes, *written.missing):
        print(f'  {line}', file=sys.stderr)
    return FAILED if written.missing else DONE


if __name__ == '__main__':
    sys.exit(main())

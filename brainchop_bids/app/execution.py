"""Execution of the workflow over scans, and collection of their failures."""

import os
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..bids.names import scan_node_name
from ..bids.query import Scan
from ..bids.validate import BackgroundValidation
from ..models.spec import ModelSpec
from ..reports.crashes import last_words, read_crashes
from ..settings import PROCESSES_GB, Settings
from ..system.atomic import write_text
from ..system.errors import Interrupted, SettingsError
from ..system.files import read_text
from ..system.locks import own_folder
from ..system.signals import raise_if_stopped
from ..system.text import show
from .progress import Display, Watcher
from .workload import absent_file

# Number of scans in one Nipype graph.
_BATCH = 24
# Memory of the steps that run beside the networks, GB.
_OTHERS_GB = 1.0
# Threads of networks for each step of one thread that may run beside them: measured on two cores,
# all other steps of a scan take about as long in one thread as its network in two.
_NETWORK_SHARE = 4
_NIPYPE_CONFIG = 'nipype.cfg'


@dataclass(frozen=True)
class Pool:
    """Worker processes that run networks for all scans.

    Parameters
    ----------
    folder : Path or None
        Folder that `worker_pool` yields; None if there are no workers.
    memory_gb : float
        Memory that the workers hold, GB.
    """

    folder: Path | None = None
    memory_gb: float = 0.0


def configure_nipype(settings: Settings) -> None:
    """Configure Nipype's logging, here and in the workers."""
    level = ('CRITICAL', 'CRITICAL', 'INFO', 'DEBUG')[min(settings.verbose, 3)]
    folder = Path(os.environ['NIPYPE_CONFIG_DIR'])
    names = ('workflow', 'interface', 'utils')
    lines = ['[logging]', *(f'{name}_level = {level}' for name in names)]
    write_text(folder / _NIPYPE_CONFIG, '\n'.join(lines) + '\n')

    from nipype import config, logging

    for name in names:
        config.set('logging', f'{name}_level', level)
    logging.update_logging(config)


def process(
    settings: Settings, work: list[tuple[Scan, list[ModelSpec]]], owner: ModelSpec | None
) -> dict[str, str]:
    """Run the workflow over scans.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    work : list of (Scan, list of ModelSpec)
        Scans to process, each with its models.
    owner : ModelSpec or None
        The model whose brain mask is written.

    Returns
    -------
    dict of str to str
        Labels of the scans that failed, and the reason for each in one line.

    Raises
    ------
    Interrupted
        After SIGTERM or SIGINT; its ``state`` lists which scans are done and which are not.
    """
    # Nipype reads its configuration when it is imported.
    configure_nipype(settings)
    with own_folder(settings.work_dir) as folder, _worker_pool(settings, work) as pool:
        return _process(replace(settings, work_dir=folder), work, owner, pool)


def _process(
    settings: Settings,
    work: list[tuple[Scan, list[ModelSpec]]],
    owner: ModelSpec | None,
    pool: Pool,
) -> dict[str, str]:
    validation = None if settings.skip_bids_validation else BackgroundValidation(settings.bids_dir)
    logs = settings.output_dir / 'logs'
    by_node = {scan_node_name(scan.label): scan for scan, _ in work}

    def finish(node: str) -> None:
        write_page(settings, by_node[node])
        if settings.clean_workdir:
            for folder in settings.work_dir.glob(f'*/{node}'):
                shutil.rmtree(folder, ignore_errors=True)

    def explain(why: str) -> str:
        # The file is made at the start of the run.
        if Path(os.environ['NIPYPE_CONFIG_DIR'], _NIPYPE_CONFIG).exists():
            return why
        return f'the work folder {settings.work_dir} was removed during the run ({why}); run again'

    with Display(len(work), settings.verbose) as display:
        watcher = Watcher(
            display,
            {scan_node_name(scan.label): (scan.label, len(specs)) for scan, specs in work},
            finish,
            explain,
        )
        started, stopped = time.time(), ''
        try:
            for batch in _batches(settings, work):
                stopped = _run_batch(settings, batch, owner, pool, watcher) or stopped
                if stopped and settings.stop_on_first_crash:
                    break
        except Interrupted as stop:
            stop.state = watcher.state()
            if validation is not None:
                validation.stop()
            raise
        if validation is not None:
            display.say(validation.close())
    reasons = {} if watcher.sees_tracebacks else _crash_files(logs, started)
    failures = {
        by_node[node].label: reasons.get(node, why) for node, why in watcher.failures.items()
    }
    rest = 'not run: another scan failed first' if failures else stopped or 'not run'
    for node, scan in by_node.items():
        if node not in watcher.finished:
            failures.setdefault(scan.label, rest)
            if watcher.written[node] or node in watcher.failures:
                # The page shows the results of other models and why this one failed.
                write_page(settings, scan)
    return failures


def _batches(
    settings: Settings, work: list[tuple[Scan, list[ModelSpec]]]
) -> Iterator[list[tuple[Scan, list[ModelSpec]]]]:
    """Divide a long run, because Nipype visits all nodes of a graph whenever one has ended.

    A plugin chosen by the user gets all scans at once, since it may run all of them in parallel.
    """
    size = len(work)
    if settings.use_plugin is None:
        size = max(_BATCH, 4 * settings.nprocs)
    for start in range(0, len(work), size):
        yield work[start : start + size]


def _run_batch(
    settings: Settings,
    work: list[tuple[Scan, list[ModelSpec]]],
    owner: ModelSpec | None,
    pool: Pool,
    watcher: Watcher,
) -> str:
    """Run some scans; return the error that stopped the batch, '' if only single scans failed."""
    from brainchop_bids.workflows.bids import init_brainchop_wf, write_graph

    specs = {scan.label: needed for scan, needed in work}

    def refuse(scan: Scan, error: Exception) -> None:
        why = absent_file(scan, specs[scan.label]) or last_words(
            f'{type(error).__name__}: {error}'
        )
        watcher.fail(scan_node_name(scan.label), why or 'its workflow cannot be built')

    workflow = init_brainchop_wf(
        settings=settings, work=work, owner=owner, pool=pool.folder, on_failure=refuse
    )
    if not workflow.list_node_names():
        return ''
    logs = settings.output_dir / 'logs'
    workflow.config['execution'] = {
        'crashdump_dir': str(logs),
        'crashfile_format': 'txt',
        'stop_on_first_crash': str(settings.stop_on_first_crash).lower(),
        'poll_sleep_duration': '0.05',
        'check_version': 'false',
        'remove_unnecessary_outputs': 'false',
    }
    if settings.write_graph:
        show(f'graph: {write_graph(workflow, logs)}')
    return _run_workflow(settings, workflow, watcher, pool)


@contextmanager
def _worker_pool(settings: Settings, work: list[tuple[Scan, list[ModelSpec]]]) -> Iterator[Pool]:
    """Start the processes that run networks, if they can be kept for the whole run.

    As many are started as can run at once. They keep their memory for the next scan, so some must
    be left for the other steps. None is kept on a GPU, whose memory other processes may need.
    """
    from ..image.conform import CONFORMED_SHAPE
    from ..image.normalise import Normalization
    from ..inference.plan import make_plan
    from ..inference.pool import SUPPORTED, Request, worker_pool
    from ..inference.scan_settings import ScanSettings

    memory = settings.network_memory
    specs = list(dict.fromkeys(spec for _, specs in work for spec in specs))
    plans = [make_plan(spec, CONFORMED_SHAPE, memory, settings.inference) for spec in specs]
    number = min(settings.nprocs // settings.omp_nthreads, len(work))
    held = number * max(plan.need_gb for plan in plans)
    on_gpu = any(plan.device == 'gpu' for plan in plans)
    # A plugin chosen by the user may run each node on another machine.
    short = held + _OTHERS_GB > memory.amount
    if settings.use_plugin is not None or on_gpu or short or not SUPPORTED:
        yield Pool()
        return
    threads = settings.omp_nthreads
    rule = settings.normalization
    scan = ScanSettings(
        Path('T1w.nii'),
        Path('dseg.nii'),
        inference=settings.inference,
        memory=memory,
        normalization=None if rule is None else Normalization.parse(rule),
        localiser='none',
        threads=threads,
    )
    with worker_pool(number, Request(scan, specs[0].folder, Path.cwd()), threads) as folder:
        yield Pool(folder, held)


def _crash_files(logs: Path, since: float) -> dict[str, str]:
    """Return the error messages in the crash files of this run, by the scan's workflow name."""
    return {
        crash.workflow: last_words(crash.text) or f'see {crash.path}'
        for crash in read_crashes(logs, since)
    }


def _run_workflow(settings: Settings, workflow: Any, watcher: Watcher, pool: Pool) -> str:
    """Run the workflow; return the error that stopped it, '' if only single scans failed."""
    try:
        if settings.use_plugin is None:
            from brainchop_bids.workflows.multiproc import ResilientMultiProcPlugin

            workflow.run(
                ResilientMultiProcPlugin(
                    n_procs=settings.nprocs,
                    n_beside=_beside(settings),
                    memory_gb=max(0.1, settings.memory.amount - PROCESSES_GB - pool.memory_gb),
                    status_callback=watcher.status,
                    failure_callback=watcher.failure,
                )
            )
        else:
            _run_with(read_plugin(settings.use_plugin), workflow, watcher)
    except Exception as error:  # Nipype re-raises any failure of a node as RuntimeError
        raise_if_stopped()
        if settings.verbose > 1:
            traceback.print_exc()
        return last_words(f'{type(error).__name__}: {error}') or 'the run stopped early'
    return ''


def _beside(settings: Settings) -> int:
    """Return the number of steps that may run beside networks that have all threads.

    If each network has one thread, those of other scans keep all processors busy.
    """
    return max(1, settings.nprocs // _NETWORK_SHARE) if settings.omp_nthreads > 1 else 0


def _run_with(plugin: dict[str, Any], workflow: Any, watcher: Watcher) -> None:
    """Run the workflow with the plugin that the user has chosen."""
    arguments = plugin.get('plugin_args') or {}
    if plugin['plugin'] == 'SLURM':
        from brainchop_bids.workflows.slurm import SlurmPlugin

        execution = workflow.config['execution']
        execution['poll_sleep_duration'] = '2'
        # On a network file system the result of a finished job may appear late.
        execution['job_finished_timeout'] = '60'
        workflow.run(
            SlurmPlugin(
                arguments, status_callback=watcher.status, failure_callback=watcher.failure
            )
        )
        return
    watcher.sees_tracebacks = False
    plugin_args = {**arguments, 'status_callback': watcher.status}
    workflow.run(plugin=plugin['plugin'], plugin_args=plugin_args)


def read_plugin(path: Path) -> dict[str, Any]:
    """Read a plugin file in fMRIPrep's format: YAML with ``plugin`` and ``plugin_args``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict

    Raises
    ------
    SettingsError
        If it is not such a file, or the plugin cannot tell when scans are done.
    """
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise SettingsError(f'--use-plugin {path}: cannot be read ({error.strerror})') from None
    except (ValueError, yaml.YAMLError) as error:
        raise SettingsError(f'--use-plugin {path}: not a YAML file: {error}') from None
    if not isinstance(content, dict) or not isinstance(content.get('plugin'), str):
        raise SettingsError(f'--use-plugin {path}: expected the key "plugin" with a plugin name')
    if not isinstance(content.get('plugin_args') or {}, dict):
        raise SettingsError(f'--use-plugin {path}: plugin_args is no table of names and values')
    if content['plugin'].endswith('Graph'):
        raise SettingsError(
            f'--use-plugin {path}: {content["plugin"]} submits its jobs and does not wait for '
            f'them, so no result could be checked; use {content["plugin"].removesuffix("Graph")}'
        )
    return content


def write_page(settings: Settings, scan: Scan) -> None:
    """Write the page of a scan's participant, or of its session if sessions were selected."""
    from ..reports.participant.page import write_participant_page

    session = scan.name.session if settings.session_label else None
    write_participant_page(settings.output_dir, scan.name.subject, session, viewer=settings.viewer)

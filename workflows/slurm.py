"""Nipype's SLURM plugin, which here requests the resources of each node and reports failed jobs.

Nipype 1.11 queries the queue separately for each job and poll, waits for the result of a killed
job, mistakes an older result for that of a killed job, and leaves its jobs in the queue when it is
stopped.
"""

import math
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from nipype.pipeline.plugins.slurm import SLURMPlugin

from .multiproc import FailFastMixin

# Memory of Python and Nipype in a job, in addition to that of the node.
_JOB_GB = 0.3
_MEMORY_OPTIONS = ('--mem', '--mem-per-cpu', '--mem-per-gpu')
# Longest time, s, for which an answer of the queue (about all jobs at once) is used again.
_QUEUE_SECONDS = 1.5
_COMMAND_SECONDS = 60


class SlurmPlugin(FailFastMixin, SLURMPlugin):
    """Submit each node as a job that requests the memory and processors of the node.

    Parameters
    ----------
    arguments : dict
        Those of Nipype's plugin: ``sbatch_args`` (they override the requests of nodes),
        ``template``, ``max_jobs``, ``max_tries``, ``retry_timeout`` (s).
    status_callback : callable
        Called with a node and ``'start'``, ``'end'`` or ``'exception'``.
    failure_callback : callable
        Called with the node and the traceback (list of str) of a failure.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        *,
        status_callback: Callable[[Any, str], None],
        failure_callback: Callable[[Any, list[str]], None],
    ) -> None:
        self._failure_callback = failure_callback
        self._refused: dict[int, str] = {}
        self._queued: set[int] = set()
        self._asked = -math.inf
        super().__init__(plugin_args={**arguments, 'status_callback': status_callback})

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; see `nipype.pipeline.plugins.base.PluginBase.run`.

        Raises
        ------
        Interrupted
            After SIGTERM or SIGINT; jobs are cancelled.
        RuntimeError
            If a node failed.
        """
        try:
            super().run(graph, config, updatehash=updatehash)
        except BaseException:
            jobs = [str(task) for task in self._pending if task > 0]
            if jobs:
                _ask(['scancel', *jobs])
            raise

    def _submit_batchtask(self, scriptfile: str, node: Any) -> int:
        given = shlex.split(self._sbatch_args or '')
        given += shlex.split(node.plugin_args.get('sbatch_args', ''))
        output = os.path.join(os.path.dirname(scriptfile), 'slurm-%j.out')
        options = ['--parsable', f'--job-name={node.name}.{node.fullname}', f'--output={output}']
        command = ['sbatch', *options, *_needs(node, given), *given, scriptfile]
        said = ''
        for _ in range(1 + int(self._max_tries)):
            done = _ask(command)
            match = re.match(r'\d+', done.stdout)
            if match:
                taskid = int(match[0])
                break
            said = ' '.join((done.stderr or done.stdout).split())
            time.sleep(self._retry_timeout)
        else:
            # Only this scan fails. Job numbers of SLURM are positive, so this one is free.
            taskid = -1 - len(self._refused)
            self._refused[taskid] = said
        self._pending[taskid] = node.output_dir()
        self._asked = -math.inf
        return taskid

    def _is_pending(self, taskid: int) -> bool:
        if time.monotonic() > self._asked + _QUEUE_SECONDS:
            self._queued = self._ask_queue()
            self._asked = time.monotonic()
        return taskid in self._queued

    def _ask_queue(self) -> set[int]:
        """Return our jobs that are pending or running; all of them if there is no answer."""
        jobs = [task for task in self._pending if task > 0]
        done = _ask(['squeue', '--noheader', '--format=%A', '--jobs', ','.join(map(str, jobs))])
        if done.returncode and 'Invalid job id' not in done.stderr:
            return set(jobs)
        return {int(line) for line in done.stdout.split()}

    def _get_result(self, taskid: int) -> Any:
        if taskid in self._refused:
            return _failure(f'SLURM takes no such job: {self._refused[taskid]}')
        if self._is_pending(taskid):
            return None
        state = _state(taskid)
        if state not in ('', 'COMPLETED'):
            return _failure(_what_ended(taskid, state))
        return super()._get_result(taskid)


def _needs(node: Any, given: Sequence[str]) -> list[str]:
    """Return the ``sbatch`` options that request a node's processors and memory."""
    needs = [f'--cpus-per-task={node.n_procs or 1}']
    if not any(option.split('=')[0] in _MEMORY_OPTIONS for option in given):
        # SLURM's megabytes are 2^20 bytes.
        needs.append(f'--mem={math.ceil((node.mem_gb + _JOB_GB) * 1e9 / 2**20)}')
    return needs


def _state(job: int) -> str:
    """Return the final state of a job, '' if SLURM no longer knows it."""
    match = re.search(r'\bJobState=(\w+)', _ask(['scontrol', 'show', 'job', str(job)]).stdout)
    return match[1] if match else ''


def _what_ended(job: int, state: str) -> str:
    advice = {
        'OUT_OF_MEMORY': "its memory ran out; grant more with --mem in the plugin's sbatch_args",
        'TIMEOUT': "its time ran out; grant more with --time in the plugin's sbatch_args",
        'CANCELLED': 'somebody cancelled it; run again',
    }.get(state, 'its output is in the folder "batch" of the work folder')
    return f'the SLURM job {job} ended as {state}: {advice}'


def _failure(line: str) -> dict[str, Any]:
    return {'result': None, 'traceback': [f'brainchop_bids.system.errors.BrainchopError: {line}']}


def _ask(command: Sequence[str]) -> 'subprocess.CompletedProcess[str]':
    """Run a SLURM command."""
    try:
        # Our own commands, and no shell.
        return subprocess.run(  # noqa: S603
            list(command), capture_output=True, text=True, timeout=_COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(command), 1, '', str(error))

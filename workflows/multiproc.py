"""Nipype's MultiProc plugin, which here fails fast and keeps the other scans going.

In Nipype 1.11 a worker that is killed hangs the run for ever: the exception of its future is
raised inside a callback, so no result is ever stored. And the broken pool refuses all later
jobs.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any

import psutil
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

from brainchop_bids.system.processes import begin_worker, describe_end, start_fork_server
from brainchop_bids.system.signals import (
    end_processes,
    leave_or_go_on,
    prepare_worker,
    raise_if_stopped,
)

# A node that was running beside the one that was killed is run once more, and no more often:
# the killer itself cannot be told from its neighbours.
_TRIES = 2
# A batch system stops all processes at once, and a worker may have told so before our own signal
# is handled.
_SIGNAL_SECONDS = 1.0
_ENDED = ('stopped by SIG', 'process was killed')


class FailFastMixin:
    """Part of a plugin that reports failures at once and ends a run only where it must.

    Failures are passed on with their tracebacks. A signal ends the run even where the exception
    was raised inside Traits, which drops it while it copies a node. A full disk does not: other
    scans may be written elsewhere.
    """

    _failure_callback: Callable[[Any, list[str]], None]

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        raise_if_stopped()
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)  # type: ignore[misc]

    def _report_crash(self, node: Any, result: Any = None) -> Any:
        traceback = (result or {}).get('traceback') or []
        lines = [traceback] if isinstance(traceback, str) else list(traceback)
        self._failure_callback(node, lines)
        try:
            return super()._report_crash(node, result=result)  # type: ignore[misc]
        except OSError:
            # A full disk must not end the run of the scans that write elsewhere.
            return None


class ResilientMultiProcPlugin(FailFastMixin, MultiProcPlugin):
    """Run nodes in worker processes, and survive the death of a worker.

    Parameters
    ----------
    n_procs : int
        Threads over all workers.
    memory_gb : float
        Memory over all workers, GB.
    status_callback : callable
        Called with a node and ``'start'``, ``'end'`` or ``'exception'``.
    failure_callback : callable
        Called with the node and the traceback (list of str) of a failure.
    """

    def __init__(
        self,
        *,
        n_procs: int,
        memory_gb: float,
        status_callback: Callable[[Any, str], None],
        failure_callback: Callable[[Any, list[str]], None],
    ) -> None:
        # A worker forked from a parent with threads can deadlock; the fork server has none.
        self.pool: ProcessPoolExecutor
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(['brainchop_bids.interfaces'])
        start_fork_server()
        self._tries: dict[int, int] = {}
        self._groups: dict[str, int] = {}
        self._nodes: dict[int, tuple[Any, bool]] = {}
        self._failure_callback = failure_callback
        super().__init__(
            {
                'n_procs': n_procs,
                'memory_gb': memory_gb,
                # A node that needs more than there is runs alone instead of stopping the run.
                'raise_insufficient': False,
                'mp_context': 'forkserver',
                'status_callback': status_callback,
                'n_gpu_procs': 0,
            }
        )
        # In place of Nipype's own, which has started no process yet.
        self.pool = self._new_pool()

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; see `nipype.pipeline.plugins.base.PluginBase.run`.

        Raises
        ------
        Interrupted
            After a polite kill, when all that was running has ended.
        RuntimeError
            If a node failed.
        """
        # Nipype collects garbage at each turn of its loop. Looking through all that was imported
        # kept a processor busy; what is frozen is not looked at.
        gc.collect()
        gc.freeze()
        try:
            super().run(graph, config, updatehash=updatehash)
        except BaseException:
            self.pool.shutdown(wait=False, cancel_futures=True)
            workers = [worker.pid for worker in multiprocessing.active_children()]
            end_processes(pid for pid in workers if pid is not None)
            raise
        finally:
            gc.unfreeze()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=_prepare,
            initargs=(self._cwd,),
            mp_context=self._context,
        )

    def _sort_jobs(self, jobids: Any, scheduler: str = 'tsort') -> Any:
        """Finish scans that have begun before beginning others.

        Results then come one by one from the start, and a run that is stopped has lost little.
        """
        return sorted(jobids, key=lambda jobid: (self._order(jobid), jobid))

    def _order(self, jobid: int) -> int:
        group = '.'.join(self.procs[jobid].fullname.split('.')[:2])
        return self._groups.setdefault(group, len(self._groups))

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        taskid = self._taskid
        self._nodes[taskid] = (node, updatehash)
        self._tries[taskid] = 0
        # Its output would mix with the progress display of the parent.
        if getattr(node.interface, 'terminal_output', '') == 'stream':
            node.interface.terminal_output = 'file_split'
        self._start(taskid)
        return taskid

    def _start(self, taskid: int) -> None:
        node, updatehash = self._nodes[taskid]
        self._tries[taskid] += 1
        raise_if_stopped()
        try:
            try:
                future = self.pool.submit(_run, node, updatehash, taskid)
            except BrokenProcessPool:
                self.pool = self._new_pool()
                future = self.pool.submit(_run, node, updatehash, taskid)
        except (EOFError, ConnectionError):
            # The fork server has ended, as it does where every process is told to.
            time.sleep(_SIGNAL_SECONDS)
            raise
        # Not `multiprocessing.active_children`, which asks for exit codes, see `_why_lost`.
        workers = self.pool._processes
        self._task_obj[taskid] = future
        future.add_done_callback(lambda done: self._finished(taskid, done, workers))

    def _finished(self, taskid: int, future: Any, workers: Mapping[int, BaseProcess]) -> None:
        """Store a result whatever became of the worker; runs in the pool's own thread."""
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._taskresult[taskid] = future.result()
            return
        lost = isinstance(error, BrokenProcessPool)
        line = _why_lost(workers) if lost else f'the result of a step was lost: {error}'
        self._taskresult[taskid] = {
            'result': None,
            'traceback': [f'brainchop_bids.system.errors.BrainchopError: {line}'],
            'taskid': taskid,
            'lost': lost,
        }

    def _get_result(self, taskid: int) -> Any:
        result = self._taskresult.get(taskid)
        if result and _was_ended(result):
            time.sleep(_SIGNAL_SECONDS)
        if result and result.get('lost') and self._tries[taskid] < _TRIES:
            # Restarted from here, in the main thread: the pool's thread may not replace it.
            del self._taskresult[taskid]
            self._start(taskid)
            return None
        return result

    def _clear_task(self, taskid: int) -> None:
        super()._clear_task(taskid)
        # Results hold whole nodes; a thousand scans must not pile up in the parent.
        self._taskresult.pop(taskid, None)
        self._nodes.pop(taskid, None)


def _prepare(cwd: str) -> None:
    """Set up a worker."""
    begin_worker(cwd)
    prepare_worker()


def _run(node: Any, updatehash: bool, taskid: int) -> Any:
    """Run a node in a worker."""
    result = run_node(node, updatehash, taskid)
    leave_or_go_on()
    return result


def _why_lost(workers: Mapping[int, BaseProcess]) -> str:
    """Describe in one line the end of the worker that broke a pool."""
    for pid, worker in list(workers.items()):
        # The exit code of a worker that still runs is not asked for: where the fork server is
        # gone, multiprocessing would take the worker for ended, and not end it before its node is
        # run once more.
        if not psutil.pid_exists(pid) and worker.exitcode is not None:
            # It wrote to the standard error of this process.
            return describe_end('a worker process', worker.exitcode, 'see the lines above')
    return 'a worker process ended early: see the lines above'


def _was_ended(result: dict[str, Any]) -> bool:
    """Tell whether a node failed because its process, or one that it asked, ended early."""
    text = ''.join(result.get('traceback') or '')
    return any(words in text for words in _ENDED)

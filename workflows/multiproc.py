"""Nipype's MultiProc plugin, extended to report failures at once and to survive killed workers.

In Nipype 1.11 a run hangs for ever if a worker is killed: the exception of its future is raised
inside a callback, so that no result is stored, and the broken pool refuses all later jobs.
"""

import gc
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any

import psutil
from nipype.pipeline.plugins import multiproc
from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

from brainchop_bids.system.processes import begin_worker, describe_end, worker_context
from brainchop_bids.system.signals import (
    end_processes,
    leave_or_go_on,
    prepare_worker,
    raise_if_stopped,
)

# Number of times that a node is run if its worker pool breaks. All nodes that were running are
# run again, since it is unknown which of them broke the pool.
_TRIES = 2
# A batch system signals all processes at once. Time, s, to wait for this process's own signal
# after a worker was stopped.
_SIGNAL_SECONDS = 1.0
# Nipype asks for it before it looks at the memory that it is given; its own function knows neither
# Windows nor a Linux without /proc.
multiproc.get_system_total_memory_gb = lambda: psutil.virtual_memory().total / 2**30
# Windows waits for no more than 63 processes; `concurrent.futures` takes 61.
_MOST_WORKERS = 61 if sys.platform == 'win32' else 10**6
_ENDED = ('stopped by SIG', 'process was killed')


class FailFastMixin:
    """Part of a plugin that reports failures at once, and ends a run only if it must.

    Failures are reported with their tracebacks. A signal ends the run even if its exception was
    raised inside Traits, which drops it while it copies a node. A full disk does not end it,
    because other scans may be written elsewhere.
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
        Number of threads of all workers together.
    n_beside : int
        Number of steps of one thread that may run on top of these, beside a step of several
        threads. A network then need not wait until all steps of the scan before it have ended.
    memory_gb : float
        Memory of all workers together, GB.
    status_callback : callable
        Called with a node and ``'start'``, ``'end'`` or ``'exception'``.
    failure_callback : callable
        Called with the node and the traceback (list of str) of a failure.
    """

    def __init__(
        self,
        *,
        n_procs: int,
        n_beside: int = 0,
        memory_gb: float,
        status_callback: Callable[[Any, str], None],
        failure_callback: Callable[[Any, list[str]], None],
    ) -> None:
        self.pool: ProcessPoolExecutor
        self._context = worker_context(['brainchop_bids.interfaces'])
        self._tries: dict[int, int] = {}
        self._groups: dict[str, int] = {}
        self._n_beside = n_beside
        self._nodes: dict[int, tuple[Any, bool]] = {}
        self._failure_callback = failure_callback
        super().__init__(
            {
                'n_procs': min(n_procs + n_beside, _MOST_WORKERS),
                'memory_gb': memory_gb,
                # A node that needs more than all resources runs alone and does not stop the run.
                'raise_insufficient': False,
                'mp_context': self._context.get_start_method(),
                'status_callback': status_callback,
                'n_gpu_procs': 0,
            }
        )
        # Replaces Nipype's own pool, which has not started a process yet.
        self.pool = self._new_pool()

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph; see `nipype.pipeline.plugins.base.PluginBase.run`.

        Raises
        ------
        Interrupted
            After SIGTERM or SIGINT, when all running nodes have ended.
        RuntimeError
            If a node failed.
        """
        # Nipype collects garbage in each cycle of its loop, and searching all imported modules
        # kept a processor busy. Frozen objects are not searched.
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
        """Finish scans that have been started before starting others.

        Results are then complete one by one, and little is lost if a run is stopped.
        """
        ordered = sorted(jobids, key=lambda jobid: (self._order(jobid), jobid))
        return list(self._admitted(ordered)) if self._n_beside else ordered

    def _admitted(self, jobids: Sequence[int]) -> Iterator[int]:
        """Yield the jobs that may start beside those that run.

        Steps of several threads come first, and share the threads that were granted. While one
        waits, steps of one thread have only the places beside it. No more scans are started than
        can run.
        """
        threads = self.processors - self._n_beside
        sizes = [min(threads, node.n_procs) for node in self.procs]
        running = [sizes[jobid] for _, jobid in self.pending_tasks]
        free = threads - sum(size for size in running if size > 1)
        places = self.processors - sum(running)
        started, unfinished = self._progress()
        most = threads // max(sizes) + self._n_beside
        for jobid in sorted(jobids, key=lambda jobid: sizes[jobid] == 1):
            group, size = self._order(jobid), sizes[jobid]
            waits = group not in started and len(unfinished) >= most
            if waits or size > (places if size == 1 else free):
                continue
            places -= size
            free -= size if size > 1 else 0
            started.add(group)
            unfinished.add(group)
            yield jobid

    def _progress(self) -> tuple[set[int], set[int]]:
        """Return the scans that have been started, and those of them that are not finished."""
        started: set[int] = set()
        unfinished: set[int] = set()
        for jobid, (done, pending) in enumerate(
            zip(self.proc_done, self.proc_pending, strict=True)
        ):
            (started if done else unfinished).add(self._order(jobid))
            if pending:
                unfinished.add(self._order(jobid))
        return started, started & unfinished

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
            # The fork server has ended, as it does if all processes are signalled.
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
            # Restarted in the main thread, because the pool's thread cannot replace the pool.
            del self._taskresult[taskid]
            self._start(taskid)
            return None
        return result

    def _clear_task(self, taskid: int) -> None:
        super()._clear_task(taskid)
        # Results contain whole nodes, which would accumulate over a thousand scans.
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
    """Return True if a node failed because its process, or one that it used, ended early."""
    text = ''.join(result.get('traceback') or '')
    return any(words in text for words in _ENDED)

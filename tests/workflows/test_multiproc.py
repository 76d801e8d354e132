"""A worker that ends early fails its own scan, within seconds, and no other."""

import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from nipype import Function, Node, Workflow

from brainchop_bids.workflows.multiproc import ResilientMultiProcPlugin
from tests.processes import wait_for


def work(folder: str, name: str, deadly: bool) -> None:
    """Leave a file, or be killed as the kernel kills what takes too much memory."""
    import os
    import signal
    import time
    from pathlib import Path

    time.sleep(0.5)
    if deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, name).touch()


def slow(folder: str) -> None:
    """Leave a line as the work begins, and another one as it ends."""
    import time
    from pathlib import Path

    for word in ('begun', 'ended'):
        with Path(folder, word).open('a') as file:
            file.write('line\n')
        time.sleep(3)


def timed(log: str, step: str, seconds: float, after: str) -> str:
    """Leave a line with the times at which a step began and ended."""
    import time
    from pathlib import Path

    begun = time.time()
    time.sleep(seconds)
    with Path(log).open('a') as file:
        file.write(f'{step} {begun} {time.time()}\n')
    return step


def failures_of(nodes: list[Node], folder: Path) -> dict[str, str]:
    """Run nodes, and return what is said of those that fail."""
    workflow = Workflow('killed', base_dir=str(folder / 'work'))
    workflow.add_nodes(nodes)
    workflow.config['execution'] = {
        'crashdump_dir': str(folder),
        'crashfile_format': 'txt',
        'poll_sleep_duration': '0.05',
    }
    failures = {}
    plugin = ResilientMultiProcPlugin(
        n_procs=1,
        memory_gb=2,
        status_callback=lambda node, status: None,
        failure_callback=lambda node, lines: failures.update({node.name: ''.join(lines)}),
    )
    with suppress(RuntimeError):
        workflow.run(plugin)
    return failures


def make_nodes(number: int, folder: Path) -> list[Node]:
    nodes = []
    for place in range(number):
        node = Node(Function(['folder', 'name', 'deadly'], [], work), name=f'node_{place}')
        node.inputs.folder, node.inputs.name = str(folder), f'done_{place}'
        node.inputs.deadly = False
        nodes.append(node)
    return nodes


@pytest.mark.timeout(120)
def test_a_killed_worker(tmp_path: Path) -> None:
    nodes = make_nodes(4, tmp_path)
    nodes[1].inputs.deadly = True
    failures = failures_of(nodes, tmp_path)
    assert list(failures) == ['node_1']
    assert 'a worker process was killed: most likely the memory ran out' in failures['node_1']
    assert sorted(path.name for path in tmp_path.glob('done_*')) == ['done_0', 'done_2', 'done_3']


@pytest.mark.timeout(120)
def test_a_worker_that_cannot_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType('only_here')
    module.Thing = type('Thing', (), {'__module__': 'only_here'})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'only_here', module)
    nodes = make_nodes(2, tmp_path)
    nodes[0].thing = module.Thing()
    failures = failures_of(nodes, tmp_path)
    assert list(failures) == ['node_0']
    assert 'a worker process failed with exit code 1' in failures['node_0']
    assert 'memory' not in failures['node_0']
    assert (tmp_path / 'done_1').exists()


@pytest.mark.timeout(120)
def test_a_node_whose_fork_server_is_killed_is_ended_before_it_is_run_again(
    tmp_path: Path,
) -> None:
    def kill() -> None:
        wait_for((tmp_path / 'begun').exists)
        for child in psutil.Process().children():
            if 'forkserver' in ' '.join(child.cmdline()):
                child.kill()

    node = Node(Function(['folder'], [], slow), name='node')
    node.inputs.folder = str(tmp_path)
    killer = threading.Thread(target=kill)
    killer.start()
    assert failures_of([node], tmp_path) == {}
    killer.join()
    assert (tmp_path / 'begun').read_text().count('line') == 2
    assert (tmp_path / 'ended').read_text().count('line') == 1


@pytest.mark.timeout(120)
def test_a_network_runs_beside_the_last_steps_of_the_scan_before(tmp_path: Path) -> None:
    log, number = tmp_path / 'log.txt', 3
    workflow = Workflow('run', base_dir=str(tmp_path / 'work'))
    for place in range(number):
        scan, before = Workflow(f'scan_{place}'), None
        for step, threads, seconds in (('conform', 1, 0.1), ('network', 2, 1.0), ('last', 1, 2.0)):
            function = Function(['log', 'step', 'seconds', 'after'], ['out'], timed)
            node = Node(function, name=step, n_procs=threads)
            node.inputs.trait_set(log=str(log), step=f'{place}-{step}', seconds=seconds, after='')
            if before is None:
                scan.add_nodes([node])
            else:
                scan.connect(before, 'out', node, 'after')
            before = node
        workflow.add_nodes([scan])
    workflow.config['execution'] = {'poll_sleep_duration': '0.05'}
    workflow.run(
        ResilientMultiProcPlugin(
            n_procs=2,
            n_beside=1,
            memory_gb=2,
            status_callback=lambda node, status: None,
            failure_callback=lambda node, lines: pytest.fail(''.join(lines)),
        )
    )
    times = {
        step: (float(begun), float(ended))
        for step, begun, ended in map(str.split, log.read_text().splitlines())
    }
    assert len(times) == 3 * number
    for place in range(1, number):
        begun, _ = times[f'{place}-network']
        # The two threads are one network's at a time, and no step waits for the other's end.
        assert times[f'{place - 1}-network'][1] <= begun < times[f'{place - 1}-last'][1]
    for begun, _ in times.values():
        beside = [step for step, (first, end) in times.items() if first <= begun < end]
        assert sum(2 if step.endswith('network') else 1 for step in beside) <= 3
    # The third scan is not begun before the first one is done.
    assert times['0-last'][1] <= times['2-conform'][0]

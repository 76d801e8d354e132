"""A worker that is killed fails its own scan, within seconds, and no other."""

from pathlib import Path

import pytest
from nipype import Function, Node, Workflow

from brainchop_bids.workflows.multiproc import ResilientMultiProcPlugin


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


@pytest.mark.timeout(120)
def test_a_killed_worker(tmp_path: Path) -> None:
    workflow = Workflow('killed', base_dir=str(tmp_path / 'work'))
    for number in range(4):
        node = Node(Function(['folder', 'name', 'deadly'], [], work), name=f'node_{number}')
        node.inputs.folder, node.inputs.name = str(tmp_path), f'done_{number}'
        node.inputs.deadly = number == 1
        workflow.add_nodes([node])
    workflow.config['execution'] = {
        'crashdump_dir': str(tmp_path),
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
    with pytest.raises(RuntimeError):
        workflow.run(plugin)
    assert list(failures) == ['node_1']
    assert 'worker process was killed' in failures['node_1']
    assert sorted(path.name for path in tmp_path.glob('done_*')) == ['done_0', 'done_2', 'done_3']

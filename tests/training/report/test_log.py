"""What is written down between two checkpoints, read back by TensorBoard's own reader."""

import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.training.config import TrainConfig
from brainchop_bids.training.options import DataOptions
from brainchop_bids.training.report.log import LogRow, TrainingLog


def test_a_label_that_no_cube_has_leaves_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'table.tsv').write_text('code\tindex\tlabel\n0\t0\tBG\n1\t1\tGM\n2\t2\tWM\n')
    config = TrainConfig(data=DataOptions(label_maps='maps', mapping=str(tmp_path / 'table.tsv')))
    nothing = float('nan')
    with caplog.at_level(logging.DEBUG), TrainingLog(config, tmp_path, 3) as record:
        record.resume(0)
        for step, dice in ((1, nothing), (2, 0.5)):
            record.tick(step, 0.25)
            record.add(LogRow(0, step, 1e-3, 0.25, 0.3, [0.9, dice, 0.8], [0.9, 0.7, nothing]))
    # TensorBoard's writer says so of every number that is none.
    assert not caplog.records
    events = EventAccumulator(str(tmp_path / 'tensorboard'))
    events.Reload()
    steps = {
        tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()['scalars']
    }
    assert steps == {
        'loss': [1, 2],
        'validation_loss': [1, 2],
        'learning_rate': [1, 2],
        'dice/BG': [1, 2],
        'dice/GM': [2],
        'dice/WM': [1, 2],
        'validation_dice/BG': [1, 2],
        'validation_dice/GM': [1, 2],
    }

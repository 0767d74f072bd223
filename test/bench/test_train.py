# SPDX-License-Identifier: Apache-2.0
"""`jepa bench train` compares like with like, and prints what it measured."""

import argparse

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('transformers', reason='transformers is not installed (the test extra)')

from jepa_ros.bench import train  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402

SMALL = [
    '--depth',
    '2',
    '--image-size',
    '64',
    '--frames',
    '4',
    '--batch',
    '2',
    '--steps',
    '1',
    '--rounds',
    '1',
    '--float32',
]


def arguments(*more):
    parser = argparse.ArgumentParser()
    train.configure(parser)
    return parser.parse_args([*SMALL, *more])


def test_both_loops_do_the_same_work(tmp_path):
    """
    Matrix products of a step, forward and backward: the same but for the rotary tables, which hold none.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    train._record(tmp_path)
    trainer = Trainer(
        configuration.from_dict(train._values(arguments())), tmp_path / 'run', [tmp_path], tmp_path / 'cache'
    )
    ours, plain = train.Ours(trainer), train.Plain(trainer)
    batch = trainer.stages[0].batch(0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss = plain.step(batch)
    assert counter.get_total_flops() == pytest.approx(ours.flops(), rel=0.01)
    assert 0.2 < loss < 2 and plain.step(batch) != loss
    count = sum(parameter.numel() for module in ours.stage.modules for parameter in module.parameters())
    assert sum(parameter.numel() for parameter in plain.parameters) == pytest.approx(count, rel=0.01)


def test_the_bench_prints_rates_shares_and_the_ratio(capsys):
    figures = train.run(arguments())
    out = capsys.readouterr().out
    assert 'clips/s' in out and 'times the clips of the plain loop' in out and 'waiting for data' in out
    assert [row['subject'] for row in figures['subjects']] == ['ours', 'plain'] and figures[
        'ratio_to_plain'
    ] > 0
    assert all(0 <= row['waiting'] < 1 and row['clips_per_second'] > 0 for row in figures['subjects'])


def test_the_rate_of_the_machine_is_that_of_its_matrix_products():
    rate = train.matrix_rate(torch.device('cpu'), False, side=256, seconds=0.05)
    assert 1e8 < rate < 1e14

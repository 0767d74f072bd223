# SPDX-License-Identifier: Apache-2.0
"""Two processes against one: the same losses and weights, and checkpoints that move between them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from interrupted import run_until  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training import parallel  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402

# Relative; float32, sums in another order. AdamW makes much of the smallest differences where a gradient is
# all but 0, and weights that began at 0 have moved by four updates only, so weights are compared by their
# norms; gradients show what AdamW, which divides by their size, would hide. The votes' common weight has no
# gradient, as a softmax does not see it.
LOSS_TOLERANCE, GRADIENT_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-4, 5e-3
NO_GRADIENT = 'readout.vote.bias'


def figures(out, name):
    """(split, step) to a figure of the log."""
    lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    return {(line['split'], line['step']): line[name] for line in lines if name in line}


def single(values, out, videos, cache, until=None):
    trainer = Trainer(configuration.from_dict(values), out, [videos], cache)
    trainer.resume()
    if until is None:
        assert trainer.run()
        return
    run_until(trainer, until)


@pytest.fixture(scope='module')
def runs(tmp_path_factory, videos, cache):
    """
    Folders of the same run: in one process, in two with DDP, and begun with FSDP and ended in one, and the
    other way round.
    """
    from training_values import VALUES

    root = tmp_path_factory.mktemp('parallel')
    values = {
        **VALUES,
        'save_every': 1,
        'data': {**VALUES['data'], 'labels': {'handle': '/sim/handle'}},
        'readout': {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2},
    }
    accumulating = {**values, 'pretraining': {**values['pretraining'], 'accumulate': 2}}
    single(values, root / 'one', videos, cache)
    single(values, root / 'one_then_fsdp', videos, cache, until=3)
    task = {
        'videos': str(videos),
        'cache': str(cache),
        'runs': [
            {'values': {**chosen, 'parallel': kind}, 'out': str(root / out), 'until': until}
            for chosen, kind, out, until in (
                (accumulating, 'ddp', 'ddp', None),
                (values, 'fsdp', 'fsdp_then_one', 3),
                ({**accumulating, 'recompute': True}, 'fsdp', 'one_then_fsdp', None),
            )
        ],
    }
    (root / 'task.json').write_text(json.dumps(task))
    worker = Path(__file__).with_name('torchrun_worker.py')
    command = [
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc-per-node',
        '2',
        worker,
        root / 'task.json',
    ]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},  # torchrun's own default: sums keep their order
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    single(values, root / 'fsdp_then_one', videos, cache)
    return root


@pytest.mark.slow  # two more processes that import torch
@pytest.mark.parametrize('kind', ['ddp', 'fsdp_then_one', 'one_then_fsdp'])
def test_two_processes_train_as_one_with_the_joined_batch(runs, kind):
    for name, count, tolerance in (
        ('loss', 10, LOSS_TOLERANCE),
        ('forecast', 6, LOSS_TOLERANCE),
        ('gradient', 8, GRADIENT_TOLERANCE),
    ):
        expected, found = figures(runs / 'one', name), figures(runs / kind, name)
        # 8 steps, half of them heads', 2 validations of 2 splits
        assert expected.keys() == found.keys() and len(expected) == count
        for key, value in expected.items():
            # The heads' loss is a sum of four terms around 1 and above that may all but cancel: the forecast's,
            # the likelihoods of point and votes, the cross-entropy.
            of_heads = name == 'loss' and key[1] > 4
            terms = max(abs(value), 4.0 if of_heads else 1.0) if name == 'loss' else abs(value)
            assert found[key] == pytest.approx(value, rel=0, abs=tolerance * terms + 1e-6), (name, key)
    weights = models.load(runs / 'one' / 'last.pt')[2]['model']
    for name, value in models.load(runs / kind / 'last.pt')[2]['model'].items():
        if name != NO_GRADIENT:
            assert (value - weights[name]).norm() <= WEIGHT_TOLERANCE * weights[name].norm(), name


@pytest.mark.slow
def test_only_the_first_process_writes(runs):
    assert len(list((runs / 'ddp').glob('events.*'))) == 1
    assert len((runs / 'ddp' / 'metrics.jsonl').read_text().splitlines()) == 12


def test_a_batch_that_the_processes_do_not_divide_is_refused(monkeypatch):
    place = parallel.Place('cpu')
    place.world = 3
    with pytest.raises(JepaError, match='multiple of the processes .3., found 16'):
        place.rows(16)
    assert place.rows(15) == range(0, 5)


@pytest.mark.parametrize('kind', ['ddp', 'fsdp'])
def test_parallel_without_torchrun_says_how_to_start(kind, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(JepaError, match='torchrun --nproc-per-node'):
        parallel.Place('cpu', kind)


def test_one_kind_for_many_processes_and_a_device_that_is_not_there(monkeypatch):
    with pytest.raises(JepaError, match="device must be auto, cpu, cuda or cuda:N, found 'gpu'"):
        parallel.Place('gpu')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(JepaError, match='cuda:7 is not there: expected one of 1'):
        parallel.Place('cuda:7')
    monkeypatch.setenv('WORLD_SIZE', '4')
    with pytest.raises(JepaError, match='would train 4 times the same'):
        parallel.Place('cpu', 'none')

# SPDX-License-Identifier: Apache-2.0
"""
What goes wrong during hours of training: a batch that is not finite, kill -9 while a checkpoint is written, a
full disk.
"""

import json
import logging
import resource
import signal
import subprocess
import sys

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training import watch  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402


def poisoned(trainer, steps):
    """
    Make the loss of some pretraining steps NaN, its gradients with it, and record the weights before each
    step.
    """
    stage, seen = trainer.stages[0], []
    loss = stage.loss

    def poisoned_loss(*batch):
        value, figures = loss(*batch)
        if torch.is_grad_enabled():
            seen.append(trainer.model.encoder.norm.weight.detach().clone())
            if trainer.step in steps:
                value = value * float('nan')
        return value, figures

    stage.loss = poisoned_loss
    return seen


def test_a_batch_that_is_not_finite_is_skipped_counted_and_named(config, videos, tmp_path, cache, caplog):
    run = Trainer(config, tmp_path, [videos], cache)
    seen = poisoned(run, {1, 2})
    with caplog.at_level(logging.WARNING, 'jepa_ros'):
        assert run.run()
    assert (
        torch.equal(seen[1], seen[2]) and torch.equal(seen[2], seen[3]) and not torch.equal(seen[0], seen[1])
    )
    assert all(value.isfinite().all() for value in run.model.state_dict().values())
    messages = [record.message for record in caplog.records if 'is skipped' in record.message]
    assert (
        len(messages) == 2
        and 'step 2 is skipped (2 so far): the loss is nan; its clips come from ' in messages[1]
    )
    assert any(name in messages[1] for name in ('0.mp4', '1.mp4'))
    lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert [line['skipped'] for line in lines if line['split'] == 'train'] == [0, 1, 2, 2, 0, 0, 0, 0]


def test_too_many_in_a_row_stop_the_run(values, videos, tmp_path, cache):
    values |= {'most_skipped': 2}
    run = Trainer(configuration.from_dict(values), tmp_path, [videos], cache)
    poisoned(run, {1, 2, 3})
    with pytest.raises(
        JepaError, match='training diverged: the loss is nan at step 3 .* 3 steps in a row.*clips of .*mp4'
    ):
        run.run()


def test_a_gradient_that_is_not_finite_counts_as_well():
    losses = watch.Losses(5)
    assert losses.see(0, {'loss': 1.0, 'gradient': 2.0}, list)
    assert not losses.see(1, {'loss': 1.0, 'gradient': float('inf')}, list)
    assert losses.skipped == 1 and losses.in_row == 1
    assert losses.see(2, {'loss': 1.0, 'gradient': 2.0}, list) and losses.in_row == 0


@pytest.mark.parametrize('lowest', [0.5, -3.0])
def test_a_loss_that_rises_far_above_its_lowest_stops_the_run(lowest):
    """A likelihood may be negative; a single high loss is no divergence."""
    losses = watch.Losses(5)
    for step in range(100):
        losses.see(step, {'loss': lowest, 'gradient': 1.0}, list)
    losses.see(100, {'loss': lowest + 100, 'gradient': 1.0}, list)
    resumed = watch.Losses(5)
    resumed.load(losses.state())
    with pytest.raises(JepaError, match=f'the mean loss rose to .* its lowest was {lowest:.3g}'):
        for step in range(101, 200):
            resumed.see(step, {'loss': lowest + 100, 'gradient': 1.0}, list)


KILLED = """
import io, json, signal, sys
import torch
from jepa_ros.training import config, model
from jepa_ros.training.trainer import Trainer

values, out, videos, cache = json.loads(sys.stdin.readline())
run = Trainer(config.from_dict(values), out, [videos], cache)
save = torch.save

def half(state, file):
    if run.step < 3:
        return save(state, file)
    whole = io.BytesIO()
    save(state, whole)
    file.write(whole.getvalue()[:len(whole.getvalue()) // 2])
    file.flush()
    print('half of it is written', flush=True)
    signal.pause()

model.torch.save = half
run.run()
"""


def test_kill_9_while_a_checkpoint_is_written_leaves_the_one_before(values, videos, tmp_path, cache):
    values['save_every'] = 1
    process = subprocess.Popen(
        [sys.executable, '-c', KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps([values, str(tmp_path / 'run'), str(videos), str(cache)]) + '\n')
    process.stdin.flush()
    output = iter(process.stdout.readline, '')
    assert any('half of it is written' in line for line in output)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / 'run' / 'last.partial').stat().st_size > 0
    second = Trainer(configuration.from_dict(values), tmp_path / 'run', [videos], cache)
    second.resume()
    assert second.step == 2 and second.run()
    assert not list((tmp_path / 'run').glob('*.partial'))
    whole = Trainer(configuration.from_dict(values), tmp_path / 'whole', [videos], cache)
    assert whole.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(config, videos, tmp_path, cache):
    """The limit on the size of a file stands for the full disk: the kernel takes no more bytes."""
    run = Trainer(config, tmp_path, [videos], cache)
    run.save('last.pt')
    before = (tmp_path / 'last.pt').read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(JepaError, match='cannot write the checkpoint .*last.pt'):
            run.save('last.pt')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / 'last.pt').read_bytes() == before
    assert not list(tmp_path.glob('*.partial'))
    assert models.load(tmp_path / 'last.pt')[2]['step'] == 0


def test_a_log_that_cannot_be_written_says_so(config, videos, tmp_path, cache):
    (tmp_path / 'metrics.jsonl').mkdir()
    with pytest.raises(JepaError, match='cannot write the log of the run'):
        Trainer(config, tmp_path, [videos], cache).run()


def test_sigterm_saves_as_ctrl_c_does(values, videos, tmp_path, cache):
    """What a cluster sends before it takes the machine away."""
    values['pretraining'] |= {'steps': 1000}
    values['validate_every'] = 1000
    run = Trainer(configuration.from_dict(values), tmp_path, [videos], cache)
    stage = run.stages[0]
    after = stage.after_update
    stage.after_update = lambda step: (
        signal.raise_signal(signal.SIGTERM) if step == 2 else None,
        after(step),
    )[1]
    assert not run.run()
    assert models.load(tmp_path / 'last.pt')[2]['step'] == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_folder_of_an_earlier_version_is_not_resumed_but_exported(config, videos, tmp_path, cache):
    run = Trainer(config, tmp_path, [videos], cache)
    run.save('last.pt')
    state = torch.load(tmp_path / 'last.pt')
    for key in ('watch', 'means'):
        del state[key]
    for section in ('pretraining', 'heads'):  # as the first version wrote it
        state['config'][section] = {
            key: value
            for key, value in state['config'][section].items()
            if key in ('clips', 'steps', 'batch', 'rate', 'warmup')
        }
    models.save(tmp_path / 'last.pt', state)
    assert models.load(tmp_path / 'last.pt')[0].pretraining.rate_end is None
    with pytest.raises(JepaError, match='--init-from'):
        Trainer(config, tmp_path, [videos], cache).resume()

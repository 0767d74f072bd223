# SPDX-License-Identifier: Apache-2.0
"""The trainer: exact resume, saving on Ctrl-C, the collapse watch, and files that survive a crash."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from interrupted import run_until  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training import watch  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402


def trainer(config, videos, out, cache):
    return Trainer(config, out, [videos], cache)


def losses(out):
    """(step, loss) of every line of the log about training batches."""
    lines = [json.loads(line) for line in (out / 'metrics.jsonl').read_text().splitlines()]
    return [(line['step'], line['loss']) for line in lines if line['split'] == 'train']


def first_loss(run, name='pretraining', step=0):
    """The loss of a batch under the weights a run has now, without an update."""
    stage = next(stage for stage in run.stages if stage.name == name)
    batch = [torch.as_tensor(item) if hasattr(item, 'shape') else item for item in stage.batch(step)]
    return stage.loss(*batch)[0].item()


class Nowhere:
    """A progress bar that nobody sees."""

    def add_task(self, *_, **__):
        pass

    def advance(self, *_):
        pass


@pytest.fixture
def one_thread():
    """Sums in one order: several threads share them out as the machine's load has it, and the last bits follow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize('accumulate', [1, 2])
def test_a_resumed_run_equals_the_uninterrupted_one(values, videos, tmp_path, cache, accumulate):
    values['save_every'] = 1
    for section in ('pretraining', 'heads'):
        values[section]['accumulate'] = accumulate
    config = configuration.from_dict(values)
    whole = trainer(config, videos, tmp_path / 'whole', cache)
    assert whole.run()
    for stopped_at in (3, 4, 6):  # in each stage, and between them
        part = trainer(config, videos, tmp_path / 'parts', cache)
        part.resume()
        run_until(part, stopped_at)
    (tmp_path / 'parts' / 'metrics.jsonl').open('a').write(
        '{"step": 7, "split": "train", "loss": 9}\n{"step"'
    )
    second = trainer(config, videos, tmp_path / 'parts', cache)
    second.resume()
    assert second.step == 6
    assert second.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert losses(tmp_path / 'whole') == losses(tmp_path / 'parts') and len(losses(tmp_path / 'whole')) == 8


def test_training_lowers_the_losses_and_reports_what_a_reader_needs(values, videos, tmp_path, cache):
    values['pretraining'] |= {'steps': 40, 'rate': 0.002}
    values['heads'] |= {'steps': 60, 'clips': 40, 'rate': 0.002}
    run = trainer(configuration.from_dict(values), videos, tmp_path / 'run', cache)
    before = first_loss(run)
    assert run.run()
    assert first_loss(run) < 0.9 * before
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    for split in ('validation', 'train_clips'):
        judged = [line for line in lines if line['split'] == split]
        assert [line['step'] for line in judged][:2] == [4, 8]
        assert {'std', 'std_least', 'rank'} <= judged[0].keys() and 'skill_0.1s' not in judged[0]
        assert {'std', 'rank', 'skill_0.1s', 'skill_shrunk_0.3s'} <= judged[-1].keys()
        assert judged[-1]['skill_0.3s'] > 0 and judged[-1]['forecast'] < judged[11]['forecast']
    trained = [line for line in lines if line['split'] == 'train']
    assert {'loss', 'gradient', 'rate', 'weight_decay', 'momentum', 'waiting', 'skipped'} <= trained[0].keys()
    assert [line['step'] for line in trained] == list(range(1, 101))
    board = EventAccumulator(str(tmp_path / 'run')).Reload()
    assert {
        'train/loss',
        'train/rate',
        'train/weight_decay',
        'train/momentum',
        'train/waiting',
        'validation/std',
        'validation/std_least',
        'validation/rank',
        'train_clips/rank',
        'validation/skill_0.1s',
        'validation/skill_shrunk_0.3s',
    } <= set(board.Tags()['scalars'])
    assert [event.step for event in board.Scalars('validation/rank')] == [line['step'] for line in judged]
    assert (tmp_path / 'run' / 'best.pt').exists()


def test_in_the_second_stage_the_encoder_stands_still_and_the_heads_learn(config, videos, tmp_path, cache):
    run = trainer(config, videos, tmp_path, cache)
    run.step = config.pretraining.steps
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.run()
    changed = {
        name.split('.')[0]
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {'forecaster', 'latent_mean'}


def test_a_planted_future_does_not_reach_the_forecast(config, videos, tmp_path, cache):
    """No leakage: what the forecaster says at step t is the same whatever comes after t."""
    run = trainer(config, videos, tmp_path, cache)
    frames, times = map(torch.from_numpy, run.stages[0].batch(0)[:2])
    from jepa_ros.training import objectives

    outputs = []
    for planted in (frames, torch.cat((frames[:, :6], torch.full_like(frames[:, 6:], 255)), 1)):
        latents = objectives.encode_targets(run.model.target, models.normalise(planted), times)
        latents = latents.unflatten(1, (times.shape[1], -1))
        outputs.append(objectives.forecast(run.model.forecaster, latents, times, 3, 2, [3, 4, 5])[1])
    assert torch.equal(*outputs)


def test_labels_are_the_clips_points_and_drawn_anew_where_there_is_nothing(values, videos, tmp_path, cache):
    values['data']['labels'] = {'handle': '/sim/handle'}
    values['readout'] = {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2}
    values['heads']['clips'] = 1
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    clip = run.clips.sampler.sample(np.random.default_rng(0))
    xy = np.tile(np.float32([[0.25, 0.75]]), (12, 1))
    state = np.array([1] * 6 + [2] * 2 + [0] * 4, np.uint8)
    clip.points['handle'] = (xy, state)
    labels = torch.from_numpy(run.clips.labels(clip))[None]
    assert (labels[0, :4] == torch.tensor([0.25, 0.75])).all() and labels[0, 4:].isnan().all()
    heads = run.stages[1]
    heads.bank = torch.randn(1, 6, 6, 192).half(), torch.rand(1, 6).cumsum(1), labels
    _, _, drawn, seen, *_ = first = heads.batch(0)
    assert seen[0].tolist() == [True] * 4 + [False] * 2 and (drawn[:, :4] == labels[:, :4]).all()
    assert ((drawn >= 0) & (drawn <= 1)).all() and not (heads.batch(1)[2][0, 4:] == drawn[0, 4:]).any()
    assert not (drawn[0, 4:] == drawn[1, 4:]).any()
    assert np.isfinite(heads.loss(*first)[0].item())
    assert run.run()


def test_entries_are_drawn_by_their_weights_and_a_damaged_one_is_left_out(
    values, videos, tmp_path, cache, caplog
):
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video')
    values['data'] |= {'train': ['train/0.mp4', str(broken), 'train/1.mp4'], 'weights': [1.0, 5.0, 3.0]}
    run = trainer(configuration.from_dict(values), videos, tmp_path / 'run', cache)
    drawn = [run.clips.files('pretraining', 0, [index])[0].rsplit('/', 1)[1] for index in range(400)]
    assert set(drawn) == {'0.mp4', '1.mp4'} and 0.68 < drawn.count('1.mp4') / len(drawn) < 0.82
    assert any('broken.mp4' in record.message for record in caplog.records)


def test_batches_made_by_other_processes_are_the_same(values, videos, tmp_path, cache):
    values |= {'stages': ['pretraining']}
    for workers in (0, 1):
        values['data']['workers'] = workers
        assert trainer(configuration.from_dict(values), videos, tmp_path / str(workers), cache).run()
    assert losses(tmp_path / '0') == losses(tmp_path / '1')


def test_a_run_without_a_score_keeps_its_last_checkpoint_as_the_best(values, videos, tmp_path, cache):
    values |= {'stages': ['pretraining']}
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    assert run.run() and models.load(tmp_path / 'best.pt')[2]['step'] == 4
    again = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    again.resume()
    assert again.step == again.steps == 4 and again.run()


def test_another_configuration_in_the_same_folder_is_refused_by_name(values, videos, tmp_path, cache):
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    run.save('last.pt')
    values['heads']['rate'] = 0.5
    with pytest.raises(JepaError, match='heads.rate was 0.001, is 0.5'):
        trainer(configuration.from_dict(values), videos, tmp_path, cache).resume()


def test_a_file_in_two_splits_and_a_pattern_that_finds_nothing_are_refused(values, videos, tmp_path, cache):
    values['data']['validation'] = ['train/0.mp4']
    with pytest.raises(JepaError, match='0.mp4'):
        trainer(configuration.from_dict(values), videos, tmp_path, cache)
    values['data']['validation'] = ['nowhere/*.mp4']
    with pytest.raises(JepaError, match='no file matches nowhere'):
        trainer(configuration.from_dict(values), videos, tmp_path, cache)


def test_what_is_about_the_machine_may_change_on_resume(values, videos, tmp_path, cache):
    trainer(configuration.from_dict(values), videos, tmp_path, cache).save('last.pt')
    values |= {'save_every': 1, 'parallel': 'none'}
    values['heads']['accumulate'] = 2
    trainer(configuration.from_dict(values), videos, tmp_path, cache).resume()


def test_without_a_terminal_a_line_says_that_a_stage_begins(values, videos, tmp_path, cache, capsys):
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    run_until(run, 3)
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    run.resume()
    assert run.run()
    said = [line for line in capsys.readouterr().out.splitlines() if ': begins at ' in line]
    assert said == [
        'pretraining: begins at step 0 of 4',
        'pretraining: begins at step 3 of 4',
        'heads: begins at step 0 of 4',
    ]


def test_a_collapse_is_told_with_what_can_be_done_in_that_stage(values, videos, tmp_path, cache):
    values['stages'] = ['heads']
    run = trainer(configuration.from_dict(values), videos, tmp_path, cache)
    for parameter in run.model.target.parameters():
        parameter.data.zero_()
    with pytest.raises(JepaError, match='collapsed.*the encoder stands still in this stage'):
        run.run()


def test_the_watch_tells_a_collapsed_space_from_a_healthy_one():
    generator = torch.Generator().manual_seed(0)
    healthy = watch.spread(torch.randn(512, 32, generator=generator))
    assert 28 < healthy['rank'] <= 32 and 0.9 < healthy['std'] < 1.1
    watch.check(healthy, 'lower the rate')
    line = torch.randn(512, 1, generator=generator) * torch.randn(1, 32, generator=generator)
    with pytest.raises(JepaError, match='effective rank is 1.00.*; lower the rate'):
        watch.check(watch.spread(line), 'lower the rate')
    with pytest.raises(JepaError, match='standard deviation over tokens is 0.00'):
        still = torch.ones(512, 32) + 1e-4 * torch.randn(512, 32, generator=generator)
        watch.check(watch.spread(still), 'lower the rate')


def test_a_damaged_or_foreign_checkpoint_is_named(config, videos, tmp_path, cache):
    run = trainer(config, videos, tmp_path, cache)
    run.save('last.pt')
    whole = (tmp_path / 'last.pt').read_bytes()
    (tmp_path / 'half.pt').write_bytes(whole[: len(whole) // 2])
    torch.save({'weights': torch.zeros(2)}, tmp_path / 'foreign.pt')
    for name, message in (
        ('half.pt', 'no readable checkpoint'),
        ('foreign.pt', 'expected the keys config'),
        ('none.pt', 'no readable checkpoint'),
    ):
        with pytest.raises(JepaError, match=message):
            models.load(tmp_path / name)


def test_nothing_but_tensors_is_unpickled(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    torch.save({'config': {}, 'model': Harmful(), 'step': 0}, tmp_path / 'bad.pt')
    with pytest.raises(JepaError, match='no readable checkpoint'):
        models.load(tmp_path / 'bad.pt')
    assert not (tmp_path / 'executed').exists()


def test_ctrl_c_saves_and_a_second_start_finishes(values, videos, tmp_path, cache):
    """Through the real command in a process of its own."""
    values['pretraining'] |= {'steps': 100_000}
    values['validate_every'] = 100_000
    values['save_every'] = 100_000
    (tmp_path / 'run.yaml').write_text(yaml.safe_dump(values))
    command = [
        sys.executable,
        '-m',
        'jepa_ros.cli',
        'train',
        str(tmp_path / 'run.yaml'),
        '--data',
        str(videos),
        '--out',
        str(tmp_path / 'run'),
        '--cache',
        str(cache),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not (tmp_path / 'run' / 'metrics.jsonl').exists():
        os.sched_yield()  # the first line of the log comes after the first step
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert 'the same command goes on from there' in output
    step = models.load(tmp_path / 'run' / 'last.pt')[2]['step']
    assert step >= 1
    resumed = Trainer(configuration.from_dict(values), tmp_path / 'run', [videos], cache)
    resumed.resume()
    assert resumed.step == step

# SPDX-License-Identifier: Apache-2.0
"""Stages on a frozen encoder: heads behind a bidirectional one, and actions from bags."""

import numpy as np
import pytest
from recorded import CAMERA, START_NS, image_message, write_bag

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from rosbags.typesys import Stores, get_typestore  # noqa: E402

from jepa_ros.data.clips import Clip  # noqa: E402
from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training.parallel import Place  # noqa: E402
from jepa_ros.training.stages.actions import moves  # noqa: E402
from jepa_ros.training.stages.bank import latents_of  # noqa: E402
from jepa_ros.training.stages.heads import Heads  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402

STEP_NS = 50_000_000


def test_heads_behind_a_bidirectional_encoder_never_read_what_has_seen_the_future(values, videos, tmp_path):
    values['encoder']['window'] = 0
    values['heads']['window'] = 4
    run = Trainer(configuration.from_dict(values), tmp_path, [videos], tmp_path / 'cache')
    heads = run.stages[1]
    frames, times = map(torch.from_numpy, run.stages[0].batch(0)[:2])
    planted = frames.clone()
    planted[:, 8:] = 255  # after slice 3, the newest that is known
    before, after = (latents_of(heads, of, times) for of in (frames, planted))
    assert before.shape[:2] == (4, 3 + 2)  # three slices of context, two to forecast
    assert (
        torch.equal(before[:, :3], after[:, :3]) and (before - after)[:, 3:].abs().amax((0, 2, 3)).min() > 0.1
    )
    assert run.run()
    assert heads.bank[0].shape[:2] == (10, 5) and all(heads.batch(step)[4] == 2 for step in range(4))
    assert run.history[-1]['skill_0.1s'] < 1


@pytest.mark.parametrize('window', [0, 4])
def test_validation_calibrates_the_readout_and_judges_by_it(
    values, videos, labelled_bags, tmp_path, monkeypatch, window
):
    """The checkpoint holds the calibration, and training does not feel it."""
    monkeypatch.setattr('jepa_ros.training.stages.readings.FEWEST', 1)
    values['data'] |= {
        'train': ['train', 'bags/train'],
        'validation': ['validation', 'bags/validation'],
        'labels': {'handle': '/handle'},
    }
    values['readout'] = {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2}
    values['encoder']['window'], values['heads']['window'] = window, 4
    run = Trainer(
        configuration.from_dict(values), tmp_path / 'run', [videos, labelled_bags], tmp_path / 'cache'
    )
    assert run.run()
    judged = run.history[-1]
    # Of so few labels any share may lie inside; test_readings.py holds it to 90 % of many.
    assert 0 < judged['readout_error'] < 1 and 0 <= judged['inside'] <= 1
    assert run.stages[1].score(judged) == -judged['readout_std']
    readout = models.load(tmp_path / 'run' / 'last.pt')[1].readout
    assert (readout.calibration != 0).any()
    futures, dt = torch.randn(2, 6, readout.norm_in.normalized_shape[0]), torch.tensor([0.1, 0.3])
    raw = readout.moments(readout(futures, dt, votes=True))[1]
    factor = (readout.calibration[0] + readout.calibration[1] * dt).exp()
    assert torch.allclose(readout(futures, dt)[1], raw * factor[:, None, None])


def test_the_readout_is_taught_by_what_came_as_well_as_by_what_was_forecast(values, tmp_path):
    values['data']['labels'] = {'handle': '/handle'}
    values['readout'] = {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2}
    values['heads']['readout'] = 0.0
    config = configuration.from_dict(values)
    model = models.Model(config)
    stage = Heads(config, model, clips=None, place=Place('cpu'))
    torch.manual_seed(0)
    context, n, dim = config.forecaster.context, model.encoder_config.tokens, model.encoder.width
    latents, times = torch.randn(2, context + 2, n, dim), 0.1 * torch.arange(context + 2.0).expand(2, -1)
    labels, seen = torch.rand(2, context + 2, 2), torch.ones(2, context + 2, dtype=torch.bool)

    def learn(later):
        changed = latents.clone()
        changed[:, context:] = later
        model.zero_grad()
        loss, figures = stage.loss(changed, times, labels, seen, context - 1, [context, context + 1])
        loss.backward()
        return model.readout.vote.weight.grad.clone(), float(figures['readout'])

    (one, figure), (other, same) = learn(latents[:, context:]), learn(latents[:, context:].flip(2))
    assert not torch.allclose(one, other)
    assert figure == pytest.approx(same)


@pytest.mark.parametrize('window', [0, 2])
def test_a_window_that_ends_too_early_or_nowhere_is_refused(values, window):
    values['encoder']['window'] = 0
    values['heads']['window'] = window
    with pytest.raises(
        JepaError, match=rf'needs heads.window, at least forecaster.context .3.*found {window}'
    ):
        configuration.from_dict(values)


def joint_state(stamp_ns, position):
    types = get_typestore(Stores.ROS2_HUMBLE).types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9))
    empty = np.zeros(0)
    return types['sensor_msgs/msg/JointState'](
        header=types['std_msgs/msg/Header'](stamp=stamp, frame_id=''),
        name=['slide', 'lift'],
        position=np.asarray(position, np.float64),
        velocity=empty,
        effort=empty,
    )


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Bags whose picture gets brighter as the slide moves: train and validation."""
    root = tmp_path_factory.mktemp('bags')
    for seed, name in enumerate(('train', 'validation')):
        walk = 20 + 15 * np.sin(np.arange(60) / 6 + seed)
        stamps = START_NS + STEP_NS * np.arange(60)
        write_bag(
            root / name,
            {
                CAMERA: [(int(at), image_message(int(n), int(at), False)) for at, n in zip(stamps, walk)],
                '/joint_states': [(int(at), joint_state(int(at), (n, 1.0))) for at, n in zip(stamps, walk)],
            },
        )
    return root


@pytest.fixture
def acting(values):
    values['data'] |= {
        'train': ['train'],
        'validation': ['validation'],
        'held_out': [],
        'flip': False,
        'vectors': {'arm': '/joint_states'},
    }
    values['action_forecaster'] = {
        'state': 'arm',
        'states': 2,
        'actions': 2,
        'context': 2,
        'width': 32,
        'depth': 1,
        'heads': 2,
    }
    values['actions'] = {'steps': 3, 'clips': 10, 'batch': 4, 'warmup': 1}
    values['stages'] = ['pretraining', 'actions']
    return values


def test_actions_are_learnt_from_bags_with_a_joint_topic(acting, bags, tmp_path):
    run = Trainer(configuration.from_dict(acting), tmp_path, [bags], tmp_path / 'cache')
    assert run.run()
    latents, times, states, acts = run.stages[1].bank
    assert latents.shape[:2] == (10, 6) and acts.shape == (10, 5, 2) and states.shape == (10, 6, 2)
    assert torch.allclose(acts, states.diff(dim=1), atol=1e-5) and acts[..., 0].abs().max() > 0.5
    forecaster = run.model.action_forecaster
    assert (
        torch.allclose(forecaster.state_mean, states.flatten(0, 1).mean(0)) and forecaster.state_std[1] == 1.0
    )
    assert forecaster.proj.weight.abs().max() > 0
    assert {'loss', 'skill_0.1s', 'std', 'rank'} <= run.history[-1].keys()
    again = Trainer(configuration.from_dict(acting), tmp_path, [bags], tmp_path / 'cache')
    again.resume()
    assert torch.equal(again.model.action_forecaster.state_mean, forecaster.state_mean)


def test_bags_without_the_state_and_configurations_that_cannot_be_are_named(acting, bags, videos, tmp_path):
    acting['action_forecaster']['states'] = acting['action_forecaster']['actions'] = 3
    run = Trainer(configuration.from_dict(acting), tmp_path, [bags], tmp_path / 'cache')
    with pytest.raises(JepaError, match='the vector arm has 2 elements, expected 3'):
        run.run()
    with pytest.raises(JepaError, match="no clip of data.train has the state 'arm'"):
        Trainer(configuration.from_dict(acting), tmp_path / 'other', [videos], tmp_path / 'cache').run()
    for change, message in (
        ({'state': 'leg'}, "found state 'leg'"),
        ({'actions': 1}, 'as many as states .3. .*, found 1'),
        ({'action': 'pose_differences'}, 'pose_differences takes 7'),
    ):
        with pytest.raises(JepaError, match=message):
            configuration.from_dict(
                {**acting, 'action_forecaster': {**acting['action_forecaster'], **change}}
            )
    acting['data']['flip'] = True
    with pytest.raises(JepaError, match='data.flip: false'):
        configuration.from_dict(acting)


def test_a_command_counts_over_the_frames_of_the_next_slice(acting):
    acting['data']['vectors']['command'] = '/command'
    acting['action_forecaster'] |= {'action': 'command', 'actions': 1}
    config = configuration.from_dict(acting)
    clip = Clip(
        np.zeros((12, 2, 2, 3), np.uint8),
        np.arange(12.0),
        vectors={
            'arm': np.arange(24, dtype=np.float32).reshape(12, 2),
            'command': np.arange(12, dtype=np.float32)[:, None],
        },
    )
    found = moves(config, clip)
    assert found[:, 0].tolist() == [2, 6, 10, 14, 18, 22]  # the newest frame of each slice
    assert found[:-1, 2].tolist() == [2.5, 4.5, 6.5, 8.5, 10.5] and np.isnan(found[-1, 2])
    assert np.isnan(moves(config, Clip(clip.images, clip.times))).all()

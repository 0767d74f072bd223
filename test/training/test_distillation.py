# SPDX-License-Identifier: Apache-2.0
"""Distillation: the teacher stands still in its own resolution, the student streams."""

import dataclasses

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training.teacher import Teacher  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """
    A bidirectional encoder of its own resolution, whose tokens differ: it looks more at a place than around
    it.
    """
    config = configuration.from_dict(
        {
            'stages': ['pretraining'],
            'data': {'slices': 6},
            'encoder': {'size': 'tiny', 'depth': 1, 'image_size': [48, 64], 'window': 0},
        }
    )
    model = models.Model(config)
    model.target.patch_embed.weight.mul_(20.0)
    path = tmp_path_factory.mktemp('teacher') / 'best.pt'
    models.save(path, {'config': configuration.to_dict(config), 'model': model.state_dict(), 'step': 1})
    return path


@pytest.fixture(scope='module')
def textured(tmp_path_factory):
    """A camera that moves over coarse random colours: a plain ground would teach all tokens the same."""
    root = tmp_path_factory.mktemp('textured')
    for seed, split in enumerate(('train', 'validation')):
        (root / split).mkdir()
        writer = cv2.VideoWriter(str(root / split / 'pan.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 20, (64, 48))
        ground = np.random.default_rng(seed).integers(0, 256, (8, 30, 3), np.uint8)
        ground = cv2.resize(ground, (300, 80), interpolation=cv2.INTER_CUBIC)
        for number in range(60):
            writer.write(ground[10:58, 2 * number : 2 * number + 64])
        writer.release()
    return root


@pytest.fixture
def student(values, checkpoint):
    values['stages'] = ['distillation', 'heads']
    values['distillation'] = {
        'teacher': str(checkpoint),
        'width': 192,
        'steps': 30,
        'batch': 4,
        'warmup': 5,
        'rate': 0.003,
        'ema': [0.5, 0.9],
    }
    return values


def test_a_streaming_student_learns_from_a_bidirectional_teacher(student, textured, tmp_path):
    student['data']['held_out'] = []
    run = Trainer(configuration.from_dict(student), tmp_path, [textured], tmp_path / 'cache')
    stage = run.stages[0]
    frames, times = map(torch.from_numpy, stage.batch(0))
    assert frames.shape[2:4] == (48, 64) and run.clips.size == (32, 48)
    before, teacher = (
        stage.loss(frames, times)[0].item(),
        {k: v.clone() for k, v in stage.teacher.state_dict().items()},
    )
    assert run.run()
    assert stage.loss(frames, times)[0].item() < 0.7 * before
    assert all(torch.equal(value, teacher[name]) for name, value in stage.teacher.state_dict().items())
    _, model, _ = models.load(tmp_path / 'last.pt')
    assert model.encoder_config.window == 4 and model.projection.out_features == 192
    assert not any(name.startswith('teacher') for name in model.state_dict())
    planted = frames.clone()
    planted[:, 6:] = 0
    outputs = [
        model.encoder(stage._smaller(models.normalise(of)), times)[:, : 3 * 6] for of in (frames, planted)
    ]
    assert torch.allclose(*outputs, atol=1e-5)


@torch.no_grad()
def test_an_image_teacher_sees_the_newest_frame_of_each_slice():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(depth=1, image_size=(32, 48), tubelet=1, window=1))
    teacher = Teacher(encoder, encoder.width, (32, 48), (2, 3), 1)
    frames, times = torch.randn(2, 3, 6, 32, 48), torch.tensor([[0.0, 0.1, 0.2]]).expand(2, -1)
    latents = teacher(frames, times)
    frames[:, :, ::2] = 0.0
    assert latents.shape == (2, 3, 6, 192) and torch.allclose(teacher(frames, times), latents, atol=1e-6)
    assert not torch.allclose(latents[:, 0], latents[:, 1])


def test_published_weights_teach_in_their_own_resolution(student, textured, tmp_path, monkeypatch):
    """A small model of V-JEPA 2's kind, in the layout of Meta's files."""
    from jepa_ros.nets import sizes
    from jepa_ros.nets.official import families, keys
    from jepa_ros.nets.official.encoder import OfficialEncoder

    model = dataclasses.replace(
        families.find('vjepa2-vitl'), name='vjepa2-toy', size=sizes.Size(48, 1, 3, 96), taps=(0,)
    )
    monkeypatch.setitem(families.MODELS, 'vjepa2-toy', model)
    torch.manual_seed(0)
    encoder, path = OfficialEncoder(model, (64, 80), 12), tmp_path / 'toy.pt'
    torch.save({model.weights: keys.to_official(encoder.state_dict(), model, 'encoder')}, path)
    student['data']['held_out'] = []
    student['distillation'] |= {
        'teacher': str(path),
        'model': 'vjepa2-toy',
        'image_size': [64, 80],
        'width': 48,
        'steps': 2,
    }
    run = Trainer(configuration.from_dict(student), tmp_path / 'run', [textured], tmp_path / 'cache')
    stage = run.stages[0]
    frames, times = map(torch.from_numpy, stage.batch(0))
    v = models.normalise(frames)
    expected = torch.nn.functional.layer_norm(encoder.eval()(v), (48,)).unflatten(1, (6, -1))
    assert v.shape[3:] == (64, 80) and stage.teacher.grid == (4, 5)
    assert torch.allclose(stage.teacher(v, times), expected, atol=1e-5)
    assert run.run()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'teacher': 'nowhere.pt'}, "found none at 'nowhere.pt'"),
        ({'width': 64}, r'latent width of the teacher .192., found 64'),
        ({'image_size': [96, 128]}, r'is its own, \[48, 64\], found \[96, 128\]'),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(student, videos, tmp_path, change, message):
    student['distillation'] |= change
    with pytest.raises(JepaError, match=message):
        Trainer(configuration.from_dict(student), tmp_path, [videos], tmp_path / 'cache')

# SPDX-License-Identifier: Apache-2.0
"""
What pretraining can do besides: both masks in a step, a loss on context tokens, a forecaster that learns
along.
"""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('tensorboard', reason='tensorboard is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.training import config as configuration  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402
from jepa_ros.training.clips import generator  # noqa: E402
from jepa_ros.training.trainer import Trainer  # noqa: E402


def test_both_masks_the_context_loss_and_the_forecaster_train_together(values, videos, tmp_path):
    values['masks']['both'] = True
    values['pretraining'] |= {'context_loss': 0.5, 'context_loss_rise': [0, 2], 'forecast': 1.0}
    values['stages'] = ['pretraining']
    run = Trainer(configuration.from_dict(values), tmp_path, [videos], tmp_path / 'cache')
    stage, before = run.stages[0], {name: value.clone() for name, value in run.model.state_dict().items()}
    assert len(stage.batch(0)) == 6 + 2 * 2
    first, later = (
        [torch.as_tensor(item) if hasattr(item, 'shape') else item for item in stage.batch(step)]
        for step in (0, 2)
    )
    weighted, plain = stage.loss(*later)[1]['masked'], stage.loss(*later[:5], 0, *later[6:])[1]['masked']
    assert weighted > plain  # the same clips and masks under λ = 0.5 and 0
    figures = stage.loss(*first)
    assert torch.allclose(figures[0].detach(), figures[1]['masked'] + figures[1]['forecast'])
    assert run.run()
    changed = {
        name.split('.')[0]
        for name, value in run.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {'encoder', 'target', 'predictor', 'forecaster'}
    assert not torch.equal(before['predictor.proj_context.weight'], run.model.predictor.proj_context.weight)
    assert models.load(tmp_path / 'last.pt')[1].predictor.proj_context is not None


def test_a_clips_masks_do_not_depend_on_how_many_processes_share_the_batch(values, videos, tmp_path):
    """Every process draws the whole list and takes its rows: the cut is that of the joined batch."""
    run = Trainer(configuration.from_dict(values), tmp_path, [videos], tmp_path / 'cache')
    whole = run.stages[0].batch(1)
    run.stages[0].batch.rows = range(2, 4)
    for all_rows, mine in zip(whole, run.stages[0].batch(1)):
        np.testing.assert_array_equal(all_rows[2:] if hasattr(all_rows, 'shape') else all_rows, mine)
    assert generator(0, 'a', 1, 0).random() != generator(0, 'a', 1).random()


def test_the_context_loss_of_an_image_encoder_is_refused(values):
    values['encoder'] |= {'tubelet': 1, 'window': 1}
    values['pretraining'] |= {'objective': 'ijepa', 'context_loss': 0.5}
    with pytest.raises(JepaError, match='context_loss belongs to vjepa'):
        configuration.from_dict(values)


def taught(values, train, **pretraining):
    """Of a run whose readout, with attributes, teaches the encoder, on bags with labels."""
    data = {
        'train': train,
        'validation': ['bags/validation'],
        'labels': {'handle': '/handle'},
        'vectors': {'grasp': '/grasp'},
        'flip': False,
        'slices': 4,
    }
    return values | {
        'data': values['data'] | data,
        'readout': {'name': 'handle', 'attributes': {'grasp': 2}, 'width': 32, 'depth': 1, 'heads': 2},
        'pretraining': values['pretraining'] | {'readout': 0.5} | pretraining,
        'stages': ['pretraining'],
    }


def test_a_readout_and_its_attributes_teach_the_encoder(values, videos, labelled_bags, tmp_path):
    """On bags with labels; clips without any add nothing, and validation says how far the points are off."""
    values = taught(values, ['train', 'bags/train'])
    run = Trainer(
        configuration.from_dict(values), tmp_path / 'run', [videos, labelled_bags], tmp_path / 'cache'
    )
    stage = run.stages[0]
    batch = [torch.as_tensor(item) if hasattr(item, 'shape') else item for item in stage.batch(0)]
    labels = batch[4]
    assert labels.shape == (4, 4, 2 + 2)
    batch[4] = torch.full_like(labels, torch.nan)
    loss, figures = stage.loss(*batch)
    assert figures['readout'].isnan() and torch.allclose(loss, figures['masked'])
    batch[4] = torch.tensor([0.5, 0.4, 0.2, 0.3]).expand_as(labels)
    loss, figures = stage.loss(*batch)
    assert torch.allclose(loss, figures['masked'] + 0.5 * figures['readout'])
    loss.backward()
    assert all(p.grad is not None for module in (run.model.encoder, run.model.readout) for p in module.parameters())
    judged = stage.validate()['validation']
    assert 0 < judged['readout_error'] < 1 and np.isfinite(judged['readout_likelihood'])
    assert 0 < judged['attribute_error']
    values['readout']['attributes'] = {'grasp': 3}
    stage.clips.config = configuration.from_dict(values)
    with pytest.raises(JepaError, match='expected grasp of length 3, found 2 in'):
        [stage.clips.labels(clip) for clip in stage.clips.validation]


def test_labelled_clips_teach_the_readout_in_place_of_the_batch(values, videos, labelled_bags, tmp_path):
    values = taught(values, ['bags/train'], labelled=6)
    run = Trainer(
        configuration.from_dict(values), tmp_path / 'run', [videos, labelled_bags], tmp_path / 'cache'
    )
    run.resume()
    known = np.concatenate([c.vectors['grasp'][c.points['handle'][1] > 0] for c in run.clips._sequences])
    attributes = run.model.readout.attributes
    assert np.allclose(attributes.middle, known.mean(0), atol=1e-5)
    assert np.allclose(attributes.unit, np.maximum(known.std(0), 1e-6), atol=1e-5)
    stage = run.stages[0]
    batch = [torch.as_tensor(item) if hasattr(item, 'shape') else item for item in stage.batch(0)]
    frames, _, labelled, _, labels, *_ = batch
    assert len(frames) == 4 and len(labelled) == len(labels) == 6
    assert not labels[..., :2].isnan().all(-1).all(1).any()
    loss, figures = stage.loss(*batch)
    batch[2] = torch.randint(256, labelled.shape, dtype=torch.uint8)
    other, changed = stage.loss(*batch)
    assert figures['masked'] == changed['masked'] and figures['readout'] != changed['readout']
    assert set(stage.sources(0)) <= {str(sequence.path) for sequence in run.clips._sequences}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'pretraining': {'labelled': 4}}, 'labelled needs a pretraining.readout above 0'),
        ({'readout': {'name': ''}, 'pretraining': {'readout': 0.5}}, 'need a readout.name, found none'),
        ({'data': {'flip': True}, 'readout': {'attributes': {'grasp': 2}}}, 'needs data.flip: false'),
        ({'readout': {'attributes': {'weight': 2}}}, 'takes keys of data.vectors .*grasp.* found .*weight'),
        ({'readout': {'attributes': {'handle': 2}}}, r'other keys of data.labels \(\[\]\) with length 2, found'),
        (
            {'data': {'labels': {'handle': '/handle', 'foot': '/foot'}}, 'readout': {'attributes': {'foot': 3}}},
            r"data.labels \(\['foot'\]\) with length 2, found",
        ),
    ],
)
def test_a_readout_that_cannot_be_taught_is_refused(values, change, message):
    values['data'] |= {'labels': {'handle': '/handle'}, 'vectors': {'grasp': '/grasp'}, 'flip': False}
    values['readout'] = {'name': 'handle'}
    for section, keys in change.items():
        values[section] |= keys
    with pytest.raises(JepaError, match=message):
        configuration.from_dict(values)

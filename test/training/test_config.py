# SPDX-License-Identifier: Apache-2.0
"""The configuration: what is wrong is named with what would be right."""

from pathlib import Path

import pytest
import yaml

from jepa_ros import cli
from jepa_ros.errors import JepaError
from jepa_ros.training import command
from jepa_ros.training import config as configuration

SHIPPED = sorted((Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_builds_and_can_draw_its_masks(path):
    """
    On the meta device, which takes neither memory nor time: shapes fit each other, widths divide by heads.
    """
    torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    from jepa_ros.training import model as models
    from jepa_ros.training.stages.pretraining import MaskedClips

    config = configuration.load(path)
    with torch.device('meta'):
        model = models.Model(config)
    assert model.encoder.width == model.predictor.proj.out_features
    count = 4
    ids = MaskedClips(config, None, model.encoder_config.grid, range(count)).masks('pretraining', 0, count)
    for context, targets in zip(ids[::2], ids[1::2]):
        assert len(context) == len(targets) == count and context.shape[-1] > 0
        last = model.encoder_config.tokens * (config.data.slices if config.encoder.tubelet > 1 else 1)
        assert max(context.max(), targets.max()) < last
    if 'torchrun' in path.read_text():  # what is for many GPUs has a share for each of eight
        assert config.pretraining.batch % 8 == 0


def test_the_two_conveyor_runs_differ_in_nothing_but_the_encoder():
    """A fair comparison: the same recordings, steps, and tokens in a step."""
    video, image = (
        configuration.load(path) for path in SHIPPED if path.stem in ('conveyor_vjepa', 'conveyor_ijepa')
    )
    if video.encoder.tubelet == 1:
        video, image = image, video
    assert configuration.differences(video, image) == [
        "name was 'conveyor_vjepa', is 'conveyor_ijepa'",
        "init_from was 'runs/conveyor_video/last.pt', is 'runs/conveyor_image/last.pt'",
        'data.frame_period was 0.05, is 0.1',
        'encoder.tubelet was 2, is 1',
        'encoder.window was 8, is 1',
        'masks.long_scale was 0.5, is 0.7',
        'masks.min_keep was 10, is 7',
        "pretraining.objective was 'vjepa', is 'ijepa'",
        "pretraining.norm was 'l1', is 'smooth_l1'",
    ]
    assert video.data.frame_period * video.encoder.tubelet == image.data.frame_period * image.encoder.tubelet


@pytest.mark.parametrize(
    'values, message',
    [
        ({'pretrain': {'steps': 3}}, 'unknown configuration key pretrain, nearest is pretraining'),
        ({'heads': {'step': 3}}, 'unknown configuration key heads.step, nearest is heads.steps'),
        ({'heads': {'steps': 2.5}}, 'heads.steps takes int, found 2.5'),
        ({'heads': {'steps': True}}, 'heads.steps takes int, found True'),
        ({'data': {'train': 'videos'}}, "data.train takes .*list.*found 'videos'"),
        ({'data': {'crop': [0.5, 'all']}}, "data.crop takes float, found 'all'"),
        ({'data': {'train': ['a', 'b'], 'weights': [1.0]}}, 'one number for each entry of data.train .2.'),
        ({'data': {'train': ['a', 'b'], 'weights': [0.0, 0.0]}}, 'not all 0'),
        ({'encoder': 3}, 'encoder. must be a table of keys, found 3'),
        ({'data': {'slices': 4}}, 'data.slices .4. must hold forecaster.context'),
        ({'data': {'slices': 6}}, r'horizons within 0.08..0.3 s, .* .6, 4 of them past.* found \[0.1, 0.2'),
        ({'data': {'frame_period': 0.2}}, 'horizons within 0.32..3.6 s'),
        (
            {'encoder': {'window': 1}},
            'expected encoder.window >= 2 with a tubelet of 2 or more .* found window 1, tubelet 2',
        ),
        (
            {'encoder': {'window': 1, 'tubelet': 1}},
            'ijepa is for image encoders .* found vjepa with tubelet 1',
        ),
        ({'stages': ['heads', 'heads']}, 'stages takes pretraining, .* none twice, found heads, heads'),
        ({'stages': ['headings']}, 'stages takes pretraining, .*found headings'),
        ({'parallel': 'dpp'}, 'parallel takes auto, none, ddp, fsdp, none twice, found dpp'),
        ({'pretraining': {'norm': 'l3'}}, 'pretraining.norm takes l1, l2, smooth_l1'),
        ({'heads': {'rate_end': 'low'}}, "heads.rate_end takes float, found 'low'"),
        ({'data': {'crop': [0.5]}}, r'data.crop takes two numbers, found \[0.5\]'),
        ({'encoder': {'image_size': [64, 64, 3]}}, 'encoder.image_size takes two numbers'),
        ({'data': {'aspect': [1.0]}}, r'data.aspect takes two numbers or none, found \[1.0\]'),
        ({'pretraining': {'context_loss_rise': [9, 9]}}, 'context_loss_rise takes two ascending updates'),
        ({'readout': {'name': 'handle'}}, "readout.name must be a key of data.labels .*found 'handle'"),
    ],
)
def test_a_wrong_key_or_value_is_named(values, message):
    with pytest.raises(JepaError, match=message):
        configuration.from_dict(values)


def test_overrides_and_round_trip(tmp_path, values):
    path = tmp_path / 'run.yaml'
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path, ['heads.steps=9', 'data.stretch=[1.0, 1.2]'])
    assert config.heads.steps == 9 and config.data.stretch == [1.0, 1.2]
    assert configuration.from_dict(configuration.to_dict(config)) == config
    for wrong in ('heads.steps', 'name.steps=3', 'name.steps.first=3'):
        with pytest.raises(JepaError, match=f"--set takes section.key=value, found '{wrong}'"):
            configuration.load(path, [wrong])
    with pytest.raises(JepaError, match='--set takes a value in YAML, found .*crop'):
        configuration.load(path, ['data.crop=[0.5'])


def test_the_reference_names_every_key_once():
    lines = configuration.reference()
    names = [line.split()[0] for line in lines]
    assert len(names) == len(set(names)) and 'heads.rate' in names and 'data.train' in names
    assert all(len(line.split()) > 3 for line in lines)


def test_the_reference_page_is_what_the_table_makes():
    page = Path(__file__).parents[2] / 'docs' / 'training_reference.md'
    assert page.read_text() == configuration.reference_page(), (
        'jepa train --reference > docs/training_reference.md'
    )


@pytest.mark.parametrize(
    'arguments, expected', [(['own_videos'], 'own_videos.yaml'), (['own_videos.yaml'], 'own_videos.yaml')]
)
def test_a_shipped_configuration_is_found_by_name(arguments, expected):
    assert command.find(arguments[0]).name == expected


def test_what_is_wrong_with_the_name_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        JepaError, match="expected a configuration as a YAML file or one of .*own_videos.*, found 'own_video'"
    ):
        command.find('own_video')


def test_help_teaches(capsys):
    assert cli.main(['train', '--reference']) == 0
    assert capsys.readouterr().out == configuration.reference_page()
    with pytest.raises(SystemExit):
        cli.main(['train', '--help'])
    text = capsys.readouterr().out
    assert all(
        key in text
        for key in ('own_videos --data DIR', 'torchrun', 'jepa curves', 'pretraining.rate_end', '1 % of the')
    )
    assert cli.main(['train']) == 2 and 'expected a configuration' in capsys.readouterr().err


def test_an_unreadable_file_is_one_sentence(tmp_path):
    with pytest.raises(JepaError, match='cannot read the configuration'):
        configuration.load(tmp_path / 'none.yaml')

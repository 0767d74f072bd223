# SPDX-License-Identifier: Apache-2.0
"""A record comes back as it was written, and what is none is named."""

import math

import pytest

from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit.record import TransferAudit

ROW = {
    'image_encoder': 'ijepa_vith',
    'video_encoder': 'vjepa_vitl',
    'probe_task': 'short_horizon_action_anticipation',
    'split': 'held_out_conveyor_sequences',
    'metric': 'top5_future_action_recall',
}


def test_a_record_is_pending_until_it_is_decided():
    assert TransferAudit(**ROW).as_row() == {**ROW, 'accepted_winner': 'pending'}
    assert TransferAudit(**ROW, accepted_winner='vjepa_vitl').as_row()['accepted_winner'] == 'vjepa_vitl'
    with pytest.raises(JepaError, match='one of pending, ijepa_vith, vjepa_vitl, found video'):
        TransferAudit(**ROW, accepted_winner='video')


def test_it_is_read_as_it_was_written_and_can_be_read_by_people(tmp_path):
    shared = [1.0, 2.5]
    evidence = {'found': {'low': -math.inf, 'none': None}, 'sums': [[0.1, 0.2], shared], 'again': shared}
    record = TransferAudit(**ROW, evidence=evidence)
    record.write(tmp_path / 'record.yaml')
    assert TransferAudit.read(tmp_path / 'record.yaml') == record
    text = (tmp_path / 'record.yaml').read_text()
    assert '- [0.1, 0.2]\n' in text and '&' not in text and text.index('image_encoder') < text.index('evidence')


@pytest.mark.parametrize(
    'text, words',
    [
        (None, 'expected the record of an audit, found'),
        ('{', 'expected the record of an audit, found'),
        ('format: 2', 'in format 1, found 2'),
        ('[]', 'in format 1, found None'),
        ('format: 1', "expected a value for 'image_encoder'"),
    ],
)
def test_what_is_no_record_is_named(tmp_path, text, words):
    path = tmp_path / 'record.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(JepaError, match=f'record.yaml: .*{words}'):
        TransferAudit.read(path)

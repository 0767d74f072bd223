# SPDX-License-Identifier: Apache-2.0
"""Only a winner that was decided on untouched recordings becomes the default, and only as it was audited."""

import pytest
import yaml
from bundles import make_bundle

from jepa_ros import paths
from jepa_ros.engine.bundle import Bundle, file_sha256
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.audit import promotion
from jepa_ros.evaluation.audit.promotion import promote, refusal
from jepa_ros.evaluation.audit.record import TransferAudit


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A share directory of the package with nothing promoted, and a bundle that ships in it."""
    make_bundle(tmp_path / 'share' / 'models' / 'belt', 'frame', (32, 48), name='belt')
    for module in (paths, promotion):
        monkeypatch.setattr(module, 'share_directory', lambda: tmp_path / 'share')
    return tmp_path / 'share'


def record(bundle, winner='image', changed=()):
    """Return the record of an audit that a bundle won as image encoder."""
    return TransferAudit(
        'belt', 'other', 'task', 'split', 'metric', 'belt' if winner == 'image' else 'pending',
        {
            'decision': {'winner': winner, 'reasons': ['not enough data']},
            'held_out': {'changed': list(changed)},
            'bundles': {'image': {'bundle': str(bundle), 'model_id': Bundle.load(bundle).model_id}},
        },
    )  # fmt: skip


def test_the_winner_is_found_as_promoted_with_the_record_that_decided(share):
    path = share / 'docs' / 'record.yaml'
    won = record(share / 'models' / 'belt')
    won.write(path)
    pointer = promote(won, path)
    found = paths.find_promotion()
    assert found.path == pointer and paths.find_bundle('promoted') == share / 'models' / 'belt'
    assert found.audit == 'docs/record.yaml' and found.audit_sha256 == file_sha256(path)
    assert Bundle.load('promoted').model_id == found.model_id
    assert yaml.safe_load(pointer.read_text())['bundle'] == 'belt', 'it moves with the package'


def test_a_bundle_elsewhere_is_named_by_its_whole_path(share, tmp_path):
    mine = make_bundle(tmp_path / 'mine', 'frame', (32, 48), seed=3)
    won = record(mine)
    won.write(tmp_path / 'record.yaml')
    promote(won, tmp_path / 'record.yaml')
    assert paths.find_promotion().bundle == mine and paths.find_promotion().audit == str(tmp_path / 'record.yaml')


LOOK = {'date': '2026-11-23T00:00:00Z', 'differs': ['rule_sha256'], 'sequences': 3}


@pytest.mark.parametrize(
    'values, words',
    [
        ({'winner': 'pending'}, 'accepted_winner is pending: not enough data'),
        ({'changed': [LOOK]}, '3 of these held-out recordings were scored on .* under another rule, by which'),
    ],
)
def test_what_is_pending_or_may_have_been_chosen_by_its_data_is_refused(share, values, words):
    kept = record(share / 'models' / 'belt', **values)
    assert refusal(kept)
    with pytest.raises(JepaError, match=words):
        promote(kept, share / 'record.yaml')
    assert paths.find_promotion() is None


def test_a_bundle_that_was_made_anew_since_is_refused(share):
    won = record(share / 'models' / 'belt')
    make_bundle(share / 'models' / 'belt', 'frame', (32, 48), name='belt', seed=9)
    with pytest.raises(JepaError, match=r'expected model \w{8}, which was audited, found \w{8}'):
        promote(won, share / 'record.yaml')
    assert paths.find_promotion() is None

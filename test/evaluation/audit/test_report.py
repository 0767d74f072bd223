# SPDX-License-Identifier: Apache-2.0
"""The page is made of a record as it is read back, needs nothing else, and says what decided."""

import re

import numpy as np
import pytest
from audited import evidence

from jepa_ros.evaluation.audit import audit as module
from jepa_ros.evaluation.audit.audit import audit
from jepa_ros.evaluation.audit.config import Cost, Gain
from jepa_ros.evaluation.audit.record import TransferAudit
from jepa_ros.evaluation.audit.report import _estimates, render


@pytest.fixture
def pages(config, place, opened, timed, with_rule, monkeypatch):
    """The pages of an audit with a winner, and of one by a changed rule on the same recordings."""
    monkeypatch.setattr(module, '_splits', lambda *_: opened)
    rng = np.random.default_rng(0)

    def run(bundle, splits, names, tick):
        video = bundle.manifest.name == 'tiny_vjepa'
        return evidence(rng, bundle.manifest.name, 0.85 if video else 0.6, 0.1)

    by_group = with_rule(temporal=[Gain('action_anticipation', 0.02, 'grasp')], cost=Cost(3.0, memory=2.0))
    found = []
    for chosen in (by_group, config):
        record = audit(chosen, 'abc', place, command='jepa audit <tiny>', run_probes=run)
        record.write(place.out / 'record.yaml')
        found.append(render(TransferAudit.read(place.out / 'record.yaml')))
    return found


def words(page: str) -> str:
    """Return what is to be read on a page, without its plots."""
    page = re.sub(r'<(svg|style).*?</\1>', ' ', page, flags=re.DOTALL)
    return ' '.join(re.sub(r'<[^>]+>', ' ', page).split())


def test_the_page_tells_decision_criteria_probes_costs_and_how_it_was_made(pages):
    page = words(pages[0])
    for said in (
        'accepted winner tiny_vjepa video',
        'gain on action_anticipation (grasp) met',
        'loss on depth met',
        'memory, video over image met',
        'video: temporal',
        'permuted labels 0.3',
        'computing time per second of camera',
        '2 recordings. Under this rule and these settings they were scored first on 20',
        'jepa audit &lt;tiny&gt;',
        'rule sha256',
    ):
        assert said in page, said
    assert 'under another rule' not in page


def test_an_earlier_look_under_another_rule_stands_beside_the_decision(pages):
    page = words(pages[1])
    found = page.index('2 of these held-out recordings were scored on')
    assert 'under another rule' in page[found:] and found < page.index('The rule, and what was found')


def test_the_page_needs_nothing_but_itself(pages):
    for page in pages:
        assert not re.search(r'<script|<link|https?://(?!www\.w3\.org)|src="(?!data:)|@import', page)
        assert page.count('<details') == page.count('</details>') and page.startswith('<!DOCTYPE html>')


def test_every_criterion_and_probe_has_its_plot(pages):
    pytest.importorskip('matplotlib')
    # Criteria, two for each of two probes (scores, gain by sequence), and the time of the rounds.
    assert [page.count('<svg') for page in pages] == [6, 6]
    assert 'gain on action_anticipation (grasp): met' in pages[0]


def test_a_row_that_only_the_video_side_has_is_named():
    found = {'low': 0.1, 'value': 0.2, 'high': 0.3}
    nothing = {'scores': found, 'linear': None, 'controls': {}, 'noise': {}, 'chance': None, 'details': {}}
    sides = {'image': nothing, 'video': {**nothing, 'controls': {'random': found}}}
    labels = [estimate.name for estimate in _estimates(sides)]
    assert labels[:2] == ['attentive head', ''] and len(labels) == 3 and labels[2]

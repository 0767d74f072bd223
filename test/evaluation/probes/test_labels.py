# SPDX-License-Identifier: Apache-2.0
"""The labels of the known probes, from recordings in which the answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from planted import SETTINGS, track

from jepa_ros.data.bags import RecordingError
from jepa_ros.evaluation.probes.catalogue import PROBES, chosen
from jepa_ros.evaluation.probes.future import MOVES, EndEffector, HandlePosition, Planning
from jepa_ros.evaluation.probes.probe import ProbeError
from jepa_ros.evaluation.probes.static import Counting, Retrieval
from jepa_ros.evaluation.probes.temporal import (
    ActionAnticipation,
    ContactOnset,
    StateChange,
    TemporalOrdering,
)

NAMES = {
    'depth', 'counting', 'retrieval', 'action_anticipation', 'temporal_ordering', 'state_change',
    'contact_onset', 'handle_position', 'planning', 'end_effector',
}  # fmt: skip
AT = np.array([10, 20, 30])


def test_all_are_known_by_name_and_say_what_they_ask():
    assert PROBES.keys() == NAMES
    for probe in chosen(()):
        assert probe.task and probe.metric and probe.view in ('context', 'newest', 'futures')


def test_a_wrong_name_is_told_the_nearest():
    with pytest.raises(ProbeError, match="expected a probe .depth., found 'dept'"):
        chosen(['dept'])
    with pytest.raises(ProbeError, match="'counting' twice"):
        chosen(['counting', Counting()])


def test_a_recording_without_the_topic_says_so():
    with pytest.raises(RecordingError, match='/sim/bins'):
        Counting().labels(track(), AT, SETTINGS)


def test_objects_are_counted_now_and_actions_later():
    one = track(
        topics={'/sim/bins': [i // 15 for i in range(40)], '/sim/action': [f'a{i}' for i in range(40)]}
    )
    assert Counting().labels(one, AT, SETTINGS).tolist() == ['0', '1', '2']
    assert ActionAnticipation().labels(one, AT, SETTINGS).tolist() == ['a20', 'a30', '']


def test_halves_that_were_swapped_are_another_class():
    probe = TemporalOrdering()
    labels = [probe.labels_of(order, track(), AT, SETTINGS)[0] for order in probe.variants()]
    assert labels == ['in order', 'swapped']


def test_a_state_changes_only_within_the_clip():
    """A clip of 0.4 s ends at frame 20: frames 13 to 20 are in it."""
    settings = replace(SETTINGS, span=0.4)
    for change, expected in ((13, 'unchanged'), (14, 'changed'), (20, 'changed'), (21, 'unchanged')):
        topics = {
            '/sim/state': ['riding'] * change + ['held'] * (40 - change),
            '/sim/belt': ['running'] * 40,
        }
        assert StateChange().labels(track(topics=topics), np.array([20]), settings).tolist() == [expected]


def test_onset_is_ahead_and_not_what_there_is_already():
    contact = ['none'] * 24 + ['onset', 'contact', 'contact'] + ['none'] * 33
    one = track(count=60, topics={'/sim/contact': contact})
    at = np.array([3, 4, 23, 24, 26, 27])  # 20 frames a second: the onset is 21, 20 and 1 frames ahead
    assert ContactOnset().labels(one, at, SETTINGS).tolist() == ['none', 'onset', 'onset', '', '', 'none']


def test_places_are_those_of_the_horizon_in_view_and_hidden():
    points = [(i / 100, 0.5, float(i < 22)) for i in range(40)]
    points[24] = None
    one = track(topics={'/sim/handle': points}, points=['/sim/handle'], size=(30, 40))
    labels = HandlePosition().labels(one, np.array([18, 20]), SETTINGS)  # 0.1 and 0.2 s: 2 and 4 frames
    assert labels.values[0] == pytest.approx(np.array([[0.20, 0.375], [0.22, 0.375]]))
    assert labels.values[1, 0] == pytest.approx([0.22, 0.375]) and np.isnan(labels.values[1, 1]).all()
    assert labels.groups.tolist() == [['0.1 s in view', '0.2 s hidden'], ['0.1 s hidden', '0.2 s hidden']]
    samples = SimpleNamespace(extra={'seen': np.array([True, False])})
    details = HandlePosition().details(np.zeros((2, 2)), np.array([[0.3, 0.4], [0.6, 0.8]]), samples)
    assert details['in view'][0] == pytest.approx(0.5) and details['hidden'][1] == pytest.approx(1.0)
    assert np.isnan([details['in view'][1], details['hidden'][0]]).all()


def test_the_end_effector_is_where_it_will_be():
    places = [np.array([i / 10, 1.0, 2.0, 9.0]) for i in range(40)]
    labels = EndEffector('/state').labels(track(topics={'/state': places}), AT, SETTINGS)
    assert labels.values.shape == (3, 2, 3)
    assert labels.values[0] == pytest.approx(np.array([[1.2, 1, 2], [1.4, 1, 2]]))
    assert labels.groups[0].tolist() == ['0.1 s', '0.2 s']


def pose(xyz, quaternion=(0.0, 0.0, 0.0, 1.0)):
    """Return a PoseStamped, but for its stamp."""
    position, orientation = SimpleNamespace(**dict(zip('xyz', xyz))), dict(zip('xyzw', quaternion))
    inside = SimpleNamespace(position=position, orientation=SimpleNamespace(**orientation))
    return SimpleNamespace(pose=inside, __msgtype__='geometry_msgs/msg/PoseStamped')


def test_moves_are_ranked_in_the_axes_of_the_camera():
    quarter = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))  # the camera's x is the world's y
    topics = {
        '/sim/handle_pose': [pose((0.0, i / 20, 0.0)) for i in range(40)],  # 1 m/s
        '/arm/tool': [pose((0.0, 0.0, 0.0))] * 40,
        '/sim/camera_pose': [pose((5.0, 5.0, 5.0), quarter)] * 40,
        '/sim/handle': [(0.5, 0.5, 1.0)] * 40,
    }
    probe = Planning()
    labels = probe.labels(track(topics=topics, points=['/sim/handle']), np.array([20]), SETTINGS)
    assert labels.values[0] == pytest.approx(np.array([[1.1, 0, 0], [1.2, 0, 0]]), abs=1e-5)
    samples = SimpleNamespace(extra={'ahead': np.array([0.1])})
    way = np.array([[1.1, 0.02, -0.01]])
    assert probe.error(way, way, samples) == 0 and probe.details(way, way, samples)['regret (m)'] == 0
    assert probe.error(-way, way, samples) > 0.9
    regret = probe.details(-way, way, samples)['regret (m)']
    assert regret == pytest.approx(2 * 0.1 * MOVES.max(), rel=0.1)


def test_a_pose_is_compared_by_the_ends_of_the_bar():
    turned = (0.0, 0.0, np.sin(np.pi / 8), np.cos(np.pi / 8))  # by 45 degrees
    topics = {
        '/sim/handle_in_camera': [pose((0.1, 0.2, 1.0), turned)] * 40,
        '/sim/handle': [(0.5, 0.5, float(i < 20)) for i in range(40)],
    }
    probe = Retrieval()
    labels = probe.labels(track(topics=topics, points=['/sim/handle']), AT, SETTINGS)
    assert labels[0] == pytest.approx([0.1, 0.2, 1.0, np.sqrt(0.5), np.sqrt(0.5), 0.0])
    assert np.isnan(labels[1:]).all()
    one = np.array([[0.0, 0, 1, 1, 0, 0]])
    for other, error, angle in (
        ([[0.0, 0, 1, -1, 0, 0]], 0.0, 0),  # the same bar from its other end
        ([[0.3, 0, 1, 1, 0, 0]], 0.3, 0),
        ([[0.0, 0, 1, 0, 1, 0]], 0.1 * np.sqrt(2), 90),
    ):
        assert probe.error(one, np.array(other), None) == pytest.approx(error)
        assert probe.details(one, np.array(other), None)['angle (degrees)'] == pytest.approx(angle)

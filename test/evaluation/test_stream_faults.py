# SPDX-License-Identifier: Apache-2.0
"""Faults of a stream are named when they are there, and only then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.data.bags import Topic
from jepa_ros.data.frames import RecordedFrame
from jepa_ros.evaluation.stream_faults import StreamWatch, clocks_apart, duration, unknown_types

S = 10**9


def watched(stamps, topic='/camera', frame_id='lens', log=lambda i, stamp: stamp, sizes=((64, 48),)):
    watch = StreamWatch(topic)
    for i, stamp in enumerate(stamps):
        width, height = sizes[i % len(sizes)]
        watch.see(RecordedFrame(stamp, log(i, stamp), frame_id, None, 'rgb8', height, width, 3 * width))
    return watch


def kinds(watch, stamp_fault=None, period=0.05):
    return [fault.kind for fault in watch.faults(stamp_fault, period)]


STAMPS = [100 * S + i * S // 20 for i in range(20)]


def test_a_healthy_stream_has_none():
    assert kinds(watched(STAMPS)) == [] and kinds(watched([])) == []


@pytest.mark.parametrize(
    'expected, change',
    [
        ('topic_name', {'topic': 'camera'}),
        ('frame_id', {'frame_id': ''}),
        ('clock', {'log': lambda i, stamp: stamp + 6 * S}),
        ('size', {'sizes': ((64, 48), (32, 24))}),
    ],
)
def test_each_fault_by_itself(expected, change):
    assert kinds(watched(STAMPS, **change)) == [expected]


@pytest.mark.parametrize(
    'stamps, words',
    [
        ([*STAMPS, STAMPS[0]], 'step back once'),
        ([*STAMPS, STAMPS[-1], STAMPS[-1]], 'frame before 2 times'),
        ([0, *STAMPS], '1 of 21 frames have no stamp'),
    ],
)
def test_what_is_wrong_with_stamps_is_said_with_how_often(stamps, words):
    faults = watched(stamps, log=lambda i, stamp: 100 * S).faults(None, 0.05)
    assert any(fault.kind == 'stamps' and words in fault.text for fault in faults)


def test_a_camera_too_slow_for_the_bundle_is_named_with_both_periods():
    (fault,) = watched([100 * S + i * S // 5 for i in range(20)]).faults(None, 0.05)
    assert fault.kind == 'rate' and '0.2 s' in fault.text and '0.05 s' in fault.text


def test_stamps_that_are_not_believed_are_not_judged_further():
    assert kinds(watched([0] * 20, log=lambda i, stamp: STAMPS[i]), 'are zero') == ['stamps']


def test_clocks_are_compared_with_the_first_camera():
    faults = clocks_apart({'/a': -5.0, '/b': -5.4, '/c': 38.0, '/d': -48.0})
    assert [fault.text.split(' is ')[0] for fault in faults] == ['the clock of /c', 'the clock of /d']
    assert '43.0 s ahead of that of /a' in faults[0].text and '43.0 s behind that of /a' in faults[1].text
    assert clocks_apart({}) == []


def test_unknown_types_are_listed_in_one_fault_and_common_ones_are_not():
    topics = [Topic(f'/{i}', 'acme_msgs/msg/A', 1) for i in range(6)] + [
        Topic('/image', 'sensor_msgs/msg/Image', 9)
    ]
    (fault,) = unknown_types(topics, ros1=False)
    assert '/0 (acme_msgs/msg/A)' in fault.text and 'and 2 more' in fault.text and '/image' not in fault.text
    assert unknown_types(topics[-1:], ros1=True) == []


@given(st.floats(0, 1e10))
def test_a_duration_reads_back_to_within_a_twentieth(seconds):
    value, unit = duration(seconds).split()
    length = {'s': 1, 'min': 60, 'hours': 3600, 'days': 86400, 'years': 365.25 * 86400}[unit]
    assert float(value) * length == pytest.approx(seconds, rel=0.05, abs=0.06)

# SPDX-License-Identifier: Apache-2.0
"""The figures of a picking run against a run that is known."""

import numpy as np
import pytest
from geometry_msgs.msg import Point, PointStamped, Pose, PoseStamped
from nav_msgs.msg import Path
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header, Int32, String

from jepa_ros.demo.figures import CONTROLLER, PERCEPTION
from jepa_ros.demo.picking import CELL, PickingFigures, handlers, live_rows, summary_rows
from jepa_ros.demo.topics import PickingTopics
from jepa_ros.latents import Futures, token_centres
from jepa_ros.nodes.messages import to_stamp

START_NS = 1_000_000_000  # the simulator's clock begins at one second
WALL_NS = 1_795_000_000_000_000_000
PERIOD = 50_000_000
TOPICS = PickingTopics()


def futures(stamp_ns: int) -> Futures:
    tokens = np.zeros((1, 2, 3), np.float32)
    return Futures(stamp_ns, np.array([0.1], np.float32), tokens, token_centres((1, 2)), 1)


def frames(figures: PickingFigures, count: int, slowness: float = 1.0) -> None:
    """Deliver frames up to the given one, at 20 Hz of simulated time."""
    for n in range(len(figures.camera_stamps), count):
        figures.camera(START_NS + n * PERIOD, WALL_NS + round(n * PERIOD * slowness))


def test_ages_are_measured_on_the_wall_from_the_clock_message_of_the_exposure():
    figures = PickingFigures(0.1)
    figures.clock(START_NS, WALL_NS)
    figures.futures(futures(START_NS), WALL_NS + 30_000_000)
    # of two topics the later message may be heard first
    figures.futures(futures(START_NS + PERIOD), WALL_NS + 90_000_000)
    figures.clock(START_NS + PERIOD, WALL_NS + 50_000_000)
    assert [age for _, age in figures.ages] == pytest.approx([0.03, 0.04])


def test_futures_whose_clock_got_lost_are_counted_and_have_no_age():
    figures = PickingFigures(0.1)
    figures.clock(START_NS + PERIOD, WALL_NS)
    figures.futures(futures(START_NS), WALL_NS)
    assert figures.futures_count == 1 and figures.age() is None


def test_what_is_remembered_of_a_long_run_has_an_end():
    figures = PickingFigures(0.1)
    for n in range(2000):
        figures.clock(n, WALL_NS)
        figures.aged(-1 - n, WALL_NS)
    assert len(figures._clock) == len(figures._futures_came) == 600
    figures.aged(1999, WALL_NS + 10_000_000)
    assert figures.age()['p50'] == 0.01


def test_rate_and_pace_are_those_of_the_wall():
    figures = PickingFigures(0.1)
    assert figures.camera_rate() == figures.real_time_factor() == figures.now == 0.0
    frames(figures, 41, slowness=2.0)
    assert figures.camera_rate() == pytest.approx(10.0)
    assert figures.now == 2.0 and figures.real_time_factor() == pytest.approx(0.5)
    assert figures.camera_rate(recent=True) == pytest.approx(10.0)


def test_picks_and_their_times():
    figures = PickingFigures(0.1)
    frames(figures, 21)
    figures.happened('entered')
    frames(figures, 61)
    figures.happened('contact,taken')
    frames(figures, 81)
    figures.happened('none')
    figures.happened('entered')
    assert figures.entered_count == 2
    assert figures.picks == [{'time': 3.0, 'seconds': 2.0}]


def test_a_run_goes_on_until_its_last_pick_can_be_seen():
    figures = PickingFigures(0.1)
    frames(figures, 21)
    figures.happened('taken')
    figures.taken = 1
    assert not figures.enough(1)
    frames(figures, 61)
    assert figures.enough(1) and not figures.enough(2)


def test_a_bin_that_was_there_from_the_beginning_has_no_time():
    figures = PickingFigures(0.1)
    frames(figures, 21)
    figures.happened('taken')
    assert figures.picks == [{'time': 1.0, 'seconds': None}]


def test_attempts_and_the_time_in_each_state():
    figures = PickingFigures(0.1)
    frames(figures, 1)
    figures.says('waiting')
    frames(figures, 21)
    figures.says('closing')
    figures.says('closing')
    frames(figures, 31)
    figures.says('lifting')
    frames(figures, 41)
    figures.end()
    assert figures.attempts == 1
    assert figures.states == {'waiting': 1.0, 'closing': 0.5, 'lifting': 0.5}


def test_the_simulators_messages_come_together_to_a_handle_error():
    """As the monitor hands them on: serialised, by topic."""
    figures = PickingFigures(0.1)
    read = handlers(figures)

    def hear(topic, message):
        read[topic](serialize_message(message), WALL_NS)

    def pose(stamp_ns, x):
        return PoseStamped(header=Header(stamp=to_stamp(stamp_ns)), pose=Pose(position=Point(x=x, z=0.8)))

    hear(TOPICS.bin_state, String(data='riding'))
    hear(TOPICS.belt, String(data='running'))
    hear(TOPICS.taken, Int32(data=2))
    hear(TOPICS.state, String(data='tracking'))
    hear(TOPICS.clock, Clock(clock=to_stamp(START_NS)))
    for n in range(20):
        stamp_ns, x = START_NS + n * PERIOD, 0.01 * n
        hear(TOPICS.handle, PointStamped(header=Header(stamp=to_stamp(stamp_ns)), point=Point(x=0.5, y=0.5, z=1.0)))
        hear(TOPICS.handle_pose, pose(stamp_ns, x))
        if n == 5:
            ahead = [pose(stamp_ns + m * PERIOD, x + 0.01 * m + 0.02) for m in range(1, 10)]
            hear(TOPICS.path, Path(header=Header(stamp=to_stamp(stamp_ns)), poses=ahead))
    assert figures.errors.median(0.4) == (0.4, pytest.approx(0.02))
    assert (figures.taken, figures.state, figures.belt) == (2, 'tracking', 'running')


@pytest.mark.parametrize('state, seen', [('held', True), ('riding', False)], ids=['in the gripper', 'out of the picture'])
def test_only_a_handle_that_rides_in_the_picture_counts(state, seen):
    figures = PickingFigures(0.1)
    figures.bin_state = state
    for n in range(20):
        stamp_ns = START_NS + n * PERIOD
        if seen:
            figures.handle_seen(stamp_ns, True)
        figures.handle_is(stamp_ns, (0.01 * n, 0, 0.8))
        if n == 5:
            figures.errors.path(stamp_ns, [(stamp_ns + m * PERIOD, (0, 0, 0.8)) for m in range(1, 10)])
    assert figures.errors.rows() == []


def test_the_table_says_what_is_going_on():
    figures = PickingFigures(0.1)
    rows = dict(live_rows(figures, 0))
    assert rows['controller'] == 'starting' and rows['futures'] == 'none' and rows['camera'] == '0.0 Hz at 0 s'
    figures.status(CELL, 1, 'the simulation could not keep up', {})
    assert 'warning' not in dict(live_rows(figures, 0)), 'it is not started yet'
    frames(figures, 41)
    figures.says('stopped')
    figures.status(CONTROLLER, 1, '', {'reason': 'the newest futures are 0.3 s old'})
    figures.status(PERCEPTION, 0, 'ok', {'frames_overrun': '3'})
    rows = dict(live_rows(figures, 0))
    assert rows['controller'] == 'stopped (the newest futures are 0.3 s old)'
    assert rows['camera'] == '20.0 Hz at 2 s' and rows['dropped'] == 'overrun 3'
    assert rows['warning'] == 'conveyor_sim: the simulation could not keep up'


def test_the_summary_counts():
    figures = PickingFigures(0.1)
    frames(figures, 21)
    figures.happened('entered')
    frames(figures, 121)
    figures.happened('taken')
    figures.taken = 1
    figures.clock(START_NS, WALL_NS)
    figures.futures(futures(START_NS), WALL_NS + 30_000_000)
    rows = dict(summary_rows(figures))
    assert rows['picked'] == '1 of 1 bins, 0 attempts, 5.0 s from entry to taken'
    assert rows['futures'] == '1, age 30 ms, 99 % within 30 ms'
    assert rows['camera'] == '20.0 Hz, real time x 1.00'
    assert rows['handle error'] == 'no path to judge'

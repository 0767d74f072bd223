# SPDX-License-Identifier: Apache-2.0
"""States, commands and classes of bags at the times of the frames."""

import numpy as np
import pytest
from conftest import shared_data
from hypothesis import given
from hypothesis import strategies as st
from recorded import CAMERA, START_NS, STEP_NS, _header, _store, camera, write_bag, write_video

from jepa_ros.data import signals
from jepa_ros.data.actions import pose_differences
from jepa_ros.data.augment import NO_LABEL, OUTSIDE, VISIBLE
from jepa_ros.data.clips import Augment, ClipError, ClipSampler, class_names
from jepa_ros.data.recordings import RecordingError, open_recording
from jepa_ros.data.sequences import load_sequences

TYPES = _store(False).types
SIZE = (24, 32)


def header(stamp):
    return _header(TYPES, stamp, 0, False)


def joints(stamp, names, position):
    empty = np.zeros(0)
    return TYPES['sensor_msgs/msg/JointState'](
        header(stamp), list(names), np.array(position, float), empty, empty
    )


def vector3(values):
    return TYPES['geometry_msgs/msg/Vector3'](*map(float, values))


def twist(values):
    return TYPES['geometry_msgs/msg/Twist'](vector3(values[:3]), vector3(values[3:]))


def stamped_twist(stamp, values):
    return TYPES['geometry_msgs/msg/TwistStamped'](header(stamp), twist(values))


def pose(stamp, place, quaternion):
    parts = TYPES['geometry_msgs/msg/Point'](*place), TYPES['geometry_msgs/msg/Quaternion'](*quaternion)
    return TYPES['geometry_msgs/msg/PoseStamped'](header(stamp), TYPES['geometry_msgs/msg/Pose'](*parts))


def camera_info(model='plumb_bob', focal=60.0, distortion=(), projection=np.zeros(12)):
    size = {'height': 48, 'width': 64, 'binning_x': 0, 'binning_y': 0}
    k = np.array([focal, 0, 32, 0, focal, 24, 0, 0, 1])
    parts = {'d': np.array(distortion, float), 'k': k, 'r': np.eye(3).ravel(), 'p': projection}
    roi = TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header(at(0)), distortion_model=model, roi=roi, **size, **parts
    )


def array(values):
    layout = TYPES['std_msgs/msg/MultiArrayLayout']([], 0)
    return TYPES['std_msgs/msg/Float64MultiArray'](layout, np.array(values, float))


def load(tmp_path, topics, count=10, stamps=None, **how):
    bag = write_bag(tmp_path / 'bag', {CAMERA: camera(count, stamps=stamps), **topics})
    return load_sequences([bag], SIZE, tmp_path / 'cache', progress=False, **how)[0]


def bag_of(tmp_path, topics):
    return write_bag(tmp_path / 'bag', {CAMERA: camera(3), **topics})


def at(frame):
    return START_NS + round(frame * STEP_NS)


TIMES = signals.FrameTimes(*[np.array([at(i) for i in range(3)])] * 2)


def test_joints_are_interpolated_and_unknown_across_gaps_and_far_from_messages(tmp_path):
    known = [0.5, 1.5, 2.5, 6.5, 7.5]  # times in frames: one interval is usual, 4 are a gap
    topics = {'/joints': [(at(t), joints(at(t), 'ab', [t, -2 * t])) for t in known]}
    sequence = load(tmp_path, topics, vectors={'q': '/joints'})
    q = sequence.vectors['q']
    assert q.shape == (10, 2) and q.dtype == np.float32
    np.testing.assert_allclose(q[[1, 2, 7], 0], [1, 2, 7], atol=1e-5)
    np.testing.assert_allclose(q[:, 1], -2 * q[:, 0], atol=1e-5)
    np.testing.assert_allclose(q[[0, 3, 8], 0], [0.5, 2.5, 7.5], atol=1e-5)  # half an interval beyond
    assert np.isnan(q[[4, 5, 9]]).all()


def test_nearest_takes_messages_as_they_are(tmp_path):
    topics = {'/command': [(at(t), array([t])) for t in (0.4, 1.4, 2.4)]}
    sequence = load(
        tmp_path, topics, count=6, vectors={'near': '/command@nearest', 'line': '/command@linear'}
    )
    near = sequence.vectors['near'][:, 0]
    np.testing.assert_allclose(near[:4], [0.4, 1.4, 2.4, 2.4], atol=1e-6)
    assert np.isnan(near[4:]).all()
    np.testing.assert_allclose(sequence.vectors['line'][1], [1.0], atol=1e-5)
    with pytest.raises(RecordingError):
        load(tmp_path / 'b', topics, vectors={'v': '/command@cubic'})


def test_names_decide_the_order_and_what_is_absent_is_unknown(tmp_path):
    rows = [
        (at(0), joints(at(0), 'ab', [1, 2])),
        (at(1), joints(at(1), 'ba', [4, 3])),
        (at(2), joints(at(2), 'a', [5])),
    ]
    q = load(tmp_path, {'/joints': rows}, count=3, vectors={'q': '/joints'}).vectors['q']
    np.testing.assert_array_equal(q, [[1, 2], [3, 4], [5, np.nan]])


def test_velocities_where_there_are_no_positions(tmp_path):
    message = joints(at(0), 'ab', [])
    message.velocity = np.array([0.5, -0.5])
    q = load(tmp_path, {'/command': [(at(0), message)]}, count=1, vectors={'q': '/command'}).vectors['q']
    np.testing.assert_array_equal(q, [[0.5, -0.5]])


def test_twists_and_poses(tmp_path):
    half = np.sqrt(0.5)
    topics = {
        '/twist': [(at(t), twist([t, 0, 0, 0, 0, -t])) for t in (0, 2)],
        '/stamped': [(at(9), stamped_twist(at(t), [t, 0, 0, 0, 0, -t])) for t in (0, 2)],  # the header counts
        '/pose': [
            (at(0), pose(at(0), (0, 0, 0), (0, 0, 0, 1))),
            (at(2), pose(at(2), (2, 4, 6), (0, 0, -half, -half))),
        ],
    }
    sequence = load(
        tmp_path, topics, count=3, vectors={name: f'/{name}' for name in ('twist', 'stamped', 'pose')}
    )
    for name in ('twist', 'stamped'):
        np.testing.assert_allclose(sequence.vectors[name][1], [1, 0, 0, 0, 0, -1], atol=1e-6)
    eighth = np.pi / 8
    np.testing.assert_allclose(
        sequence.vectors['pose'][1], [1, 2, 3, 0, 0, np.sin(eighth), np.cos(eighth)], atol=1e-6
    )


def test_a_pose_in_the_frame_of_the_camera_is_a_label_also_outside_of_the_picture(tmp_path):
    places = [(0.0, 0.0, 1.0), (0.4, -0.1, 1.2), (0.9, 0.0, 1.2), (0.0, 0.0, -1.0)]  # the last is behind it
    topics = {
        '/handle': [(at(t), pose(at(t), place, (0, 0, 0, 1))) for t, place in enumerate(places)],
        '/camera/camera_info': [(at(0), camera_info())],
    }
    xy, state = load(tmp_path, topics, count=5, labels={'handle': '/handle'}).points['handle']
    assert state.tolist() == [VISIBLE, VISIBLE, OUTSIDE, NO_LABEL, NO_LABEL]
    x, y, z = np.array(places[:3]).T
    np.testing.assert_allclose(
        xy[:3], np.stack([(60 * x / z + 32) / 64, (60 * y / z + 24) / 48], -1), atol=1e-6
    )


def test_a_lens_bends_where_a_pose_is_seen(tmp_path):
    topics = {
        '/handle': [(at(0), pose(at(0), (0.4, 0.0, 1.0), (0, 0, 0, 1)))],
        '/camera/camera_info': [(at(0), camera_info(distortion=(-0.5, 0, 0, 0, 0)))],
    }
    xy, _ = load(tmp_path, topics, count=1, labels={'handle': '/handle'}).points['handle']
    bent = 0.4 * (1 - 0.5 * 0.4**2)  # the first term of plumb_bob
    np.testing.assert_allclose(xy, [[(60 * bent + 32) / 64, 0.5]], atol=1e-6)


def test_a_picture_that_was_rectified_is_that_of_the_projection(tmp_path):
    """image_proc leaves the driver's camera_info beside it, distortion and all."""
    projection = np.array([50.0, 0, 30, 0, 0, 50, 24, 0, 0, 0, 1, 0])
    info = camera_info(distortion=(-0.5, 0, 0, 0, 0), projection=projection)
    topics = {
        '/camera/image_rect_color': camera(1),
        '/handle': [(at(0), pose(at(0), (0.4, 0.0, 1.0), (0, 0, 0, 1)))],
        '/camera/camera_info': [(at(0), info)],
    }
    bag = write_bag(tmp_path / 'bag', topics)
    (found,) = load_sequences([bag], SIZE, tmp_path / 'cache', progress=False, labels={'handle': '/handle'})
    np.testing.assert_allclose(found.points['handle'][0], [[(50 * 0.4 + 30) / 64, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ('topics', 'message'),
    [
        ({}, 'camera_info'),
        (
            {'/camera/camera_info': [(at(0), camera_info('equidistant'))]},
            "plumb_bob .*found model 'equidistant'",
        ),
        ({'/camera/camera_info': [(at(0), camera_info(focal=0.0))]}, 'calibrated .*focal length 0 px'),
    ],
)
def test_a_pose_needs_a_camera_that_projects(tmp_path, topics, message):
    topics = {'/handle': [(at(0), pose(at(0), (0, 0, 1), (0, 0, 0, 1)))], **topics}
    with pytest.raises(RecordingError, match=message):
        signals.read_points(open_recording(bag_of(tmp_path, topics)), '/handle', TIMES, [None] * 3)


def test_a_label_of_another_type_is_named(tmp_path):
    topics = {'/handle': [(at(0), stamped_twist(at(0), [0] * 6))]}
    with pytest.raises(
        RecordingError, match='expected PointStamped or PoseStamped on /handle, found .*TwistStamped'
    ):
        signals.read_points(open_recording(bag_of(tmp_path, topics)), '/handle', TIMES, [None] * 3)


def test_roll_pitch_and_yaw_take_the_short_way_and_joints_do_not(tmp_path):
    rows = [(at(t), joints(at(t), ['yaw', 'wheel'], [value] * 2)) for t, value in ((0, 3.1), (2, -3.1))]
    q = load(tmp_path, {'/joints': rows}, count=3, vectors={'q': '/joints'}).vectors['q']
    assert abs(q[1, 0]) == pytest.approx(np.pi, abs=1e-5) and q[1, 1] == pytest.approx(0, abs=1e-6)


def test_headers_on_another_clock_than_the_bag(tmp_path):
    """Frames and joints stamp by the camera's clock, ten years off; the command has the bag's time only."""
    ago = 10 * 365 * 86400 * 10**9
    topics = {
        '/joints': [(at(t), joints(at(t) - ago, 'a', [t])) for t in range(5)],
        '/command': [(at(t), array([t])) for t in range(5)],
    }
    sequence = load(
        tmp_path, topics, 5, [at(t) - ago for t in range(5)], vectors={'q': '/joints', 'command': '/command'}
    )
    for name in ('q', 'command'):
        np.testing.assert_allclose(sequence.vectors[name][:, 0], range(5))


def test_several_messages_of_one_stamp_count_once(tmp_path):
    ago = 10 * 365 * 86400 * 10**9
    rows = [(at(t) + i, joints(at(t) - ago, 'a', [t + i])) for t in range(5) for i in (7, 0)]
    sequence = load(tmp_path, {'/joints': rows}, 5, [at(t) - ago for t in range(5)], vectors={'q': '/joints'})
    np.testing.assert_allclose(sequence.vectors['q'][:, 0], [7, 8, 9, 10, 11])  # the last one received


def test_where_frames_have_no_stamps_everything_counts_by_the_bag(tmp_path):
    topics = {'/joints': [(at(t), joints(at(t) - 5 * 10**9, 'a', [t])) for t in range(5)]}
    sequence = load(tmp_path, topics, 5, [0] * 5, vectors={'q': '/joints'})
    np.testing.assert_allclose(sequence.vectors['q'][:, 0], range(5))


def test_classes_hold_until_the_next(tmp_path):
    String, Int32 = TYPES['std_msgs/msg/String'], TYPES['std_msgs/msg/Int32']
    topics = {
        '/task': [(at(1), String('pick')), (at(4), String('place')), (at(6), String(''))],
        '/phase': [(at(2), Int32(7))],
    }
    sequence = load(tmp_path, topics, 8, classes={'task': '/task', 'phase': '/phase', 'where': 'folder'})
    assert sequence.classes['task'].tolist() == ['', 'pick', 'pick', 'pick', 'place', 'place', '', '']
    assert set(load(tmp_path / 'b', topics, 8, classes={'kind': 'cls'}).classes['kind']) == {''}
    assert sequence.classes['phase'].tolist() == [''] * 2 + ['7'] * 6
    assert set(sequence.classes['where']) == {tmp_path.name}
    sampler = ClipSampler([sequence], SIZE, 8, STEP_NS / 1e9)
    (clip,) = sampler.clips(9.0)
    assert sampler.class_names['task'] == ['pick', 'place']
    assert clip.classes['task'].tolist() == [-1, 0, 0, 0, 1, 1, -1, -1]


def test_topics_that_are_not_there_or_not_understood_are_named(tmp_path, caplog):
    for number, (how, match) in enumerate(
        [
            ({'vectors': {'q': '/absent'}}, 'expected topic /absent'),
            ({'vectors': {'q': CAMERA}}, 'to be a JointState, Float64MultiArray'),
            (
                {'classes': {'c': CAMERA}},
                'to be a String or an integer, found sensor_msgs/msg/CompressedImage',
            ),
        ]
    ):
        with pytest.raises(RecordingError):
            load(tmp_path / str(number), {}, 3, **how)
        assert match in caplog.text


def test_recordings_with_and_without_vectors_and_classes_side_by_side(tmp_path):
    bag = write_bag(
        tmp_path / 'bag',
        {CAMERA: camera(6), '/joints': [(at(t), joints(at(t), 'ab', [t, t])) for t in range(6)]},
    )
    video = (
        write_video(tmp_path / 'videos' / 'video.mp4', 6) if (tmp_path / 'videos').mkdir() is None else None
    )
    sequences = load_sequences(
        [bag, video],
        SIZE,
        tmp_path / 'cache',
        progress=False,
        vectors={'q': '/joints'},
        classes={'place': 'folder'},
    )
    sampler = ClipSampler(sequences, SIZE, 4, STEP_NS / 1e9)
    first, second = sampler.clips(9.0)
    np.testing.assert_allclose(first.vectors['q'][:, 0], range(4))
    assert second.vectors['q'].shape == (4, 2) and np.isnan(second.vectors['q']).all()
    assert sampler.class_names == {'place': sorted([tmp_path.name, 'videos'])}
    assert first.classes['place'].tolist() != second.classes['place'].tolist()
    fewer = ClipSampler(sequences[1:], SIZE, 4, STEP_NS / 1e9, names=class_names(sequences))
    assert next(fewer.clips(9.0)).classes['place'].tolist() == second.classes['place'].tolist()


def test_a_topic_that_holds_nothing_says_as_much_as_none(tmp_path):
    full = {'/joints': [(at(t), joints(at(t), 'ab', [t, t])) for t in range(6)]}
    bags = [write_bag(tmp_path / name, {CAMERA: camera(6), **topics}) for name, topics in (('a', {'/joints': [(at(0), joints(at(0), '', []))]}), ('b', full))]
    found = load_sequences(bags, SIZE, tmp_path / 'cache', progress=False, vectors={'q': '/joints'})
    first, second = ClipSampler(found, SIZE, 4, STEP_NS / 1e9).clips(9.0)
    assert np.isnan(first.vectors['q']).all() and first.vectors['q'].shape == second.vectors['q'].shape == (4, 2)


def test_vectors_of_different_lengths_are_refused(tmp_path):
    pair = [
        load(
            tmp_path / name,
            {'/joints': [(at(0), joints(at(0), name, [0.0] * len(name)))]},
            vectors={'q': '/joints'},
        )
        for name in ('ab', 'abc')
        if (tmp_path / name).mkdir() is None
    ]
    with pytest.raises(
        ClipError, match='expected 2 elements in vector q as in the recordings before, found 3'
    ):
        ClipSampler(pair, SIZE, 2, STEP_NS / 1e9)


@given(
    st.lists(st.integers(1, 10**9), min_size=2, max_size=20),
    st.lists(st.integers(-(10**9), 2 * 10**10), max_size=20),
)
def test_interpolation_is_exact_on_lines_and_knows_its_limits(steps, wanted):
    times = np.cumsum(steps)
    usual = np.median(np.diff(times))
    table = np.stack([times / 1e9, 3 - times / 1e9], 1)
    wanted = np.array([*wanted, *times], np.int64)
    out = signals._at(wanted, times, table, 'linear', [])
    np.testing.assert_allclose(out[-len(times) :], table)
    known = ~np.isnan(out[:, 0])
    distance = np.abs(wanted[:, None] - times).min(1)
    inside = (wanted >= times[0]) & (wanted <= times[-1])
    assert known[distance == 0].all() and not known[~inside & (distance > usual / 2)].any()
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    wide = (times[after] - times[after - 1]) > signals.LONGEST_STEP * usual
    assert not known[inside & wide & (distance > usual / 2)].any()
    assert known[inside & ~wide].all()
    line = inside & known & ~wide
    np.testing.assert_allclose(out[line, 0], wanted[line] / 1e9, atol=1e-9)


@pytest.mark.shared_data
def test_a_real_arm(tmp_path):
    """18 episodes of 10 steps at 5 Hz, 2 s apart: no clip crosses, and states are those of its own frames."""
    (sequence,) = load_sequences(
        [shared_data() / 'bags' / 'bridge_dev18_mcap'],
        SIZE,
        tmp_path,
        topic='/cam0/image_raw/compressed',
        vectors={'ee': '/ee_state'},
        classes={'task': '/instruction'},
        progress=False,
    )
    ee = sequence.vectors['ee']
    assert ee.shape == (180, 7) and not np.isnan(ee).any()
    sampler = ClipSampler(
        [sequence], SIZE, 8, 0.2, jitter=0.2, drop=0.1, augment=Augment(flip=False), max_gap=1.0
    )
    assert len(sampler) == 18 * 3 and len(sampler.class_names['task']) > 1
    for index in range(60):
        clip = sampler.sample(np.random.default_rng([0, index]))
        assert clip.times[-1] < 2.0 and len(set(clip.classes['task'].tolist())) == 1
        states = clip.vectors['ee']
        first = np.flatnonzero((ee == states[0]).all(1))[0]
        assert first // 10 == np.flatnonzero((ee == states[-1]).all(1))[0] // 10
        actions = pose_differences(states)
        assert (
            actions.shape == (7, 7)
            and np.abs(actions[:, :3]).max() < 0.15
            and np.abs(actions[:, 3:6]).max() < 1.0
        )

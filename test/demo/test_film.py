# SPDX-License-Identifier: Apache-2.0
"""A film of a run that is known, from a bag that is written here."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from geometry_msgs.msg import Point, PointStamped, Pose, PoseStamped, PoseWithCovarianceStamped, Quaternion
from nav_msgs.msg import Path
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64MultiArray, Header, Int32, String

from jepa_ros.demo import film
from jepa_ros.demo.recorder import BagRecorder
from jepa_ros.demo.topics import PickingTopics, Topics
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.readout import Readout
from jepa_ros.latents import Futures, Latents, token_centres
from jepa_ros.nodes.messages import futures_message, image_message, latents_message, to_stamp
from jepa_ros.sim.hall import SimError

START_NS, WALL_NS, PERIOD = 1_000_000_000, 1_795_000_000_000_000_000, 50_000_000
TOPICS, NAMES = PickingTopics(), Topics()
TYPES = {
    NAMES.camera: 'sensor_msgs/msg/Image', NAMES.futures: 'sensor_msgs/msg/PointCloud2',
    NAMES.latents: 'sensor_msgs/msg/PointCloud2', TOPICS.camera_info: 'sensor_msgs/msg/CameraInfo',
    TOPICS.camera_pose: 'geometry_msgs/msg/PoseStamped', TOPICS.physics: 'std_msgs/msg/Float64MultiArray',
    TOPICS.handle: 'geometry_msgs/msg/PointStamped', TOPICS.path: 'nav_msgs/msg/Path',
    TOPICS.intercept: 'geometry_msgs/msg/PoseWithCovarianceStamped', TOPICS.state: 'std_msgs/msg/String',
    TOPICS.taken: 'std_msgs/msg/Int32',
}
LAST = 12  # frame up to which everything is said


def header(ns: int) -> Header:
    return Header(stamp=to_stamp(ns))


def messages(n: int, model: int):
    """What is published of a frame, in its order; a camera that looks along y at a plane 2 m away."""
    ns = START_NS + n * PERIOD
    yield NAMES.camera, image_message(np.full((60, 80, 3), 10 * n, np.uint8), ns, 'lens')
    yield TOPICS.camera_info, CameraInfo(header=header(ns), width=80, height=60,
                                         k=[80.0, 0.0, 40.0, 0.0, 80.0, 30.0, 0.0, 0.0, 1.0])
    half = float(np.sqrt(0.5))
    looks = Pose(position=Point(y=-2.0, z=1.0), orientation=Quaternion(x=-half, w=half))
    yield TOPICS.camera_pose, PoseStamped(header=header(ns), pose=looks)
    yield TOPICS.physics, Float64MultiArray(data=[ns / 1e9, 1.0, 2.0, float(n)])
    yield TOPICS.taken, Int32(data=n // 10)
    if n > LAST:
        return
    yield TOPICS.handle, PointStamped(header=header(ns), point=Point(x=0.5, y=0.25, z=0.0))
    centres = token_centres((6, 8))
    tokens = np.ones((2, 48, 16), np.float32)
    yield NAMES.futures, futures_message(Futures(ns, np.array([0.1, 0.4], np.float32), tokens, centres, model), 'lens')
    surprise = np.full(48, 0.5, np.float32)
    yield NAMES.latents, latents_message(Latents(ns, tokens[0], centres, surprise * 0, surprise, model), 'lens')
    yield TOPICS.state, String(data='tracking')
    poses = [PoseStamped(header=header(ns), pose=Pose(position=Point(x=x, z=1.0))) for x in (0.0, 0.5)]
    yield TOPICS.path, Path(header=header(ns), poses=poses)
    if n > 5:
        meet = PoseWithCovarianceStamped(header=header(ns + 400_000_000))
        meet.pose.pose.position = Point(x=0.25, z=1.0)
        yield TOPICS.intercept, meet


@pytest.fixture(scope='module')
def seen(tmp_path_factory, bundle):
    """The moments of such a bag."""
    recorder, model = BagRecorder(tmp_path_factory.mktemp('run') / 'bag'), Bundle.load(bundle).model_id
    for topic, kind in TYPES.items():
        recorder.add(topic, kind)
    arrived = WALL_NS
    for n in range(25):
        for topic, message in messages(n, model):
            arrived += 1_000_000
            recorder.write(topic, arrived, serialize_message(message))
    recorder.close()
    return list(film.moments(recorder.path, Readout.open(bundle)))


def test_every_frame_is_a_moment_with_what_is_true_of_it(seen):
    assert [moment.seconds for moment in seen] == pytest.approx([0.05 * n for n in range(25)])
    assert [int(moment.image[0, 0, 0]) for moment in seen] == [10 * n for n in range(25)]
    assert [moment.physics[-1] for moment in seen] == list(range(25))
    assert (seen[3].state, seen[3].surprise, seen[24].taken) == ('tracking', 0.5, 2)
    assert seen[3].handle == (0.5, 0.25, 0.0)


def test_what_is_expected_is_in_the_image(seen):
    moment = seen[8]
    assert moment.points.shape == (2, 2) and moment.covariances.shape == (2, 2, 2)
    # 2 m away, 80 px focal length: 0.5 m are 20 px of 80
    assert moment.path == pytest.approx(np.array([[0.5, 0.5], [0.75, 0.5]]))
    assert moment.intercept == pytest.approx([0.625, 0.5])
    assert len(seen[4].intercept) == 0, 'nothing was to be met yet'


def test_what_is_not_said_any_more_is_not_shown(seen):
    still, over = seen[LAST + 5], seen[LAST + 8]
    assert len(still.path) and len(still.points) and len(still.intercept) and still.handle
    assert not len(over.path) and not len(over.points) and not len(over.intercept) and over.handle is None


def test_of_a_long_run_the_time_up_to_the_last_pick_is_shown():
    every = [0.5 * n for n in range(201)]  # 100 s
    assert film.chosen(every[:41], []) == (0.0, 20.0)
    assert film.chosen(every, []) == (60.0, 100.0)
    assert film.chosen(every, [20.0, 70.0]) == (33.0, 73.0)
    assert film.chosen(every, [10.0]) == (0.0, 40.0)
    assert film.chosen([], []) == (0.0, 0.0)


def test_rotation_is_that_of_the_quaternion():
    half = np.sqrt(0.5)
    assert film.rotation(0, 0, half, half) == pytest.approx(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))


def test_an_ellipse_holds_nine_of_ten_points():
    covariance = np.array([[4.0, 1.5], [1.5, 1.0]])
    outline = film._ellipse(np.array([3.0, 5.0]), covariance)
    points = np.random.default_rng(0).multivariate_normal([3, 5], covariance, 4000)
    inside = [cv2.pointPolygonTest(outline.astype(np.float32), point, False) > 0 for point in points]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


@pytest.fixture(scope='module')
def painter():
    try:
        painter = film.Painter(20000, 'tiny, seed 20000')
        painter._cell.render()
    except SimError as missing:
        pytest.skip(str(missing))
    yield painter
    painter.close()


def test_the_film_is_h264_with_what_was_expected_drawn_in(seen, painter, tmp_path):
    shown = [replace(moment, physics=None) for moment in seen[6:9]]  # of another cell
    pictures = list(film.write_film(tmp_path / 'film.mp4', iter(shown), painter, 20.0))
    with av.open(str(tmp_path / 'film.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ('h264', 20)
        decoded = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    assert len(decoded) == 3 and decoded[0].shape == pictures[0].shape == (576, 1280, 3)
    assert np.abs(decoded[1].astype(int) - pictures[1]).mean() < 12
    seen_by_camera = pictures[1][:480, 640:]
    for colour in (film.PATH, film.MEET):
        assert (np.abs(seen_by_camera.astype(int) - colour).max(axis=2) < 30).sum() > 50, colour
    assert [path.name for path in tmp_path.iterdir()] == ['film.mp4'], 'nothing is left of the writing'


def test_a_snapshot_moves_what_is_drawn(seen, painter):
    snapshot = painter._cell.snapshot()
    first = painter.draw(replace(seen[8], physics=snapshot))[:480, :640].astype(int)
    moved = snapshot.copy()
    moved[0] += 0.3  # the belt's place along its way
    second = painter.draw(replace(seen[8], physics=moved))[:480, :640]
    painter._cell.show(snapshot)
    assert np.abs(first - second).max() > 20
    assert cv2.imdecode(np.frombuffer(film.poster(second), np.uint8), cv2.IMREAD_COLOR).shape == (720, 960, 3)

# SPDX-License-Identifier: Apache-2.0
"""
A camera made of a recording: publishes a video or the camera topic of a bag at its own pace.

Publishes ``~/image_raw`` (sensor_msgs/Image or CompressedImage: the topic has the type of what was recorded,
or that which ``image_transport`` asks for) and, with recorded stamps, ``/clock``.
"""

from __future__ import annotations

import threading

from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from jepa_ros.data.recordings import RecordedFrame, open_recording
from jepa_ros.errors import JepaError
from jepa_ros.images import ImageError, encode_jpeg
from jepa_ros.nodes.diagnostics import Health
from jepa_ros.nodes.lifecycle import ManagedNode, run
from jepa_ros.nodes.messages import byte_array, image_message, to_stamp
from jepa_ros.nodes.parameters import ParameterSpec
from jepa_ros.nodes.player import Player
from jepa_ros.paths import find_recording

PARAMETERS = (
    ParameterSpec('path', '', 'Video, bag (rosbag2 or ROS 1), or name of a shipped recording.', live=False),
    ParameterSpec('topic', '', 'Camera topic in the bag; empty: the only one there is.', live=False),
    ParameterSpec('image_transport', 'recorded', 'Publish messages as recorded, or raw or compressed images.',
                  choices=('recorded', 'raw', 'compressed'), live=False),
    ParameterSpec('rate', 1.0, 'Factor on the recorded rate.', '', 0.01, 100.0, live=False),
    ParameterSpec('stamps', 'now', 'Header stamps: present ones, or those recorded, with /clock made from '
                  'them: then the graph must run on use_sim_time.', choices=('now', 'recorded'), live=False),
    ParameterSpec('loop', False, 'Begin again at the end; else the node ends with exit code 0.', live=False),
    ParameterSpec('frame_id', '', 'frame_id of the images; empty: as recorded.', live=False),
    ParameterSpec('wait_for_subscribers', 1, 'Number of subscribers that the first frame waits for.',
                  '', 0, 100, live=False),
    ParameterSpec('wait_timeout', 10.0, 'How long it waits for them at most.', 's', 0.0, 3600.0, live=False),
)

#: Reliable, so that any subscriber matches; a slow one loses what is older than these.
QOS = QoSProfile(depth=5)
# The publisher knows of a subscriber before the subscriber knows of it; what is sent in between is lost.
SETTLE = 0.3


class CameraReplayNode(ManagedNode):
    """Publishes the frames of one recording."""

    must_start = True

    def __init__(self, name: str = 'camera', **kwargs):
        self._recording = self._player = self._image_publisher = self._clock_publisher = self._search = None
        self._subscribed = threading.Event()
        self._published = self._undecodable = 0
        super().__init__(name, PARAMETERS, **kwargs)

    def configure(self) -> None:
        if not self.parameters['path']:
            raise JepaError("parameter 'path' must name a video or a bag, got ''")
        recording = open_recording(find_recording(self.parameters['path']), self.parameters['topic'] or None)
        first = next(recording.frames(), None)
        if first is None:
            raise JepaError(f"expected frames in {recording.name}, found none{_because(recording.warnings)}")
        asked = self.parameters['image_transport']
        self._compressed = first.compressed if asked == 'recorded' else asked == 'compressed'
        kind = CompressedImage if self._compressed else Image
        self._image_publisher = self.create_publisher(kind, '~/image_raw', QOS)
        if self.parameters['stamps'] == 'recorded':
            self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        self._recording = recording
        self._published = self._undecodable = 0

    def activate(self) -> None:
        self._subscribed.clear()
        # rclpy has no event for a new subscriber that Humble knows too.
        self._search = self.create_timer(0.02, self._look_for_subscribers, clock=self.steady)
        self._player = Player(self._recording, self._prepare, self._publish, self._ended,
                              before_start=self._wait_for_subscribers, rate=self.parameters['rate'],
                              loop=self.parameters['loop'])
        self._player.start()

    def deactivate(self) -> None:
        if self._player is not None:
            self._subscribed.set()  # it may be waiting for that
            self._player.close()
            self._player = None
        self._stop_looking()

    def cleanup(self) -> None:
        for publisher in (self._image_publisher, self._clock_publisher):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._image_publisher = self._clock_publisher = self._recording = None

    def health(self) -> Health:
        health = Health()
        if self._recording is None:
            return health
        health.values.update({'recording': self._recording.name, 'frames': self._published,
                              'undecodable': self._undecodable})
        for warning in self._recording.warnings:
            health.warn(warning)
        if self._undecodable:
            health.warn(f'{self._undecodable} frames could not be converted and were left out')
        if self._player is not None:
            if self._player.stamp_fault:
                health.warn(self._stamp_warning())
            if self._player.late:
                health.values['late'] = self._player.late
                health.warn(f'{self._player.late} frames could not be made ready in time: lower the rate')
        return health

    def _look_for_subscribers(self) -> None:
        if self._image_publisher.get_subscription_count() >= self.parameters['wait_for_subscribers']:
            self._subscribed.set()
            self._stop_looking()

    def _stop_looking(self) -> None:
        if self._search is not None:
            self.destroy_timer(self._search)
            self._search = None

    # From the player's threads.

    def _wait_for_subscribers(self) -> bool:
        closing, asked = self._player.closing, self.parameters['wait_for_subscribers']
        if not self._subscribed.wait(self.parameters['wait_timeout']):
            self.get_logger().warning(
                f"{self._image_publisher.get_subscription_count()} of {asked} subscribers to "
                f"'{self._image_publisher.topic_name}' came within {self.parameters['wait_timeout']:g} s: "
                'starting all the same')
        elif asked:
            closing.wait(SETTLE)
        return not closing.is_set()

    def _prepare(self, frame: RecordedFrame) -> Image | CompressedImage | None:
        """Make the message, all but its stamp."""
        header = Header(frame_id=self.parameters['frame_id'] or frame.frame_id)
        try:
            if frame.compressed and self._compressed:
                return CompressedImage(header=header, format=frame.format, data=byte_array(frame.data))
            if self._compressed:
                jpeg = byte_array(encode_jpeg(frame.image()))
                return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=jpeg)
            if frame.compressed:
                return image_message(frame.image(), 0, header.frame_id)
        except ImageError as error:
            self._undecodable += 1
            self.get_logger().warning(f'a frame is left out: {error}', throttle_duration_sec=5.0)
            return None
        return Image(header=header, encoding=frame.encoding, height=frame.height, width=frame.width,
                     step=frame.step, is_bigendian=int(frame.is_bigendian), data=byte_array(frame.data))

    def _publish(self, message: Image | CompressedImage, recorded_ns: int) -> None:
        if not self._published and self._player.stamp_fault:
            self.get_logger().warning(self._stamp_warning())
        if self._clock_publisher is None:
            message.header.stamp = self.get_clock().now().to_msg()
        else:
            message.header.stamp = to_stamp(recorded_ns)
            if recorded_ns > 0:  # zero would mean that there is no time yet
                self._clock_publisher.publish(Clock(clock=message.header.stamp))
        self._image_publisher.publish(message)
        self._published += 1

    def _stamp_warning(self) -> str:
        return (f'the header stamps of {self._recording.name} {self._player.stamp_fault}: the times at which '
                'they were recorded are used instead')

    def _ended(self, fault: Exception | None) -> None:
        for warning in self._recording.warnings:
            self.get_logger().warning(warning)
        self._image_publisher.wait_for_all_acked(Duration(seconds=2))
        if fault is not None:
            self.get_logger().error(f'{self._recording.name} cannot be played on: {fault}')
        else:
            self.get_logger().info(f'{self._published} frames of {self._recording.name} published')
        self.finish(2 if fault is not None else 0)


def _because(warnings: list[str]) -> str:
    return ''.join(f' ({warning})' for warning in warnings)


def main(args: list[str] | None = None) -> int:
    """Run the node. :return: 0 at the end of the recording, 2 if it cannot be played."""
    return run(CameraReplayNode, args)


if __name__ == '__main__':
    raise SystemExit(main())

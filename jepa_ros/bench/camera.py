# SPDX-License-Identifier: Apache-2.0
"""
A camera process: a texture that moves, at a steady rate, until interrupted or for a number of frames.

Prints one line of JSON at its end: how many frames it sent.
"""

import argparse
import json
import sys
import threading
import time

import cv2
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from jepa_ros.images import encode_jpeg
from jepa_ros.nodes.messages import byte_array, image_message, to_stamp
from jepa_ros.nodes.transport import heard_at_once, prepare_process

TOPIC = '/camera/image_raw'
DISTINCT = 16  # frames that are made; then they repeat


def pictures(width: int, height: int) -> list[np.ndarray]:
    """Return RGB frames of a smooth texture with some noise: it compresses about as well as a real scene."""
    noise = np.random.default_rng(0)
    coarse = noise.integers(0, 255, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    scene = cv2.resize(coarse, (width + DISTINCT * 4, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    scene += noise.integers(-6, 7, scene.shape, np.int16)
    scene = np.clip(scene, 0, 255).astype(np.uint8)
    return [np.ascontiguousarray(scene[:, 4 * i:4 * i + width]) for i in range(DISTINCT)]


def messages(width: int, height: int, compressed: bool) -> list[Image | CompressedImage]:
    """Return the frames as messages whose stamps are still to be set."""
    images = [image_message(picture, 0, 'camera') for picture in pictures(width, height)]
    if not compressed:
        return images
    return [CompressedImage(header=message.header, format='rgb8; jpeg compressed bgr8',
                            data=byte_array(encode_jpeg(picture)))
            for message, picture in zip(images, pictures(width, height))]


def main(argv: list[str] | None = None) -> int:
    """Run the camera."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--size', default='640x480', help='WIDTHxHEIGHT')
    parser.add_argument('--rate', type=float, default=30.0)
    parser.add_argument('--frames', type=int, default=0, help='0: until interrupted')
    parser.add_argument('--compressed', action='store_true')
    parser.add_argument('--at-once', action='store_true', help='send although nobody has subscribed yet')
    args = parser.parse_args(argv)
    width, height = map(int, args.size.split('x'))
    prepare_process()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    with heard_at_once():
        node = rclpy.create_node('camera')
    frames = messages(width, height, args.compressed)
    publisher = node.create_publisher(type(frames[0]), TOPIC,
                                      QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    sent, stop = 0, threading.Event()
    print('ready', flush=True)
    try:
        while not args.at_once and not publisher.get_subscription_count():
            stop.wait(0.01)
        # The publisher knows of the subscriber first; what is sent before the other knows is lost.
        stop.wait(0.0 if args.at_once else 0.3)
        began = time.monotonic()
        while not args.frames or sent < args.frames:
            stop.wait(max(0.0, began + sent / args.rate - time.monotonic()))
            message = frames[sent % DISTINCT]
            message.header.stamp = to_stamp(node.get_clock().now().nanoseconds)
            publisher.publish(message)
            sent += 1
    except KeyboardInterrupt:
        pass
    print(json.dumps({'sent': sent}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""
A camera with plain rclpy, for tests: `raw_camera.py WIDTH HEIGHT COUNT` publishes 30 raw images per second,
best effort. Their stamps are exactly one period apart, as a camera's are, whatever keeps this process waiting.

It says `matched` when a reader is there, `sent` at the end, and leaves when its standard input closes.
"""

import array
import sys
import time

import rclpy
from rclpy.duration import Duration
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image


def main():
    width, height, count = map(int, sys.argv[1:])
    rclpy.init()
    node = rclpy.create_node('camera')
    publisher = node.create_publisher(Image, 'camera/image_raw', qos_profile_sensor_data)
    while not publisher.get_subscription_count():
        time.sleep(0.01)
    print('matched')
    pixels = array.array('B', bytes(3 * width * height))
    message = Image(encoding='rgb8', width=width, height=height, step=3 * width, data=pixels)
    began, start = time.monotonic(), node.get_clock().now()
    for index in range(count):
        time.sleep(max(0.0, began + index / 30 - time.monotonic()))
        message.header.stamp = (start + Duration(nanoseconds=round(index * 1e9 / 30))).to_msg()
        message.header.frame_id = str(index)
        publisher.publish(message)
    print('sent')
    sys.stdin.read()
    rclpy.try_shutdown()


main()

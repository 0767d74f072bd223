# SPDX-License-Identifier: Apache-2.0
"""
What any Python node pays: a bare rclpy subscriber with perception's settings that receives frames and does
nothing.

Prints one line of JSON at its end: that of Meter, and how many whole frames came.
"""

import argparse
import json
import sys

import rclpy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from jepa_ros.bench.camera import TOPIC
from jepa_ros.bench.meter import Meter
from jepa_ros.nodes.camera import QOS
from jepa_ros.nodes.transport import heard_at_once, prepare_process


def main(argv: list[str] | None = None) -> int:
    """Run the subscriber until interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--compressed', action='store_true')
    args = parser.parse_args(argv)
    prepare_process()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    with heard_at_once():
        node = rclpy.create_node('peer')
    meter, whole = Meter(), 0

    def arrived(message: Image | CompressedImage) -> None:
        nonlocal whole
        meter.tick()
        whole += args.compressed or len(message.data) == message.step * message.height

    node.create_subscription(CompressedImage if args.compressed else Image, TOPIC, arrived, QOS)
    try:
        while True:
            rclpy.spin_once(node, timeout_sec=0.5)
    except KeyboardInterrupt:
        pass
    print(json.dumps({**json.loads(meter.line()), 'whole': whole}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())

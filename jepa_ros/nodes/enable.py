# SPDX-License-Identifier: Apache-2.0
"""Enable a controller as soon as it is active: ``python -m jepa_ros.nodes.enable /controller``."""

from __future__ import annotations

import sys

import rclpy
from std_srvs.srv import SetBool

ANSWER = 5.0  # s that an answer may take
AGAIN = 0.25  # s after a call that was refused


def main(args: list[str] | None = None) -> int:
    """
    Call the controller's ``~/enable`` until it agrees.

    :param args: full name of the controller.
    :return: exit code.
    """
    (controller,) = sys.argv[1:] if args is None else args
    name = '/'.join(['', *filter(None, controller.split('/')), 'enable'])
    rclpy.init(args=[])
    try:
        node = rclpy.create_node('enable_controller', enable_rosout=False, start_parameter_services=False)
        client = node.create_client(SetBool, name)
        while True:
            client.wait_for_service()
            answer = client.call_async(SetBool.Request(data=True))
            rclpy.spin_until_future_complete(node, answer, timeout_sec=ANSWER)
            if answer.done() and answer.result().success:
                return 0
            client.remove_pending_request(answer)
            if answer.done():  # it said no: it is not active yet
                rclpy.spin_once(node, timeout_sec=AGAIN)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()


if __name__ == '__main__':
    raise SystemExit(main())

# SPDX-License-Identifier: Apache-2.0
"""What the rooms below the nodes log with Python's logging appears in the log of ROS."""

import logging


class RosHandler(logging.Handler):
    """Passes records on to a node's logger."""

    def __init__(self, logger):
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        # rclpy allows one severity per line of code
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        else:
            self._logger.info(message)


def forward_logging(logger) -> None:
    """
    Send what jepa_ros logs, from INFO on, to a node's logger, and no longer to that of an earlier node.

    :param logger: of rclpy
    """
    package = logging.getLogger('jepa_ros')
    for handler in [handler for handler in package.handlers if isinstance(handler, RosHandler)]:
        package.removeHandler(handler)
    package.addHandler(RosHandler(logger))
    package.setLevel(logging.INFO)

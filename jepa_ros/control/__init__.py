# SPDX-License-Identifier: Apache-2.0
"""The controller's law and watchdog, free of ROS: the node and the lockstep benchmark run the same code."""

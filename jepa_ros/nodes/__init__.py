# SPDX-License-Identifier: Apache-2.0
"""Thin ROS 2 nodes over the rooms below: perception, controller and camera replay."""

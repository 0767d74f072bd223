# SPDX-License-Identifier: Apache-2.0
"""The configurations of viewers that ship: which topics they show, and those topics under other names."""

from __future__ import annotations

import re
from pathlib import Path

from jepa_ros.nodes.graph import IMAGE_TOPIC
from jepa_ros.paths import share_directory


def rviz_view() -> Path:
    """:return: RViz's configuration for the conveyor graph without a namespace."""
    return share_directory() / 'config' / 'rviz' / 'conveyor_picking.rviz'


def foxglove_layout() -> Path:
    """:return: Foxglove's layout for the same."""
    return share_directory() / 'config' / 'foxglove' / 'conveyor_picking.json'


def renamed(view: str, namespace: str, image_topic: str) -> str:
    """
    :param view: an RViz configuration for the graph without a namespace; RViz knows no remapping of it.
    :param namespace: of the graph; '' for none.
    :param image_topic: of the camera; '' for the default.
    :return: it with the topics as they are called then.
    """
    prefix = ''.join(f'/{part}' for part in namespace.split('/') if part)
    image = image_topic if image_topic.startswith('/') else f'{prefix}/{image_topic or IMAGE_TOPIC}'
    view = re.sub(rf'(?<=Value: )/{IMAGE_TOPIC}\b', image, view)
    return re.sub(r'(?<=Value: )/(?=(perception|controller|conveyor_sim)/)', f'{prefix}/', view)

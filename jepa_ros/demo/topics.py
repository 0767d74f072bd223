# SPDX-License-Identifier: Apache-2.0
"""The topics of the graph that the demo looks into, under their full names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topics:
    """Names as jepa_ros.nodes.graph gives them without a namespace."""

    camera: str = '/camera/image_raw'
    latents: str = '/perception/latents'
    futures: str = '/perception/futures'
    twist: str = '/controller/twist'
    target: str = '/controller/target'

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


@dataclass(frozen=True)
class PickingTopics:
    """Those that the picking cell has besides. Of the simulator they are true, and for the report alone."""

    clock: str = '/clock'
    path: str = '/controller/handle_path'
    intercept: str = '/controller/intercept'
    state: str = '/controller/state'
    camera_info: str = '/camera/camera_info'
    camera_pose: str = '/conveyor_sim/camera_pose'
    physics: str = '/conveyor_sim/physics'
    handle: str = '/conveyor_sim/handle'
    handle_pose: str = '/conveyor_sim/handle_pose'
    taken: str = '/conveyor_sim/taken'
    event: str = '/conveyor_sim/event'
    bin_state: str = '/conveyor_sim/state'
    belt: str = '/conveyor_sim/belt'

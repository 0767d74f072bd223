# SPDX-License-Identifier: Apache-2.0
"""What is true at a frame as messages of standard types, for bags and for nodes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.truth import CameraModel, Pose, Truth
from jepa_ros.sim.world import BELT_TOP

HANDLE_TOPIC = '/sim/handle'
KINDS = {
    'String': 'std_msgs/msg/String',
    'Int32': 'std_msgs/msg/Int32',
    'Float32': 'std_msgs/msg/Float32',
    'Float64MultiArray': 'std_msgs/msg/Float64MultiArray',
    'PointStamped': 'geometry_msgs/msg/PointStamped',
    'PoseStamped': 'geometry_msgs/msg/PoseStamped',
    'TwistStamped': 'geometry_msgs/msg/TwistStamped',
    'JointState': 'sensor_msgs/msg/JointState',
}


@dataclass(frozen=True)
class Label:
    """One message, without its stamp.

    :param topic: of it.
    :param kind: one of KINDS.
    :param value: of the message: a str, a number or numbers; of a PoseStamped a `truth.Pose`, of a JointState
        names, positions and velocities.
    :param frame_id: of its header, where it has one.
    """

    topic: str
    kind: str
    value: object
    frame_id: str = ''


def labels(cell: ConveyorCell) -> list[Label]:
    """Return the labels of the current frame.

    /sim/handle: x, y in 0..1 of the image, z 1 visible, 0 hidden; left out while it is not in the picture.
    All else comes with every frame: /sim/grasp (how the bar is turned, see `grasp`), /sim/handle_pose, /sim/camera_pose
    (world), /sim/handle_in_camera, /sim/foot_in_camera (the place on the belt straight below the handle),
    /sim/visibility (share of the grip bar), /sim/bins (how many can be seen), /sim/category and /sim/colour
    (of these, from left to right), /sim/state (of the bin), /sim/belt, /sim/contact, /sim/event (since the
    frame before), /sim/action, /sim/violation, /sim/taken (how many so far); several are joined with a comma,
    none is 'none'. Of the arm: /joint_states, /arm/tool (world), /arm/twist (in force, along the world's
    axes), /arm/gripper (travel of each finger, m).
    """
    truth, camera = cell.truth(), cell.camera()
    optical = camera.frame_id

    def text(topic: str, *values: str) -> Label:
        return Label(f'/sim/{topic}', 'String', ','.join(values) or 'none')

    point = (
        []
        if truth.xy is None
        else [Label(HANDLE_TOPIC, 'PointStamped', (*map(float, truth.xy), float(truth.visible)), optical)]
    )
    joints = cell.joint_names, cell.joint_positions, cell.joint_velocities
    return [
        *point,
        Label('/sim/grasp', 'Float64MultiArray', grasp(truth.handle)[:2]),
        Label('/sim/handle_pose', 'PoseStamped', truth.handle, 'world'),
        Label('/sim/handle_in_camera', 'PoseStamped', truth.handle_in_camera, optical),
        Label('/sim/foot_in_camera', 'PoseStamped', foot_in_camera(truth, camera), optical),
        Label('/sim/camera_pose', 'PoseStamped', camera.pose, 'world'),
        Label('/sim/visibility', 'Float32', float(truth.visibility)),
        Label('/sim/bins', 'Int32', len(truth.bins)),
        text('category', *(shape for shape, _ in truth.bins)),
        text('colour', *(colour for _, colour in truth.bins)),
        text('state', truth.state),
        text('belt', truth.belt),
        text('contact', truth.contact),
        text('event', *truth.events),
        text('action', *([cell.policy.action] if cell.policy else [])),
        text('violation', *([truth.violation] if truth.violation else [])),
        Label('/sim/taken', 'Int32', cell.taken),
        Label('/joint_states', 'JointState', joints),
        Label('/arm/tool', 'PoseStamped', cell.tool, 'world'),
        Label('/arm/twist', 'TwistStamped', tuple(map(float, cell.twist)), 'world'),
        Label('/arm/gripper', 'Float64MultiArray', (cell.opening,)),
    ]


def foot_in_camera(truth: Truth, camera: CameraModel) -> Pose:
    """
    Return the place on the belt straight below the handle in the camera's optical frame, as the handle is turned.

    How far a handle is from it in the picture tells how high the handle is to whoever knows the camera, and can be
    learned from pictures of cameras that are not all alike; metres cannot.
    """
    below = np.array([*truth.handle.position[:2], BELT_TOP])
    return Pose(camera.to_camera(below), truth.handle_in_camera.rotation)


def grasp(handle: Pose) -> tuple[float, float, float]:
    """Return what a gripper has to know besides where the handle is in the picture.

    :param handle: its pose in the world, x along the bar.
    :returns: (cos 2ψ, sin 2ψ, h): ψ the angle from the belt's direction to the bar, of which there is no telling
        one end from the other, and h the bar's height above the belt, m.
    """
    along = handle.rotation[:, 0]
    twice = 2 * np.arctan2(along[1], along[0])
    return float(np.cos(twice)), float(np.sin(twice)), float(handle.position[2] - BELT_TOP)

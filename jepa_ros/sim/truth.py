# SPDX-License-Identifier: Apache-2.0
"""What is true at a frame: the labels of a recording, and what perception and controllers are measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONTACTS = ('none', 'onset', 'contact')
BELT_STATES = ('running', 'stopped', 'reversed')
# touched: by the manipulator; held: in the gripper and lifted; taken: held for long enough
BIN_STATES = ('absent', 'riding', 'touched', 'held', 'taken', 'tipped')
EVENTS = (
    'started',
    'stopped',
    'reversed',
    'entered',
    'left',
    'nudged',
    'turned',
    'contact',
    'taken',
    'tipped',
)


@dataclass(frozen=True)
class Pose:
    """A place and an orientation.

    :param position: float64 [3], m.
    :param rotation: float64 [3, 3], its axes as columns.
    """

    position: np.ndarray
    rotation: np.ndarray

    @property
    def quaternion(self) -> np.ndarray:
        """float64 [4]: x, y, z, w, as in geometry_msgs."""
        m = self.rotation
        # the largest of the four squares gives the divisor: the others may vanish
        squares = np.array(
            [
                1 + m[0, 0] - m[1, 1] - m[2, 2],
                1 - m[0, 0] + m[1, 1] - m[2, 2],
                1 - m[0, 0] - m[1, 1] + m[2, 2],
                1 + m[0, 0] + m[1, 1] + m[2, 2],
            ]
        )
        i = int(np.argmax(squares))
        q = np.array(
            [
                [squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
                [m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
                [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]],
                [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
            ]
        )[i]
        return q / np.linalg.norm(q)


@dataclass(frozen=True)
class CameraModel:
    """The camera, with the fields of sensor_msgs/CameraInfo, and where it is.

    :param height, width: px.
    :param k: float64 [3, 3], the pinhole matrix, px.
    :param position: float64 [3] in the world, m.
    :param rotation: float64 [3, 3], axes of the optical frame in the world, as columns.
    :param frame_id: of the optical frame: x right, y down, z forward.
    :param distortion_model: its name; there is no distortion.
    """

    height: int
    width: int
    k: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    frame_id: str = 'camera_optical_frame'
    distortion_model: str = 'plumb_bob'

    @property
    def d(self) -> np.ndarray:
        """Coefficients of the distortion, float64 [5]: zeros."""
        return np.zeros(5)

    @property
    def r(self) -> np.ndarray:
        """Rectification, float64 [3, 3]: identity."""
        return np.eye(3)

    @property
    def p(self) -> np.ndarray:
        """Projection, float64 [3, 4], px."""
        return np.hstack([self.k, np.zeros((3, 1))])

    @property
    def pose(self) -> Pose:
        """Of the optical frame in the world."""
        return Pose(self.position, self.rotation)

    def to_camera(self, point: np.ndarray) -> np.ndarray:
        """Return a world point (m) in the optical frame, float64 [3]."""
        return self.rotation.T @ (point - self.position)

    def to_image(self, point: np.ndarray) -> np.ndarray | None:
        """Return the place of a world point in the picture, float64 [2], 0..1; None where it is not in it."""
        x, y, z = self.to_camera(point)
        if z <= 0:
            return None
        xy = (self.k @ (x, y, z))[:2] / z / (self.width, self.height)
        return xy if np.all((xy >= 0) & (xy < 1)) else None

    def ray(self, xy: np.ndarray) -> np.ndarray:
        """Return the direction in the world, of length one, in which a place of the picture (0..1) lies."""
        u, v = np.asarray(xy) * (self.width, self.height)
        direction = self.rotation @ np.linalg.solve(self.k, (u, v, 1.0))
        return direction / np.linalg.norm(direction)


@dataclass(frozen=True)
class Truth:
    """What is true at one frame.

    :param stamp_ns: of the frame.
    :param handle: pose of the handle in the world: x along the bar, z up from the bin.
    :param handle_velocity: float64 [3], m/s in the world.
    :param handle_in_camera: the pose in the camera's optical frame.
    :param xy: float64 [2], place of the handle in the picture, 0..1; None outside of it.
    :param visibility: share of the grip bar that can be seen, 0..1; 0 outside of the picture.
    :param visible: whether that is enough to call it visible.
    :param bins: (shape, colour) of every bin of which something can be seen, from left to right.
    :param target: (shape, colour) of the bin that the handle belongs to.
    :param state: of this bin, one of BIN_STATES ('absent': out of the picture and not touched).
    :param belt: one of BELT_STATES.
    :param contact: of the manipulator with any bin, one of CONTACTS.
    :param events: of EVENTS, what happened since the frame before.
    :param violation: '' or which law was broken, from the frame on in which it was.
    """

    stamp_ns: int
    handle: Pose
    handle_velocity: np.ndarray
    handle_in_camera: Pose
    xy: np.ndarray | None
    visibility: float
    visible: bool
    bins: tuple[tuple[str, str], ...]
    target: tuple[str, str]
    state: str
    belt: str
    contact: str
    events: tuple[str, ...]
    violation: str

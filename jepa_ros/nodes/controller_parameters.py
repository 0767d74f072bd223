# SPDX-License-Identifier: Apache-2.0
"""The parameters of what the controller can do, with the defaults of the laws' settings, and how they go together."""

from __future__ import annotations

import numpy as np

from jepa_ros.control.follower import FollowerSettings
from jepa_ros.control.picking import PickSettings
from jepa_ros.control.servo import ServoSettings
from jepa_ros.control.watchdog import WatchdogSettings
from jepa_ros.nodes.parameters import ParameterError, ParameterSpec

_SERVO, _WATCHDOG, _FOLLOWER = ServoSettings(), WatchdogSettings(), FollowerSettings()
_PICK = PickSettings()
_ARM, _TRACK, _MOTION = _PICK.arm, _PICK.track, _PICK.track.motion
_PLACE = 100.0  # m, limit of places

SHARED = (
    ParameterSpec('horizon', _FOLLOWER.horizon, 'How far ahead to aim: the delay from command to motion.',
                  's', 0.0, 10.0),
    ParameterSpec('gain', _SERVO.gain, 'Share of the remaining error that is closed per second.',
                  '1/s', 0.0, 20.0),
    ParameterSpec('max_speed', _SERVO.max_speed, 'Limit of the commanded speed.', 'm/s', 0.001, 10.0),
    ParameterSpec('max_acceleration', _SERVO.max_acceleration, "Limit of the command's change.",
                  'm/s^2', 0.001, 100.0),
    ParameterSpec('max_age', _WATCHDOG.max_age, 'Oldest futures acted on, by their stamp.', 's', 0.01, 10.0),
    ParameterSpec('max_silence', _WATCHDOG.max_silence, 'Longest time without a message, on a steady clock.',
                  's', 0.01, 10.0),
    ParameterSpec('max_future', _WATCHDOG.max_future, 'How far a stamp may lie in the future.',
                  's', 0.0, 10.0),
    ParameterSpec('max_surprise', _FOLLOWER.max_surprise, 'Largest mean surprise acted on (0 as foreseen, '
                  'about 2 unrelated); 0: not watched, the latents are not needed.', '', 0.0, 1000.0),
    ParameterSpec('gripper_open', [], 'Command that opens the gripper, one number per joint; empty: none.',
                  '', -1000.0, 1000.0),
    ParameterSpec('gripper_closed', [], 'Command that closes the gripper.', '', -1000.0, 1000.0),
)

FOLLOW = (
    ParameterSpec('target', list(_SERVO.target), 'Where the point is to be: x and y, 0..1 of the image.',
                  '', -1.0, 2.0),
    ParameterSpec('view_extent', list(_SERVO.view_extent), "Width and height seen at the object's distance.",
                  'm', 0.001, 1000.0),
    ParameterSpec('feed_forward', _SERVO.feed_forward, "Share of the point's velocity that is added. A "
                  'camera moved by the command sees it move: keep feed_forward + gain * (horizon + age) < 1.',
                  '', 0.0, 1.0),
    ParameterSpec('max_deviation', _FOLLOWER.max_deviation, 'Largest standard deviation of a point acted on.',
                  'of the image', 0.0, 10.0),
    ParameterSpec('grasp_radius', _FOLLOWER.grasp_radius, 'The gripper closes nearer to the target than '
                  'this; 0: never.', 'm', 0.0, 10.0),
)

PICK = (
    ParameterSpec('camera_position', [], "Of the camera's optical frame, in the frame of the tool's pose; "
                  'empty: from the topic camera_pose.', 'm', -_PLACE, _PLACE, live=False),
    ParameterSpec('camera_rotation', [], 'Of the same, a quaternion x, y, z, w.', '', -1.0, 1.0, live=False),
    ParameterSpec('rectified', False, 'Whether the image was rectified, as image_proc does it: then P of the '
                  'camera_info describes it and its distortion is no matter; else K, and it must have none.'),
    ParameterSpec('belt_height', _TRACK.belt_height, "z of the belt's top.", 'm', -_PLACE, _PLACE),
    ParameterSpec('belt_yaw', _TRACK.belt_yaw, 'Direction in which the belt runs, from x of the frame.',
                  'rad', -np.pi, np.pi),
    ParameterSpec('lane', list(_TRACK.lane), 'Where across the belt handles ride, to the left of the origin of '
                  'the frame, and the standard deviation of that, generously.', 'm', -_PLACE, _PLACE),
    ParameterSpec('handle_height', _TRACK.handle_height, 'Of handles above the belt; a bundle may know better.',
                  'm', 0.0, 10.0),
    ParameterSpec('handle_spread', _TRACK.handle_spread, 'Standard deviation of that, generously.', 'm', 0.0, 10.0),
    ParameterSpec('handle_yaw', _TRACK.handle_yaw, "Of a handle's bar from the belt's direction, where the "
                  'bundle does not say it.', 'rad', -np.pi, np.pi),
    ParameterSpec('belt_speed', list(_MOTION.belt_speed), "Mean and standard deviation of a belt's speed before anything "
                  'was seen of it.', 'm/s', -10.0, 10.0),
    ParameterSpec('restless', _MOTION.restless, 'How readily a belt changes its speed: spectral density of the '
                  'acceleration.', 'm^2/s^3', 1e-6, 100.0),
    ParameterSpec('alike', _MOTION.alike, 'Time in which the errors of futures become others.', 's', 0.001, 60.0),
    ParameterSpec('caution', _MOTION.caution, 'Variance of the error that every path has of its own besides, in '
                  'units of what it claims.', '', 0.0, 1000.0),
    ParameterSpec('gate', _TRACK.gate, 'Futures that deviate more from those before are put aside at first.',
                  'standard deviations', 0.1, 1000.0),
    ParameterSpec('doubt', _TRACK.doubt, 'For how long height, yaw and place across the belt must deviate, before it '
                  'is another bin, or was turned.', 's', 0.0, 60.0),
    ParameterSpec('memory', _TRACK.memory, 'For how long without futures a handle is remembered.', 's', 0.001, 60.0),
    ParameterSpec('workspace', list(_ARM.workspace), 'First and last place along the belt, from where the '
                  'frame has its origin, at which handles are taken.', 'm', -_PLACE, _PLACE),
    ParameterSpec('base', list(_ARM.base), 'x and y of the axis about which the arm turns.',
                  'm', -_PLACE, _PLACE),
    ParameterSpec('reach', list(_ARM.reach), 'Smallest and largest distance of the tool from it.',
                  'm', 0.0, _PLACE),
    ParameterSpec('wrist', _ARM.wrist, 'By how much the hand can be turned from how the arm points, either way.',
                  'rad', np.pi / 2, 2 * np.pi),
    ParameterSpec('home', list(_PICK.home), 'Where the tool waits.', 'm', -_PLACE, _PLACE),
    ParameterSpec('hover', _PICK.hover, 'How far above the handle the tool waits for it.', 'm', 0.0, 10.0),
    ParameterSpec('depth', _PICK.depth, 'How far below the axis of the bar the gripper closes.', 'm', 0.0, 1.0),
    ParameterSpec('touch', _PICK.touch, 'How far above the axis of the bar the tool is when its fingers stand on '
                  'the bar.', 'm', 0.0, 1.0),
    ParameterSpec('lift', _PICK.lift, 'How far a bin is lifted.', 'm', 0.0, 10.0),
    ParameterSpec('hold', _PICK.hold, 'For how long it is held there.', 's', 0.0, 1000.0),
    ParameterSpec('place', list(_PICK.place), 'Where bins are put down; empty: they are held for good.',
                  'm', -_PLACE, _PLACE),
    ParameterSpec('closing_time', _PICK.closing_time, 'For how long the gripper closes before it lifts.',
                  's', 0.0, 10.0),
    ParameterSpec('min_opening', _PICK.min_opening, 'Of a closed gripper that holds something, as '
                  'joint_states has it.', '', -1000.0, 1000.0),
    ParameterSpec('gripper_joints', 'finger_left,finger_right', 'Joints whose mean is the opening, with '
                  'commas; empty: it is not watched.'),
    ParameterSpec('max_turn', _PICK.max_turn, 'Limit of the turning speed.', 'rad/s', 0.001, 100.0),
    ParameterSpec('max_error', _PICK.max_error, "Largest standard deviation of the handle's place acted on.",
                  'm', 0.0, 10.0),
    ParameterSpec('patience', _PICK.patience, 'For how long an attempt goes on in doubt.', 's', 0.0, 10.0),
)

LENGTHS = {'target': (2,), 'view_extent': (2,), 'lane': (2,), 'belt_speed': (2,), 'workspace': (2,), 'base': (2,),
           'reach': (2,), 'home': (3,), 'place': (0, 3), 'camera_position': (0, 3), 'camera_rotation': (0, 4)}
NUMBERS = {0: 'none', 2: 'two numbers', 3: 'three numbers', 4: 'four numbers'}


def check(value) -> None:
    """
    Check parameters against each other.

    :param value: gives the value of a parameter by its name.
    :raises ParameterError: they do not go together.
    """
    for name, lengths in LENGTHS.items():
        if len(value(name)) not in lengths:
            wanted = ' or '.join(NUMBERS[length] for length in lengths)
            raise ParameterError(f"parameter '{name}' must have {wanted}, got {list(value(name))}")
    if len(value('gripper_open')) != len(value('gripper_closed')):
        raise ParameterError("parameters 'gripper_open' and 'gripper_closed' must be of one length, got "
                             f"{list(value('gripper_open'))} and {list(value('gripper_closed'))}")
    for name in ('workspace', 'reach'):
        first, last = value(name)
        if not first < last:
            raise ParameterError(f"parameter '{name}' must ascend, got {[first, last]}")
    if bool(value('camera_position')) != bool(value('camera_rotation')):
        raise ParameterError("parameters 'camera_position' and 'camera_rotation' must be given both or "
                             'neither')
    if value('task') == 'pick' and not value('gripper_open'):
        raise ParameterError("task 'pick' needs the parameters 'gripper_open' and 'gripper_closed'")

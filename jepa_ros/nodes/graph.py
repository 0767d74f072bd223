# SPDX-License-Identifier: Apache-2.0
"""The graph: nodes, names, parameters, remappings; read by the launch files and ``jepa demo``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from jepa_ros.camera_topics import info_topic
from jepa_ros.control.picking import PickSettings
from jepa_ros.paths import find_config
from jepa_ros.sim.arm import Station

PACKAGE = 'jepa_ros'
IMAGE_TOPIC = 'camera/image_raw'  # what a camera node named `camera` publishes, and perception's default
#: Where the picking controller finds and leaves what it shares with a robot, by its own names. The simulator's:
SIMULATED = {
    'camera_pose': 'conveyor_sim/camera_pose', 'tool': 'conveyor_sim/tool', 'joint_states': 'joint_states',
    '~/twist': 'controller/twist', '~/gripper': 'controller/gripper',
}
#: Where the simulator's bins are put down, m: the rack of a station in the middle of where they are drawn.
RACK = Station(0.80, -0.54, 0.0).rack.tolist()
#: Those of a robot with MoveIt Servo and a forward command controller, as far as these have names for them.
ROBOT = {
    'camera_pose': 'camera/pose', 'tool': 'tool', 'joint_states': 'joint_states',
    '~/twist': 'servo_node/delta_twist_cmds', '~/gripper': 'gripper_controller/commands',
}


@dataclass(frozen=True)
class NodeSpec:
    """
    One node of the graph.

    :param executable: its name in the package, and that of its module in ``jepa_ros.nodes``.
    :param name: name of the node.
    :param namespace: '' for none.
    :param parameters: those that are set over the files, by name; floats must be floats.
    :param parameter_files: YAML files, the later over the earlier.
    :param remappings: pairs of names, relative to the namespace.
    :param log_level: debug, info, warn, error or fatal.
    """

    executable: str
    name: str
    namespace: str = ''
    parameters: dict = field(default_factory=dict)
    parameter_files: tuple[Path, ...] = ()
    remappings: tuple[tuple[str, str], ...] = ()
    log_level: str = 'info'

    @property
    def ros_arguments(self) -> list[str]:
        """The log level, for this node's logger alone: that of the middleware would drown it."""
        logger = '.'.join(part for part in (*self.namespace.split('/'), self.name) if part)
        return ['--ros-args', '--log-level', f'{logger}:={self.log_level}']

    def command(self) -> list[str]:
        """:return: the command line that starts it with this Python, where there is no ``ros2 launch``."""
        command = [sys.executable, '-m', f'{PACKAGE}.nodes.{self.executable}', *self.ros_arguments]
        command += ['-r', f'__node:={self.name}']
        if self.namespace:
            command += ['-r', f'__ns:=/{self.namespace.strip("/")}']
        for path in self.parameter_files:
            command += ['--params-file', str(path)]
        for name, value in self.parameters.items():
            # JSON is YAML: '7' stays a string and 7.0 a float. Its \u pairs for some characters are not.
            command += ['-p', f'{name}:={json.dumps(value, ensure_ascii=False)}']
        for old, new in self.remappings:
            command += ['-r', f'{old}:={new}']
        return command


def perception_graph(*, image_topic: str = '', image_transport: str = '', bundle: str = '', backend: str = '',
                     namespace: str = '', use_sim_time: bool = False, log_level: str = 'info',
                     params_file: str = '', controller: bool = True) -> list[NodeSpec]:
    """
    Perception of a camera, and its controller. What is empty is as the parameter files say.

    :param image_topic: topic of the camera, relative to the namespace.
    :param image_transport: auto, raw or compressed.
    :param bundle: directory or shipped name of an engine bundle.
    :param backend: what runs the graphs.
    :param namespace: of all nodes.
    :param use_sim_time: True to take the time from /clock.
    :param log_level: of all nodes.
    :param params_file: YAML file set over the package's own.
    :param controller: False to leave the controller out.
    """
    def node(kind: str, remappings=(), **parameters) -> NodeSpec:
        given = {name: value for name, value in parameters.items() if value != ''}
        return NodeSpec(f'{kind}_node', kind, namespace, {**given, 'use_sim_time': use_sim_time},
                        _parameter_files(kind, params_file), tuple(remappings), log_level)

    nodes = [node('perception', image_topic=image_topic, image_transport=image_transport, bundle=bundle,
                  backend=backend)]
    if controller:
        inputs = [(name, f'perception/{name}') for name in ('futures', 'latents')]
        nodes.append(node('controller', inputs, bundle=bundle))
    return nodes


def replay_graph(path: str, *, topic: str = '', rate: float = 1.0, stamps: str = 'now', loop: bool = False,
                 wait_for_subscribers: int = 1, **perception) -> list[NodeSpec]:
    """
    A recording in the place of the camera, which comes first, and what :func:`perception_graph` makes.

    :param path: video, bag, or name of a shipped recording.
    :param topic: camera topic in the bag; empty: the only one.
    :param rate: factor on the recorded rate.
    :param stamps: ``now``, or ``recorded``: then the others run on the /clock that the camera publishes.
    :param loop: begin again at the end.
    :param wait_for_subscribers: number of subscribers that the first frame waits for.
    :param perception: arguments of :func:`perception_graph`.
    """
    if stamps == 'recorded':
        perception['use_sim_time'] = True
    image_topic = perception.get('image_topic') or IMAGE_TOPIC
    parameters = {'path': str(path), 'topic': topic, 'rate': float(rate), 'stamps': stamps, 'loop': loop,
                  'wait_for_subscribers': wait_for_subscribers}
    camera = NodeSpec('camera_replay_node', 'camera', perception.get('namespace', ''), parameters,
                      _parameter_files('camera', perception.get('params_file', '')),
                      (('~/image_raw', image_topic),), perception.get('log_level', 'info'))
    return [camera, *perception_graph(**perception)]


def conveyor_graph(*, sim: bool = True, speed: float = 1.0, seed: int | None = None,
                   use_sim_time: bool | None = None, topics: dict[str, str] | None = None,
                   **perception) -> list[NodeSpec]:
    """
    Conveyor picking: perception, the controller with its task ``pick``, and before them the simulated cell.

    :param sim: False for a robot that is there already.
    :param speed: simulated seconds per second. Below 1 everything is silent for longer, and may be.
    :param seed: of the simulator; None as the parameter files say.
    :param use_sim_time: None: with the simulator.
    :param topics: of a robot, by the controller's names, over those of ROBOT; what is empty is left out.
    :param perception: further arguments of :func:`perception_graph`.
    """
    speed = float(speed)  # a launch file has text
    perception['use_sim_time'] = sim if use_sim_time is None else use_sim_time
    image_topic = perception.get('image_topic') or IMAGE_TOPIC
    info = info_topic(image_topic)
    robot = SIMULATED if sim else ROBOT | {name: topic for name, topic in (topics or {}).items() if topic}
    remappings = {
        'controller': (('camera_info', info), *robot.items()),
        'conveyor_sim': (('camera/image_raw', image_topic), ('camera/camera_info', info),
                         ('twist', robot['~/twist']), ('gripper', robot['~/gripper'])),
    }
    nodes = perception_graph(**perception)
    if sim:
        own: dict = {'place': RACK}
        if speed < 1:
            own['max_silence'] = min(PickSettings().watchdog.max_silence / speed, 10.0)
        nodes = [replace(node, parameters=node.parameters | own) if node.name == 'controller' else node
                 for node in nodes]
        given = {'real_time_factor': speed, **({} if seed is None else {'seed': seed})}
        cell = NodeSpec('conveyor_sim_node', 'conveyor_sim', perception.get('namespace', ''), given,
                        _parameter_files('conveyor_sim', perception.get('params_file', '')),
                        log_level=perception.get('log_level', 'info'))
        nodes.insert(0, cell)
    return [replace(node, parameter_files=(node.parameter_files[0], find_config('conveyor_picking.yaml'),
                                           *node.parameter_files[1:]),
                    remappings=(*node.remappings, *_renamed(remappings.get(node.name, ())))) for node in nodes]


def _renamed(pairs) -> list[tuple[str, str]]:
    return [(old, new) for old, new in pairs if old != new]


def _parameter_files(kind: str, extra: str) -> tuple[Path, ...]:
    return (find_config(f'{kind}.yaml'), *([Path(extra)] if extra else []))

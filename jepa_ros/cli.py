# SPDX-License-Identifier: Apache-2.0
"""
The ``jepa`` command: one table of commands, each in the room that does the work.

A command's module is imported only when that command is asked for, so that ``jepa --help`` answers at once
and a machine without torch or ROS can use every command that needs neither. A command module has
``configure(parser)``, which declares its arguments, and ``run(args) -> int``, which returns the exit code.

Exit codes: 0 done; 1 done, but what it was to show did not happen; 2 a wrong argument or input; 130
interrupted.
"""
import argparse
import difflib
import importlib
import sys

from jepa_ros import __version__
from jepa_ros.errors import JepaError

COMMANDS = {
    'demo': ('jepa_ros.demo.command', 'run camera to controller: the simulated cell, or a recording'),
    'info': ('jepa_ros.engine.command', 'show what an engine bundle is, needs and was measured to do'),
    'train': ('jepa_ros.training.command', 'train encoder, forecaster and readout from a configuration file'),
    'curves': ('jepa_ros.training.curves', 'draw loss, effective rank and skill of training runs'),
    'export': ('jepa_ros.export.command', 'turn a checkpoint or published weights into an engine bundle'),
    'build': ('jepa_ros.engine.build_command', 'build the TensorRT plans of a bundle for this GPU'),
    'evaluate': ('jepa_ros.evaluation.command', 'measure a bundle on recordings, or with the arm at work'),
    'replay': ('jepa_ros.evaluation.replay_command',
               'run recordings through a bundle: report page, JSON, MCAP'),
    'audit': ('jepa_ros.evaluation.audit_command',
              'decide between an image and a video encoder, by a rule written before'),
    'sim': ('jepa_ros.sim.command', 'record bags and videos from the simulated conveyor'),
    'bench': ('jepa_ros.bench.command', 'measure what the nodes and the transport cost on this machine'),
}

EXAMPLES = """\
examples:
  jepa demo                                    the simulated picking cell (needs the extra 'sim')
  jepa demo --video conveyor                   the shipped recording through the shipped bundle
  jepa demo --video FILE.mp4                   your own video as the camera
  jepa demo --bag DIR --topic /camera/image    your own bag (rosbag2 or ROS 1)
  jepa info conveyor_vjepa                    what the shipped bundle is
  jepa replay DIR --bundle conveyor_vjepa     how a bundle does on your bags, as a page
  jepa sim record --seeds 0:20 --out DIR       bags to train on
  jepa train own_videos --data DIR
  jepa export CHECKPOINT --out DIR             a bundle for perception_node
  jepa bench node                              milliseconds per frame on this machine

Every command explains itself: jepa COMMAND --help"""

ROS = "rclpy and the message packages: source a ROS 2 installation, or pip install 'jepa_ros[ros-kilted]'"
TRAIN, SIM = "pip install 'jepa_ros[train]'", "pip install 'jepa_ros[sim]'"
INSTALL = {
    'torch': TRAIN, 'matplotlib': TRAIN, 'tensorboard': TRAIN,
    'onnx': TRAIN, 'onnxscript': TRAIN, 'safetensors': TRAIN,
    'mujoco': SIM, 'transformers': "pip install 'jepa_ros[test]'",
    'rclpy': ROS, 'sensor_msgs': ROS, 'std_msgs': ROS, 'geometry_msgs': ROS, 'diagnostic_msgs': ROS,
    'lifecycle_msgs': ROS, 'std_srvs': ROS, 'rosgraph_msgs': ROS, 'nav_msgs': ROS,
}


def usage() -> str:
    """Return the help text of ``jepa`` itself."""
    width = max(map(len, COMMANDS))
    table = '\n'.join(f'  {name:<{width}}  {text}' for name, (_, text) in COMMANDS.items())
    return (
        'usage: jepa COMMAND ...\n\n'
        'JEPA latents and predicted futures of a camera, on ROS 2 topics, in time for a controller.\n\n'
        f'commands:\n{table}\n\noptions:\n  -h, --help  this text\n  --version   the version\n\n{EXAMPLES}'
    )


def fail(message: str) -> int:
    """Print one sentence on stderr and return exit code 2."""
    print(f'jepa: error: {message}', file=sys.stderr)
    return 2


def unknown(name: str) -> str:
    """Say what is wrong with a command's name, and which one may have been meant."""
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}"
    return f"unknown command '{name}'; {hint}"


def main(argv: list[str] | None = None) -> int:
    """
    Run one command.

    :param argv: the arguments after ``jepa``; the process's own if None.
    :return: the exit code.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ('-h', '--help', 'help'):
        print(usage())
        return 0
    if argv[0] == '--version':
        print(f'jepa_ros {__version__}')
        return 0
    if argv[0] not in COMMANDS:
        return fail(unknown(argv[0]))
    module, text = COMMANDS[argv[0]]
    try:
        command = importlib.import_module(module)
        parser = argparse.ArgumentParser(
            prog=f'jepa {argv[0]}', description=command.__doc__ or text,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        command.configure(parser)
        return command.run(parser.parse_args(argv[1:])) or 0
    except JepaError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or '').partition('.')[0]
        if package not in INSTALL:
            raise
        return fail(f"'jepa {argv[0]}' needs {package}, which is not installed; {INSTALL[package]}")
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""
Run the whole graph, camera to controller, as real processes over real DDS, and show a live table.

  jepa demo conveyor [--picks 3] [--seconds 120] [--seed 20000] [--speed 1]
      the simulated picking cell: bins on a belt, a camera, an arm that takes them by what JEPA futures tell. Ends
      after so many picks or simulated seconds. Leaves index.html (a page that shows it all), conveyor.mp4 (what
      happened, and what was expected), figures.json. Needs the extra 'sim'; with it, it is what 'jepa demo' does.

  jepa demo RECORDING [--topic /camera/image] [--rate 0.5] [--seconds 10]
      a video or bag in the place of the camera. Leaves contact_sheet.png (frames, latents, predicted against
      later-observed latents), figures.json. 'jepa demo --video FILE' and 'jepa demo --bag DIR' say which it is;
      'jepa demo --video conveyor' is the recording that ships.

Both leave bag/ (rosbag2, MCAP, of everything that was published) and logs/ (what each process said) besides.

Exit codes: 0 at the end, however much was picked; 1 if a process failed, or no futures came although there were
frames enough; 2 for a wrong argument; 130 after Ctrl-C, with what came until then.
"""

import argparse
import importlib.util
import signal
from pathlib import Path

from jepa_ros.errors import JepaError
from jepa_ros.paths import PROMOTED

CELL = 'conveyor'
DEFAULT_RECORDING = 'conveyor'
OF_CELL = {'picks': 3, 'seed': None, 'speed': 1.0, 'no_film': False, 'params_file': '', 'viewer': False}
OF_RECORDING = {'topic': None, 'rate': 1.0, 'image_transport': 'auto'}


class DemoError(JepaError):
    """Arguments that do not go together."""


def configure(parser) -> None:
    """Declare the arguments."""
    parser.add_argument('what', nargs='?', metavar='conveyor | RECORDING',
                        help="the simulated cell, or a video or bag (default: the cell, without the extra 'sim' the "
                             'recording that ships)')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--video', metavar='FILE', help='video file')
    source.add_argument('--bag', metavar='PATH', help='rosbag2 directory or file, or ROS 1 .bag')
    parser.add_argument('--bundle', default=PROMOTED, help='engine bundle (default: %(default)s)')
    parser.add_argument('--out', type=Path, default='jepa_demo', metavar='DIR', help='default: ./%(default)s')
    parser.add_argument('--seconds', type=_positive, metavar='S',
                        help='end after so many seconds of frames (default for the cell: 120 simulated ones)')
    cell = parser.add_argument_group('of the cell')
    cell.add_argument('--picks', type=_count, help='end after so many picks (default: 3)')
    cell.add_argument('--seed', type=int, help='everything follows from it (default: as config/conveyor_sim.yaml says)')
    cell.add_argument('--speed', type=_positive, help='simulated seconds per second (default: 1)')
    cell.add_argument('--no-film', action='store_true', default=None, help='leave the film out, which takes a minute')
    cell.add_argument('--viewer', action='store_true', default=None, help="open MuJoCo's window; needs a screen")
    cell.add_argument('--params-file', metavar='FILE', help="YAML parameters over the package's own")
    recording = parser.add_argument_group('of a recording')
    recording.add_argument('--topic', metavar='T', help='camera topic in the bag; may be left out if there is one')
    recording.add_argument('--rate', type=_positive, help='factor on the recorded rate (default: 1)')
    recording.add_argument('--image-transport', choices=('auto', 'raw', 'compressed'),
                           help='auto: a bag as recorded, a video compressed, so that the bag stays small')


def run(args) -> int:
    """Run the demo."""
    recording = args.video or args.bag
    if recording and args.what:
        raise DemoError(f"expected one thing to run, found '{args.what}' and '{recording}'")
    recording = recording or args.what
    if args.topic and not args.bag and (not recording or recording == CELL):
        raise DemoError(f'expected --bag with --topic {args.topic}, found none')
    simulated = recording == CELL and not args.video and not args.bag
    if recording is None:
        simulated = importlib.util.find_spec('mujoco') is not None
    others = OF_RECORDING if simulated else OF_CELL
    wrong = [f'--{name.replace("_", "-")}' for name in others if getattr(args, name) is not None]
    if wrong:
        what = 'a recording' if simulated else 'the simulated cell'
        raise DemoError(f'expected {", ".join(wrong)} with {what} alone, found it with '
                        f"{'the cell' if simulated else recording or 'the recording that ships'}")
    for name, default in (OF_CELL if simulated else OF_RECORDING).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    # A shell's & has Ctrl-C ignored, here and in the children; and SIGTERM must leave no child behind either.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return _run_cell(args) if simulated else _run_recording(recording or DEFAULT_RECORDING, args)


def _run_cell(args) -> int:
    from jepa_ros.demo.conveyor import ConveyorOptions, run_conveyor
    return run_conveyor(ConveyorOptions(
        args.bundle, args.out, args.picks, args.seconds or ConveyorOptions.seconds, args.speed, args.seed,
        video=not args.no_film, params_file=args.params_file, viewer=args.viewer))


def _run_recording(name: str, args) -> int:
    from jepa_ros.demo.run import Options, run_demo
    from jepa_ros.paths import find_recording
    return run_demo(Options(find_recording(name), args.topic, args.bundle, args.out, args.rate, args.seconds,
                            args.image_transport))


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number above 0, found {text}')
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a number above 0, found {text}')
    return value

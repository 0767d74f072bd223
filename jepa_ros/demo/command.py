# SPDX-License-Identifier: Apache-2.0
"""
Run the whole graph, camera to controller, on a recording, as real processes over real DDS.

Shows a live table and leaves in the output directory:
  bag/               rosbag2 (MCAP) of everything that was published
  contact_sheet.png  frames, latents, and predicted against later-observed latents
  figures.json       all figures, with the host they were measured on
  logs/              what each process said

  jepa demo                                  the shipped recording
  jepa demo --video FILE
  jepa demo --bag DIR --topic /camera/image  the topic may be left out if there is one camera

Exit codes: 0 at the end of the recording; 1 if a process failed, or no futures came although the recording is
long enough for them; 2 for a wrong argument; 130 after Ctrl-C, with what came until then.
"""

import argparse
import signal
from pathlib import Path

from jepa_ros.errors import JepaError

DEFAULT_RECORDING, DEFAULT_BUNDLE = 'conveyor', 'conveyor_vjepa'


class DemoError(JepaError):
    """Arguments that do not go together."""


def configure(parser) -> None:
    """Declare the arguments."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--video', metavar='FILE', help='video file (default: the one that ships)')
    source.add_argument('--bag', metavar='PATH', help='rosbag2 directory or file, or ROS 1 .bag')
    parser.add_argument('--topic', metavar='T', help='camera topic in the bag')
    parser.add_argument('--bundle', default=DEFAULT_BUNDLE, help='engine bundle (default: %(default)s)')
    parser.add_argument('--out', type=Path, default='jepa_demo', metavar='DIR', help='default: ./%(default)s')
    parser.add_argument('--rate', type=_positive, default=1.0, help='factor on the recorded rate')
    parser.add_argument('--seconds', type=_positive, metavar='S', help='end after so many seconds')
    parser.add_argument('--image-transport', default='auto', choices=('auto', 'raw', 'compressed'),
                        help='auto: a bag as recorded, a video compressed, so that the bag stays small')


def run(args) -> int:
    """Run the demo."""
    from jepa_ros.demo.run import Options, run_demo
    from jepa_ros.paths import find_recording
    if args.topic and not args.bag:
        raise DemoError(f'expected --bag with --topic {args.topic}, found none')
    # A shell's & has Ctrl-C ignored, here and in the children; and SIGTERM must leave no child behind either.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    recording = find_recording(args.video or args.bag or DEFAULT_RECORDING)
    return run_demo(Options(recording, args.topic, args.bundle, args.out, args.rate, args.seconds,
                            args.image_transport))


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a number above 0, found {text}')
    return value

# SPDX-License-Identifier: Apache-2.0
"""
Replay recordings through a bundle, without ROS and faster than real time: how a bundle does on them.

Recordings are rosbag2 folders or files (sqlite3, MCAP, compressed or not), ROS 1 bags, videos, and folders of
them. All cameras of a bag are replayed, each by itself, with the windows, the decoding and the sessions of
perception_node, so that what comes out is what the node publishes. What cannot be read is named and counted;
the others go on.

Left in the folder of the report:
  report.html   to look at: speed, latencies, skill of the futures, surprising moments as pictures, faults
  report.json   the same figures for programs (docs/replay.md)
  recordings/   what is finished; the same command again goes on with what is missing
"""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
import sys
import time
from pathlib import Path

EXAMPLES = """\
examples:
  jepa replay my_bag --bundle conveyor_vjepa
  jepa replay bags/ --bundle models/mine --topic /cam0/image_raw --topic /cam1/image_raw
  jepa replay bags/ --bundle models/mine --labels /sim/handle     error of the readout as well
  jepa replay bags/ --bundle models/mine --probe /ee_state:x,y,z  the arm's place now and at each horizon
  jepa replay bags/ --compare models/before models/after          two bundles side by side
  jepa replay my.mp4 --bundle models/mine --mcap outputs/         ~/latents and ~/futures for Foxglove
  jepa replay my_bag --bundle models/mine --live                  real nodes over DDS, in real time

exit codes: 0 done; 1 a recording failed: nothing of it could be used, or an error ended it; 2 a wrong
argument; 130 after Ctrl-C, with a report of what came until then"""

LIVE = 'jepa_ros.demo.live'  # needs ROS, which this room must not


def configure(parser):
    """Declare the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument(
        'recordings',
        nargs='+',
        metavar='BAG',
        help='bags, videos, folders of them, globs, or the name of a recording that ships',
    )
    bundles = parser.add_mutually_exclusive_group(required=True)
    bundles.add_argument(
        '--bundle', metavar='B', help='engine bundle: path, or name of one that ships (jepa info)'
    )
    bundles.add_argument('--compare', nargs=2, metavar=('A', 'B'), help='two bundles on the same recordings')
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='T',
        help='camera topic of the bags, more than once for several (default: all of them)',
    )
    parser.add_argument(
        '--labels',
        metavar='T',
        help='topic with the true point of the readout '
        '(geometry_msgs/PointStamped: x, y in 0..1 of the image, z 1 where it is in view; or PoseStamped in the '
        "camera's optical frame)",
    )
    parser.add_argument(
        '--probe',
        action='append',
        default=[],
        metavar='SOURCE',
        help='read a recorded vector from latents and futures by a linear probe, more than once for several: '
        'a topic (JointState, PoseStamped, ...), with elements as /ee_state:x,y,z, or a table (CSV) '
        "with a column frame or time, as '*_tracks.csv' beside each recording",
    )
    parser.add_argument(
        '--horizons',
        type=_horizons,
        default=(),
        metavar='S,S',
        help='seconds to forecast ahead, as 0.1,0.2,0.4 (default: those of the bundle)',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('jepa_replay'), metavar='DIR', help='default: ./%(default)s'
    )
    parser.add_argument(
        '--mcap', type=Path, metavar='DIR', help='write what the node would publish as bags (MCAP) here'
    )
    parser.add_argument(
        '--publish',
        choices=('dense', 'grid', 'pooled'),
        default='dense',
        help='tokens that go into them, as the parameter of perception_node (default: %(default)s)',
    )
    parser.add_argument(
        '--moments',
        type=_count,
        default=4,
        metavar='N',
        help='surprising moments shown of each camera (default: %(default)s)',
    )
    parser.add_argument('--again', action='store_true', help='run also what is finished')
    parser.add_argument(
        '--live',
        action='store_true',
        help='play through real topics and nodes in real time (needs '
        'ROS 2); nothing is kept of it but the report and the bag',
    )
    parser.add_argument(
        '--rate', type=float, metavar='HZ', help='frames per second of folders of numbered images'
    )
    parser.add_argument('--backend', default='auto', metavar='NAME', help='what runs the graphs (jepa info)')
    parser.add_argument(
        '--threads', type=_count, default=0, metavar='N', help='of the backend (default: one per core)'
    )


def run(args) -> int:
    """Replay; returns the exit code."""
    from rich.console import Console

    from jepa_ros import host
    from jepa_ros.evaluation.replay import Options, ReplayError, Subject
    from jepa_ros.evaluation.replay_report import exit_code, replay_all, writable, write_report

    if args.live and (args.compare or args.mcap or args.probe):
        raise ReplayError(
            'expected --live with one --bundle and without --probe and --mcap (its bag has everything)'
        )
    options = Options(
        tuple(args.topic),
        args.labels,
        tuple(args.probe),
        tuple(args.horizons),
        args.rate,
        args.moments,
        args.mcap,
        args.publish,
        args.backend,
        args.threads,
    )
    paths = _find(args.recordings)
    subjects = [Subject(name, options) for name in args.compare or [args.bundle]]
    writable(args.out)
    console = Console(width=None if sys.stdout.isatty() else 140)  # a file has no edge to wrap at
    if args.live:
        live = importlib.import_module(LIVE)
        runs = replay_all(
            paths,
            subjects,
            args.out,
            live=True,
            run=lambda path, subject, bag: live.replay_live(path, subject, args.out / 'live'),
        )
    else:
        with _Bars(len(paths) * len(subjects)) as bars:
            runs = replay_all(paths, subjects, args.out, again=args.again, run=bars.run)
    about = host.describe()
    command = shlex.join(
        ['jepa', 'replay', *sys.argv[2:]] if sys.argv[1:2] == ['replay'] else ['jepa', 'replay']
    )
    write_report(args.out, runs, command, host.sentence(about), about['date'], _as_json(options))
    for found in runs:
        _print(console, found)
    console.print(f'left in {args.out}: report.html, report.json', highlight=False)
    return exit_code(runs)


def _find(patterns: list[str]) -> list[Path]:
    """Return the recordings; a name that is no path may be that of one that ships."""
    from jepa_ros.data.sequences import find_recordings
    from jepa_ros.paths import PathError, find_recording

    named = []
    for pattern in patterns:
        try:
            named.append(find_recording(pattern))
        except PathError:
            named.append(pattern)
    return find_recordings(named)


class _Bars:
    """
    A bar over all recordings, and one over the recorded time of the camera that is replayed, with its speed.
    """

    def __init__(self, count: int):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            TextColumn('{task.fields[said]}'),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._all = self._progress.add_task('recordings', total=count, said=f'0/{count}', visible=count > 1)
        self._one = self._progress.add_task('', total=None, said='')
        self._count, self._done = count, 0

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def run(self, path, subject, bag):
        """Replay one recording."""
        from jepa_ros.evaluation.replay import replay

        began, before, shown = time.monotonic(), None, 0.0

        def tick(topic: str, recorded: float, expected: float) -> None:
            nonlocal began, before, shown
            now = time.monotonic()
            if topic != before:
                began, before = now, topic
                self._progress.reset(
                    self._one, total=expected or None, description=f'{path.stem} {topic}'.strip(), said=''
                )
            if now - shown > 0.1:
                shown = now
                self._progress.update(
                    self._one, completed=recorded, said=f'{recorded / max(now - began, 1e-3):.1f}x real time'
                )

        result = replay(path, subject, tick, bag)
        self._done += 1
        self._progress.update(self._all, completed=self._done, said=f'{self._done}/{self._count}')
        if result['error']:
            self._progress.console.print(
                f'jepa: warning: {result["error"]}',
                style='yellow',
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        return result


def _print(console, found: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    total = found['total']
    title = ' '.join(filter(None, [found['side'], found['bundle']['name']]))
    table = Table(
        'recording', 'slices', 'dropped', 'speed', 'skill', 'peak surprise', 'faults', title=escape(title)
    )
    for recording in found['recordings']:
        state = '' if recording['status'] == 'done' else f'[red]{recording["status"]}[/red] '
        for camera in recording['cameras']:
            surprise, skills = camera['surprise'], [row['skill'] for row in camera['skill']]
            peak = (
                f'{surprise["max"] / surprise["median"]:.1f}x at {_peak(surprise):.1f} s'
                if (surprise and surprise['median'])
                else '-'
            )
            name = escape(' '.join(filter(None, [recording['name'], camera['topic']])))
            faults = len(camera['faults']) + len(recording['faults'])
            table.add_row(
                state + name,
                str(camera['slices']),
                str(sum(camera['dropped'].values())),
                f'{camera["speed"] or 0:.1f}x',
                f'{min(skills):+.2f}..{max(skills):+.2f}' if skills else '-',
                peak,
                str(faults or '-'),
            )
        if not recording['cameras']:
            table.add_row(state + escape(recording['name']))
    console.print(table)
    _print_probes(console, found['recordings'])
    _print_faults(console, found['recordings'])
    said = [f'{total["recordings"]} recordings', f'{total["failed"]} failed']
    if total['speed']:
        said.append(
            f'{total["speed"]:.1f}x real time' + (f', most of it {total["limit"]}' if total['limit'] else '')
        )
    if total['real_time_lost'] is not None:
        lost = f'{total["real_time_lost"]:.1%} of the slices' if total['real_time_lost'] else 'nothing'
        said.append(f'{lost} lost in {"" if found["live"] else "simulated "}real time')
    console.print('; '.join(said), highlight=False)


def _print_probes(console, recordings: list[dict]) -> None:
    """Print what the probes read now and at the furthest horizon."""
    for recording in recordings:
        for camera in recording['cameras']:
            for probe in camera.get('probes', []):
                now, last = probe['rows'][0], probe['rows'][-1]
                words = f'{now["error"]:.3g} now (the mean: {now["mean_error"]:.3g})'
                if last['horizon']:
                    words += (
                        f', with the change read {last["change_error"]:.3g} at {last["horizon"]:.2g} s '
                        f'(expecting what is now: {last["hold_error"]:.3g})'
                    )
                name = ' '.join(filter(None, [recording['name'], camera['topic']]))
                console.print(
                    f'{name}: median error of {probe["source"]} {words}', markup=False, highlight=False, soft_wrap=True
                )


def _print_faults(console, recordings: list[dict], most: int = 12) -> None:
    """Print what is wrong, once each where several cameras or recordings have the same."""
    where: dict[str, list[str]] = {}
    for recording in recordings:
        for fault in recording['faults']:
            where.setdefault(fault['text'], []).append(recording['name'])
        for camera in recording['cameras']:
            for fault in camera['faults']:
                where.setdefault(fault['text'], []).append(f'{recording["name"]} {camera["topic"]}'.strip())
    for text, names in list(where.items())[:most]:
        more = f' and {len(names) - 1} more' if len(names) > 1 else ''
        console.print(
            f'{names[0]}{more}: {text}', style='yellow', markup=False, highlight=False, soft_wrap=True
        )
    if len(where) > most:
        console.print(f'and {len(where) - most} other faults: see report.html', style='yellow')


def _peak(surprise: dict) -> float:
    return surprise['time_s'][surprise['value'].index(max(v for v in surprise['value'] if v is not None))]


def _as_json(options) -> dict:
    return {
        'topics': list(options.topics),
        'labels': options.labels,
        'probes': list(options.probes),
        'horizons': list(options.horizons),
        'rate': options.rate,
        'publish': options.publish,
        'backend': options.backend,
        'threads': options.threads,
        'mcap': str(options.mcap) if options.mcap else None,
    }


def _horizons(words: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in words.split(','))
    except ValueError:
        found = ()
    if not found or not all(0 < value < math.inf for value in found):
        raise argparse.ArgumentTypeError(f'expected seconds like 0.1,0.2, found {words}')
    return found


def _count(words: str) -> int:
    value = int(words)
    if value < 0:
        raise argparse.ArgumentTypeError(f'expected a number from 0 on, found {words}')
    return value

# SPDX-License-Identifier: Apache-2.0
"""
What is wrong with a recorded camera stream, in sentences that say what it means for the one who reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from rosbags.typesys import Stores, get_typestore

from jepa_ros.data.bags import Topic
from jepa_ros.data.frames import RecordedFrame

STALE = 5.0  # s between stamp and arrival from which on they must be of two clocks, as perception_node has it
APART = 1.0  # s by which the clocks of two cameras differ from which on it is worth saying


@dataclass(frozen=True)
class Fault:
    """
    One thing that is wrong.

    :param kind: for programs, one of the names in docs/replay.md.
    :param text: for people.
    """

    kind: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """As it goes into JSON."""
        return asdict(self)


class StreamWatch:
    """
    Looks at every frame of one camera as it was recorded.

    :param topic: of the camera, '' where there are no topics.
    """

    def __init__(self, topic: str):
        self._topic = topic
        self._kinds: Counter[str] = Counter()
        self._offsets: list[int] = []
        self._steps: list[int] = []
        self._last: int | None = None
        self._sizes: list[tuple[int, int]] = []

    def see(self, frame: RecordedFrame) -> None:
        """Take the next frame."""
        self._kinds['frames'] += 1
        self._kinds['frame_id'] += not frame.frame_id
        self._kinds['zero'] += frame.stamp_ns == 0
        self._offsets.append(frame.stamp_ns - frame.log_ns)
        if not frame.compressed and (frame.width, frame.height) not in self._sizes:
            self._sizes.append((frame.width, frame.height))
        if self._last is not None:
            step = frame.stamp_ns - self._last
            self._kinds['back'] += step < 0
            self._kinds['same'] += step == 0
            if step > 0:
                self._steps.append(step)
        self._last = frame.stamp_ns

    @property
    def offset(self) -> float | None:
        """
        How far the header stamps lie ahead of the times of arrival (s, the median); None without frames.
        """
        return float(np.median(self._offsets)) / 1e9 if self._offsets else None

    @property
    def period(self) -> float | None:
        """Usual time between two frames (s), None before there are two."""
        return float(np.median(self._steps)) / 1e9 if self._steps else None

    def faults(self, stamp_fault: str | None, wanted_period: float) -> list[Fault]:
        """
        :param stamp_fault: why the header stamps were not believed, or None.
        :param wanted_period: time between frames that the bundle asks for (s).
        """
        found, count, frames = [], self._kinds, self._kinds['frames']
        if self._topic and not self._topic.startswith('/'):
            found.append(
                Fault(
                    'topic_name',
                    f"the topic is called '{self._topic}', without a leading slash: "
                    f"in a graph it is '/{self._topic}'",
                )
            )
        if count['frame_id']:
            found.append(
                Fault(
                    'frame_id',
                    f'{_all_of(count["frame_id"], frames)} have an empty frame_id: '
                    'nothing can be placed in space by it',
                )
            )
        if stamp_fault:
            found.append(
                Fault(
                    'stamps',
                    f'the header stamps {stamp_fault}: the times at which the bag received the '
                    'frames are used instead',
                )
            )
        else:
            if abs(self.offset or 0) > STALE:
                when = 'after' if self.offset > 0 else 'before'
                found.append(
                    Fault(
                        'clock',
                        f'the header stamps lie {duration(abs(self.offset))} {when} the times at '
                        'which the bag received the frames: they are of another clock; only '
                        'their differences count here',
                    )
                )
            if count['zero']:
                found.append(
                    Fault('stamps', f'{_all_of(count["zero"], frames)} have no stamp and are dropped')
                )
            if count['back']:
                found.append(Fault('stamps', f'the stamps step back {_times(count["back"])}'))
            if count['same']:
                found.append(Fault('stamps', f'a stamp is that of the frame before {_times(count["same"])}'))
        if len(self._sizes) > 1:
            sizes = ', '.join(f'{width}x{height}' for width, height in self._sizes)
            found.append(Fault('size', f'the size of the images changes ({sizes}), which clears the history'))
        if self.period and self.period > 1.25 * wanted_period:
            found.append(
                Fault(
                    'rate',
                    f'a frame comes every {self.period:.3g} s and the bundle asks for one every '
                    f'{wanted_period:.3g} s: it sees motion at another rate than in training',
                )
            )
        return found


def clocks_apart(offsets: dict[str, float]) -> list[Fault]:
    """
    Return a fault for each camera whose clock differs from that of the first. :param offsets: by topic (s).
    """
    found, (reference, first) = [], next(iter(offsets.items()), ('', 0.0))
    for topic, offset in offsets.items():
        if abs(offset - first) > APART:
            side = 'ahead of' if offset > first else 'behind'
            found.append(
                Fault(
                    'clocks_apart',
                    f'the clock of {topic} is {duration(abs(offset - first))} {side} that '
                    f'of {reference}: their frames cannot be matched by stamp',
                )
            )
    return found


def unknown_types(topics: Iterable[Topic], ros1: bool) -> list[Fault]:
    """
    Return a fault that names the topics of a bag whose types are none of the common ones, if there are any.
    """
    known = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.LATEST).types
    names = [f'{topic.name} ({topic.msgtype})' for topic in topics if topic.msgtype not in known]
    if not names:
        return []
    listing = ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')
    return [
        Fault('unknown_type', f'types that are not known here, and not needed for the cameras: {listing}')
    ]


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    for unit, length in (('years', 365.25 * 86400), ('days', 86400), ('hours', 3600), ('min', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.1f} {unit}'
    return f'{seconds:.1f} s'


def _all_of(count: int, frames: int) -> str:
    return f'all {frames} frames' if count == frames else f'{count} of {frames} frames'


def _times(count: int) -> str:
    return 'once' if count == 1 else f'{count} times'

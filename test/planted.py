# SPDX-License-Identifier: Apache-2.0
"""Sequences and features without recordings and encoders, in which what can be known is planted."""

from types import SimpleNamespace

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.evaluation.probes.probe import ClassProbe
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import Source, Track

PERIOD_NS = 50_000_000
START_NS = 1_700_000_000_000_000_000
SETTINGS = Settings(
    span=0.4, slices=4, coarse=(1, 2), fine=(1, 2), horizons=(0.1, 0.2), stride=0.2, reach=0.3,
    steps=60, rates=(3e-2,), decays=(0.01,),
)  # fmt: skip


class Recorded:
    """
    Stands in for a recording.

    :param topics: topic to values, one each frame: text and integers become String and Int32, vectors a
        Float64MultiArray, points (x, y, z) of a PointStamped where `points` names the topic. None: no message.
    """

    folder, texts = '', staticmethod(lambda source: None)

    def __init__(self, count, topics, points=(), stamps=None, size=(30, 40)):
        self.path, self.topic, self._points = 'nowhere', '/camera', points
        self._stamps = START_NS + np.arange(count) * PERIOD_NS if stamps is None else np.asarray(stamps)
        self._topics, self._size = topics, size

    def index(self):
        return SimpleNamespace(stamps_ns=self._stamps, log_ns=self._stamps)

    def frames(self):
        yield SimpleNamespace(image=lambda: np.zeros((*self._size, 3), np.uint8))

    def messages(self, topic):
        if topic not in self._topics:
            raise RecordingError(f'expected topic {topic}, found {", ".join(self._topics)}')
        for stamp, value in zip(self._stamps.tolist(), self._topics[topic]):
            if value is not None:
                yield stamp, self._message(topic, stamp, value)

    def _message(self, topic, stamp, value):
        at = SimpleNamespace(stamp=SimpleNamespace(sec=stamp // 10**9, nanosec=stamp % 10**9))
        if topic in self._points:
            point = SimpleNamespace(**dict(zip('xyz', value)))
            return SimpleNamespace(header=at, point=point, __msgtype__='geometry_msgs/msg/PointStamped')
        if isinstance(value, SimpleNamespace):  # a message already
            return SimpleNamespace(**{**vars(value), 'header': at})
        return SimpleNamespace(data=value, __msgtype__=f'std_msgs/msg/{_kind(value)}')


def _kind(value):
    return {str: 'String', int: 'Int32'}.get(type(value), 'Float64MultiArray')


def track(name='one', count=40, topics=None, **kwargs) -> Track:
    """Return a sequence at 20 Hz; keywords are those of `Recorded`."""
    return Track(name, name, Source(Recorded(count, topics or {}, **kwargs)), 0, count)


class Up(ClassProbe):
    """Whether something goes up: its label is planted by moment."""

    name, task, metric = 'up', 'does it go up', 'share told right'

    def labels(self, track, at, settings):
        return np.where(going_up(track, len(at)), 'up', 'down')


def going_up(track, count):
    """Return the planted truth, bool [M]: half of the clips, drawn by the name of the sequence."""
    rng = np.random.default_rng([int(c) for c in track.name.encode()])
    return rng.permutation(np.arange(count) % 2 == 0)


class PlantedStore:
    """
    Features of clips in which something moves up or down by one per slice, from wherever it is.

    :param still: whether one slice tells where it goes.
    """

    def __init__(self, settings=SETTINGS, still=False, horizons=()):
        self.encoder, self._settings, self._still = SimpleNamespace(horizons=horizons), settings, still
        self.loaded = []

    def load(self, tracks, variant, name):
        (track,) = tracks
        self.loaded.append((track.name, variant))
        settings = self._settings
        count = len(track.moments(settings.span, settings.stride, settings.reach))
        times = np.arange(1 - settings.slices, 1, dtype=np.float32) * 0.1
        if name == 'times':
            return np.broadcast_to(times, (count, settings.slices))
        rng = np.random.default_rng([7, *track.name.encode()])
        way = np.where(going_up(track, count), 1, -1)
        start = rng.uniform(-1, 1, count)
        places = start[:, None] + way[:, None] * (times / 0.1 + (settings.slices - 1) / 2)
        if variant.startswith('shuffled'):
            places = rng.permuted(places, axis=1)
        elif variant.startswith('last'):
            places = np.broadcast_to(start[:, None] + way[:, None] * 0.0, places.shape)
        tokens = rng.normal(0, 0.3, (*places.shape, 2, 8))
        tokens[..., 0] += places[:, :, None]
        tokens[..., 1] += self._still * 3 * way[:, None, None]
        if name == 'newest':
            tokens = tokens[:, -1:]
        if name == 'futures':
            tokens = tokens[:, -1:].repeat(len(self.encoder.horizons), 1)
        return tokens.astype(np.float16)

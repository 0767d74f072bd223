# SPDX-License-Identifier: Apache-2.0
"""
The film of a run of the picking cell, made from its bag when it is over.

Left the cell from where all can be seen, drawn once more from what the simulator said of its physics, with the
shadows for which a run in real time has no time. Right what perception saw, and over it what it expected: the
readout's points with their ellipses, the controller's path, and where it wants to meet the handle.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from jepa_ros.clouds import decode_futures, decode_latents
from jepa_ros.control.calibration import Calibration, CalibrationError
from jepa_ros.data.bags import Bag
from jepa_ros.data.recordings import open_recording
from jepa_ros.demo.canvas import Canvas
from jepa_ros.demo.topics import PickingTopics, Topics
from jepa_ros.engine.backends import EngineError
from jepa_ros.engine.readout import Readout
from jepa_ros.gaussian import ELLIPSE
from jepa_ros.images import ImageError
from jepa_ros.sim.cell import ConveyorCell
from jepa_ros.sim.hall import SimError

PANEL = 640, 480  # px of each of the two pictures
STRIP = 96  # px below them
LONGEST = 40.0  # s, the part of a run that a film shows
FRESH = 0.3  # s for which is shown what is not said again
MARGIN = 12
INK, GREY, PAPER = (236, 238, 240), (150, 158, 166), (22, 25, 29)
EXPECTED, PATH, MEET, TRUE = (255, 150, 60), (90, 200, 255), (120, 255, 120), (255, 255, 255)
_NS = 1e9


@dataclass
class Moment:
    """
    All that is known when a frame comes.

    :param seconds: simulated, since the first frame.
    :param image: what the camera saw, RGB uint8 [H, W, 3].
    :param physics: as ConveyorCell.snapshot gave it; None where it is missing.
    :param points: [K, 2], 0..1 of the image, of the newest futures; `covariances`: [K, 2, 2].
    :param path: [n, 2], the controller's, in the image; `intercept`: [2], in the image; empty where there is none.
    :param handle: x, y in the image, and 1 where it can be seen; None where it is not in the picture.
    :param surprise: mean of the newest slice, NaN where there was no forecast.
    """

    seconds: float
    image: np.ndarray = field(repr=False)
    physics: np.ndarray | None = field(default=None, repr=False)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    covariances: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 2)))
    path: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    intercept: np.ndarray = field(default_factory=lambda: np.zeros(0))
    handle: tuple[float, float, float] | None = None
    surprise: float = float('nan')
    state: str = ''
    taken: int = 0
    bin_state: str = ''
    belt: str = ''


_NOTHING = Moment(0.0, np.zeros((1, 1, 3), np.uint8))
_OF = {'handle': ('handle',), 'futures': ('points', 'covariances'), 'path': ('path',), 'intercept': ('intercept',)}


def moments(bag: Path, readout: Readout) -> Iterator[Moment]:
    """
    Read a run back, a moment for each frame of the camera: what had come by then.

    :param bag: directory of the bag.
    :param readout: of the bundle that ran.
    """
    topics, names = PickingTopics(), Topics()
    source = Bag(bag)
    known = {topic.name for topic in source.topics}

    def entries(kind: str, topic: str):
        for log_ns, message in source.messages(topic) if topic in known else ():
            yield log_ns, kind, message

    def frames():
        for frame in open_recording(bag, names.camera).frames():
            yield frame.log_ns, 'frame', frame

    kinds = {kind: getattr(topics, kind) for kind in (
        'path', 'intercept', 'state', 'camera_info', 'camera_pose', 'physics', 'handle', 'taken', 'bin_state', 'belt')}
    kinds |= {'futures': names.futures, 'latents': names.latents}
    streams = [entries(kind, topic) for kind, topic in kinds.items()]
    now, reader = _NOTHING, _Reader(readout)
    waiting = None
    for _, kind, message in heapq.merge(*streams, *([frames()] if names.camera in known else []),
                                        key=lambda entry: entry[0]):
        if kind != 'frame':
            now = reader.take(now, kind, message)
            continue
        if waiting is not None:  # what is true of a frame comes just after it
            yield reader.moment(now, *waiting)
            waiting = None
        try:
            waiting = message.image(), message.stamp_ns
        except ImageError:
            continue
    if waiting is not None:
        yield reader.moment(now, *waiting)


class _Reader:
    """Takes messages into a moment."""

    def __init__(self, readout: Readout):
        self._readout = readout
        self._info = self._pose = None
        self._first_ns: int | None = None
        self._said_ns: dict[str, int] = {}  # stamps of what may be over without a word

    def take(self, now: Moment, kind: str, message) -> Moment:
        found = getattr(self, f'_{kind}', None)
        return replace(now, **(found(message) if found else {kind: message.data}))

    def moment(self, now: Moment, image: np.ndarray, stamp_ns: int) -> Moment:
        """Return the moment of a frame, without what has not been said any more for a while."""
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        old = [kind for kind, said_ns in self._said_ns.items() if stamp_ns - said_ns > FRESH * _NS]
        gone = {name: getattr(_NOTHING, name) for kind in old for name in _OF[kind]}
        return replace(now, image=image, seconds=(stamp_ns - self._first_ns) / _NS, **gone)

    def _camera_info(self, message) -> dict:
        self._info = (message.width, message.height), np.reshape(message.k, (3, 3))
        return {}

    def _camera_pose(self, message) -> dict:
        position, turn = message.pose.position, message.pose.orientation
        self._pose = np.array([position.x, position.y, position.z]), rotation(turn.x, turn.y, turn.z, turn.w)
        return {}

    def _physics(self, message) -> dict:
        return {'physics': np.asarray(message.data[1:])}

    def _handle(self, message) -> dict:
        self._said_ns['handle'] = _stamp_ns(message)
        return {'handle': (message.point.x, message.point.y, message.point.z)}

    def _futures(self, message) -> dict:
        self._said_ns['futures'] = _stamp_ns(message)
        try:
            points, covariances = self._readout(decode_futures(*_cloud(message)))
        except EngineError:
            points, covariances = _NOTHING.points, _NOTHING.covariances
        return {'points': points, 'covariances': covariances}

    def _latents(self, message) -> dict:
        surprise = decode_latents(*_cloud(message)).surprise
        known = surprise[np.isfinite(surprise)]
        return {'surprise': float(known.mean()) if known.size else float('nan')}

    def _path(self, message) -> dict:
        self._said_ns['path'] = _stamp_ns(message)
        return {'path': self._in_image([pose.pose.position for pose in message.poses])}

    def _intercept(self, message) -> dict:
        self._said_ns['intercept'] = self._said_ns.get('path', 0)  # its own stamp is when they will meet
        found = self._in_image([message.pose.pose.position])
        return {'intercept': found[0] if len(found) else np.zeros(0)}

    def _in_image(self, places) -> np.ndarray:
        if self._info is None or self._pose is None or not places:
            return np.zeros((0, 2))
        try:
            camera = Calibration(*self._info, *self._pose)
            return camera.to_image(np.array([(place.x, place.y, place.z) for place in places]))
        except CalibrationError:
            return np.zeros((0, 2))


def chosen(all_: list[float], picked: list[float]) -> tuple[float, float]:
    """
    Choose what a film shows of a long run.

    :param all_: seconds of its frames.
    :param picked: seconds at which a bin was taken.
    :return: first and last second: up to the last pick and a little longer, at most LONGEST in all.
    """
    end = all_[-1] if all_ else 0.0
    if end <= LONGEST:
        return 0.0, end
    last = min(end, picked[-1] + 3.0) if picked else end
    return max(0.0, last - LONGEST), max(last, LONGEST)


class Painter:
    """
    Draws moments.

    :param seed: of the cell that ran.
    :param title: in the film's lower left corner.
    """

    def __init__(self, seed: int, title: str):
        self._cell = ConveyorCell(seed, PANEL[::-1], 20.0, fine=True, camera='overview')
        self._title = title
        self._surprise: list[float] = []

    def close(self) -> None:
        """Free the renderer."""
        self._cell.close()

    def draw(self, moment: Moment) -> np.ndarray:
        """:return: RGB uint8 [STRIP + 480, 1280, 3]."""
        sheet = Canvas(2 * PANEL[0], PANEL[1] + STRIP, PAPER)
        sheet.image(self._overview(moment), 0, 0, *PANEL)
        self._seen(sheet.part(PANEL[0], 0, *PANEL), moment)
        self._words(sheet, moment)
        return sheet.picture()

    def _overview(self, moment: Moment) -> np.ndarray:
        if moment.physics is not None:
            try:
                self._cell.show(moment.physics)
            except SimError:
                pass  # a run of another version: the cell is shown as it begins
        return self._cell.render()

    def _seen(self, panel: Canvas, moment: Moment) -> None:
        size = np.array(PANEL)
        panel.image(moment.image, 0, 0, *PANEL)
        if moment.handle is not None:
            at, seen = np.array(moment.handle[:2]) * size, moment.handle[2] > 0
            for way in ((9, 0), (0, 9)):
                panel.line([at - way, at + way], TRUE if seen else (150, 150, 150), 1.2)
        points = moment.points * size
        for i, (point, covariance) in enumerate(zip(points, moment.covariances)):
            if i in (0, len(points) - 1):
                panel.line(_ellipse(point, covariance * np.outer(size, size)), EXPECTED, 1.5)
            panel.circle(point, 3, EXPECTED)
        if len(moment.path):
            panel.line(moment.path * size, PATH, 2.5)
        if len(moment.intercept):
            x, y = moment.intercept * size
            panel.line([(x - 9, y), (x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y)], MEET, 2.5)
        legend = [('expected, 90 % at first and last', EXPECTED), ('path', PATH), ('to be met', MEET),
                  ('true handle', TRUE)]
        x = MARGIN
        panel.rectangle(0, PANEL[1] - 24, PANEL[0], 24, (0, 0, 0))
        for text, colour in legend:
            panel.circle((x + 4, PANEL[1] - 12), 4, colour)
            panel.text(text, x + 14, PANEL[1] - 8, 12, INK)
            x += 34 + 7.2 * len(text)

    def _words(self, sheet: Canvas, moment: Moment) -> None:
        top = PANEL[1]
        sheet.text(moment.state.split(':')[0] or 'starting', MARGIN, top + 36, 26, INK, bold=True)
        sheet.text(f'bin {moment.bin_state or "none"}, belt {moment.belt or "?"}', MARGIN, top + 60, 14, GREY)
        sheet.text(self._title, MARGIN, top + 82, 13, GREY)
        sheet.text(f'{moment.taken} picked', PANEL[0] - MARGIN, top + 36, 26, MEET if moment.taken else INK, 'right',
                   bold=True)
        sheet.text(f'{moment.seconds:.1f} s', PANEL[0] - MARGIN, top + 60, 14, GREY, 'right')
        self._surprise = [*self._surprise, moment.surprise][-200:]
        known = np.array(self._surprise)
        left, width, base, tall = PANEL[0] + MARGIN, PANEL[0] - 2 * MARGIN, top + STRIP - 12, 48
        value = f'{moment.surprise:.3f}' if np.isfinite(moment.surprise) else 'no forecast yet'
        sheet.text(f'surprise {value}', left, top + 24, 14, INK)
        if np.isfinite(known).any():
            scale = tall / max(float(np.nanmax(known)), 1e-6)
            x = left + width * (np.arange(len(known)) + 200 - len(known)) / 199
            line = np.stack([x, base - np.clip(known * scale, 0, tall)], axis=1)
            sheet.line([(left, base), (left + width, base)], (60, 66, 74), 1)
            sheet.line(line[np.isfinite(known)], EXPECTED, 1.5)


def write_film(path: Path, run: Iterator[Moment], painter: Painter, fps: float) -> Iterator[np.ndarray]:
    """
    Write moments as H.264, a file that appears when it is whole.

    :param fps: frames per second.
    :return: an iterator that draws one frame at each step and yields it, RGB uint8.
    """
    import av

    part = path.with_name(f'.{path.name}.part.mp4')
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(part), 'w', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream('libx264', rate=rate)
        stream.width, stream.height, stream.pix_fmt = 2 * PANEL[0], PANEL[1] + STRIP, 'yuv420p'
        stream.options = {'crf': '26', 'preset': 'fast'}
        for moment in run:
            picture = painter.draw(moment)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
            yield picture
        container.mux(stream.encode())
    part.replace(path)


def poster(picture: np.ndarray, width: int = 960) -> bytes:
    """Return a picture as JPEG. :param picture: RGB uint8."""
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Return the rotation of a quaternion, float64 [3, 3]."""
    axis = np.array([x, y, z])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (w * w - axis @ axis) * np.eye(3) + 2 * np.outer(axis, axis) + 2 * w * cross


def _ellipse(centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    values, axes = np.linalg.eigh(covariance)
    angles = np.linspace(0, 2 * np.pi, 49)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    radii = np.sqrt(ELLIPSE * np.clip(values, 0, None))
    return centre + (axes @ (radii[:, None] * circle)).T


def _stamp_ns(message) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def _cloud(message) -> tuple:
    return (message.height, message.width, message.fields, message.point_step, message.row_step,
            message.is_bigendian, message.data, _stamp_ns(message))

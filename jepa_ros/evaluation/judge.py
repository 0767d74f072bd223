# SPDX-License-Identifier: Apache-2.0
"""
How good futures are: skill of the latents, error and honesty of the readout.

A forecast is compared with what the same encoder sees later, at the slice nearest to the horizon within half
a slice; nothing is compared across a break.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field

import numpy as np

from jepa_ros.data import signals
from jepa_ros.data.bags import RecordingError
from jepa_ros.data.frames import Recording
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import LATENT_MEAN
from jepa_ros.engine.readout import Readout
from jepa_ros.evaluation.offline import Step
from jepa_ros.gaussian import ELLIPSE
from jepa_ros.images import ImageError
from jepa_ros.latents import pool
from jepa_ros.skill import Matcher, SkillTable

_log = logging.getLogger(__name__)

LABEL_REACH_NS = 20_000_000  # labels come with every frame; 20 ms is half a frame at 25 Hz


@dataclass
class PointErrors:
    """
    Readout against labels at one horizon.

    :param error: distances in shares of the image's width.
    :param hidden: whether the point was hidden at the time that was predicted.
    :param inside: whether the label lay in the predicted 90 % ellipse.
    :param hold: distances of a forecast that holds the last visible label.
    """

    error: list[float] = field(default_factory=list)
    hidden: list[bool] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    hold: list[float] = field(default_factory=list)

    def extend(self, other: PointErrors) -> None:
        """Add the errors of another recording."""
        for name, values in asdict(other).items():
            getattr(self, name).extend(values)

    def row(self, horizon):
        """Medians and the share inside, in view and hidden; None where there was nothing of a kind."""
        hidden = np.array(self.hidden, bool)
        row = {'horizon': horizon, 'count': len(self.error)}
        for name, chosen in (('visible', ~hidden), ('hidden', hidden)):
            row[f'{name}_count'] = int(chosen.sum())
            for key, values in (('error', self.error), ('hold_error', self.hold)):
                row[f'{name}_{key}'] = float(np.median(np.array(values)[chosen])) if chosen.any() else None
            row[f'{name}_inside_90'] = float(np.array(self.inside)[chosen].mean()) if chosen.any() else None
        return row


@dataclass(frozen=True)
class Labels:
    """
    Where a point really was.

    :param stamps_ns: int64 [M], ascending.
    :param xy: float64 [M, 2], 0..1 of the received image.
    :param visible: bool [M].
    :param aspect: height of the received image in its widths, the unit of errors.
    """

    stamps_ns: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    aspect: float = 1.0

    @classmethod
    def read(cls, recording: Recording, topic: str) -> Labels | None:
        """
        Read a topic, see `data.signals.points`; None, and a warning, where there is none, or nothing of it in the picture.
        """
        try:
            found = [each for each in signals.points(recording, topic) if ((each[1] >= 0) & (each[1] <= 1)).all()]
        except RecordingError as error:  # no such topic, or of another type
            _log.warning('the readout is not judged: %s', error)
            return None
        if not found:
            _log.warning('the readout is not judged: nothing of %s in %s is in the picture', topic, recording.name)
            return None
        stamps, xy, visible = zip(*sorted(found, key=lambda each: each[0]))
        return cls(np.array(stamps, np.int64), np.array(xy), np.array(visible), _aspect(recording))


def _aspect(recording: Recording) -> float:
    """Return height / width of the first frame that decodes; 1 where none does, and nothing is judged."""
    for frame in recording.frames():
        try:
            height, width = frame.image().shape[:2]
        except ImageError:
            continue
        return height / width
    return 1.0


class Judge:
    """
    Collects skill and point errors over one recording, or over many.

    :param horizons: float [K] (s) of the futures.
    :param mean: float [D], the training mean of the latents.
    :param slice_period: s.
    :param comparable: whether the futures live in the space of the latents; else they have no skill.
    """

    def __init__(self, horizons, mean, slice_period, comparable=True):
        self._comparable = comparable
        self.skill, self.horizons = SkillTable(horizons, mean), horizons
        self.points, self._near = [PointErrors() for _ in horizons], 0.5 * slice_period
        self.forget()

    @classmethod
    def of(cls, bundle: Bundle, horizons) -> Judge:
        """Return one for a bundle; a bundle that says no training mean is taken to have a mean of zero."""
        file = bundle.path / LATENT_MEAN
        mean = np.load(file) if file.exists() else np.zeros(bundle.manifest.latent_dim, np.float32)
        return cls(horizons, mean, bundle.manifest.slice_period, bundle.manifest.future_space == 'latents')

    def see(self, step: Step) -> None:
        """Compare what was forecast for now with what is seen now."""
        if step.reset:
            self.forget()
        for match in self._matcher.latents(step.latents):
            self.skill.add(
                [[match.horizon]],
                match.predicted[None, None],
                match.now.tokens[None],
                match.then.tokens[None, None],
            )
        if step.futures is not None and self._comparable:
            self._matcher.futures(step.futures)

    def point(self, futures, points, labels: Labels) -> None:
        """Compare the readout's points (xy [K, 2], covariances [K, 2, 2]) with the labels at their times."""
        stamps, xy, visible = labels.stamps_ns, labels.xy, labels.visible
        before = np.flatnonzero((stamps <= futures.stamp_ns) & visible)
        if not len(before):
            return
        held, widths = xy[before[-1]], (1, labels.aspect)
        for errors, horizon, point, covariance in zip(self.points, futures.horizons, *points):
            at = futures.stamp_ns + round(float(horizon) * 1e9)
            nearest = int(np.abs(stamps - at).argmin())
            if abs(stamps[nearest] - at) > LABEL_REACH_NS:
                continue
            off = xy[nearest] - point
            errors.error.append(float(np.hypot(*(off * widths))))
            errors.hidden.append(bool(not visible[nearest]))
            errors.inside.append(bool(off @ np.linalg.solve(covariance.astype(float), off) <= ELLIPSE))
            errors.hold.append(float(np.hypot(*((xy[nearest] - held) * widths))))

    def forget(self) -> None:
        """Nothing is compared across a break."""
        self._matcher = Matcher(self._near)

    def report(self) -> dict:
        """The rows so far."""
        return {
            'skill': self.skill.rows(),
            'points': [errors.row(float(h)) for errors, h in zip(self.points, self.horizons) if errors.error],
        }

    def sums(self) -> dict:
        """Everything so far, to be kept; `add` of another judge with the same horizons takes it."""
        return {'skill': self.skill.sums(), 'points': [asdict(errors) for errors in self.points]}

    def add(self, sums: dict) -> None:
        """Add what another judge gave as `sums`."""
        self.skill.add_sums(sums['skill'])
        for errors, more in zip(self.points, sums['points']):
            errors.extend(PointErrors(**more))


class PointReader:
    """The readout of a bundle on futures of the whole grid.

    :param bundle: one that has a readout.
    """

    def __init__(self, bundle: Bundle):
        self._readout, self._manifest = Readout.open(bundle), bundle.manifest

    def __call__(self, futures):
        """:returns: points float32 [K, 2] in 0..1 of the received image, covariances float32 [K, 2, 2]."""
        return self._readout(pool(futures, self._manifest.readout.publish, self._manifest.grid))

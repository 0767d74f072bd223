# SPDX-License-Identifier: Apache-2.0
"""
How good a bundle's futures are on recordings: skill of the latents, error and honesty of the readout.

The bundle itself is judged, through the same window and session as in the node. A forecast is compared with what the
same encoder sees later, at the slice nearest to the horizon within half a slice; nothing is compared across a reset.
"""

from dataclasses import dataclass, field

import numpy as np

from jepa_ros.data.recordings import RecordingError, open_recording
from jepa_ros.data.sequences import find_recordings
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import LATENT_MEAN
from jepa_ros.engine.readout import Readout
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.offline import run_recording
from jepa_ros.skill import Matcher, SkillTable

CHI2_90 = 4.605  # 90 % of a Gaussian in the plane lies within this squared Mahalanobis distance


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


def evaluate(bundle, patterns, topic=None, label_topic=None, threads=0, progress=lambda items: items):
    """
    Judge a bundle's forecasts.

    :param bundle: `Bundle`, path or name.
    :param patterns: recordings, folders or globs.
    :param topic: camera topic of the bags, where they have several.
    :param label_topic: topic of the readout's true image point (geometry_msgs/PointStamped), None: no readout rows.
    :returns: list of dicts per recording, then one for all together: name, slices, skill rows, point rows.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    session = open_session(bundle, threads=threads, surprise=False)
    readout = Readout.open(bundle) if bundle.manifest.readout and label_topic else None
    horizons = session.check_horizons(None)
    mean_file = bundle.path / LATENT_MEAN
    mean = np.load(mean_file) if mean_file.exists() else np.zeros(bundle.manifest.latent_dim, np.float32)
    reports, total = [], _Judge(horizons, mean, bundle.manifest.slice_period)
    for path in progress(find_recordings(patterns)):
        recording = open_recording(path, topic)
        judge = _Judge(horizons, mean, bundle.manifest.slice_period)
        labels = _labels(recording, label_topic) if readout else None
        count = 0
        for step in run_recording(session, recording):
            count += 1
            for each in (judge, total):
                if step.reset:
                    each.forget()
                each.see(step)
            if labels is not None and step.futures is not None:
                points = readout(step.futures)
                for each in (judge, total):
                    each.point(step.futures, points, labels)
        reports.append({'recording': recording.name, 'slices': count, **judge.report()})
        for each in (judge, total):
            each.forget()
    reports.append({'recording': 'all', 'slices': sum(r['slices'] for r in reports), **total.report()})
    return reports


class _Judge:
    """Collects skill and point errors over one or many recordings."""

    def __init__(self, horizons, mean, slice_period):
        self.skill, self.horizons = SkillTable(horizons, mean), horizons
        self.points, self._near = [PointErrors() for _ in horizons], 0.5 * slice_period
        self.forget()

    def see(self, step):
        """Compare what was forecast for now with what is seen now."""
        for match in self._matcher.latents(step.latents):
            self.skill.add([[match.horizon]], match.predicted[None, None], match.now.tokens[None],
                           match.then.tokens[None, None])
        if step.futures is not None:
            self._matcher.futures(step.futures)

    def point(self, futures, points, labels):
        """Compare the readout's points with the labels at their times."""
        stamps, xy, visible = labels
        before = np.flatnonzero((stamps <= futures.stamp_ns) & visible)
        if not len(before):
            return
        held = xy[before[-1]]
        for errors, horizon, point, covariance in zip(self.points, futures.horizons, *points):
            at = futures.stamp_ns + round(float(horizon) * 1e9)
            nearest = int(np.abs(stamps - at).argmin())
            if abs(stamps[nearest] - at) > 20_000_000:  # labels come with every frame; 20 ms is half a frame at 25 Hz
                continue
            off = xy[nearest] - point
            errors.error.append(float(np.hypot(*off)))
            errors.hidden.append(not visible[nearest])
            errors.inside.append(bool(off @ np.linalg.solve(covariance.astype(float), off) <= CHI2_90))
            errors.hold.append(float(np.hypot(*(xy[nearest] - held))))

    def forget(self):
        """Nothing is compared across a break."""
        self._matcher = Matcher(self._near)

    def report(self):
        """The rows so far."""
        return {'skill': self.skill.rows(),
                'points': [errors.row(float(h)) for errors, h in zip(self.points, self.horizons) if errors.error]}


def _labels(recording, topic):
    """Stamps int64 [M], points float64 [M, 2] and visibility bool [M] of a label topic, or None where it has none."""
    try:
        messages = [message for _, message in recording.messages(topic)]
    except RecordingError:
        return None
    if not messages:
        return None
    stamps = np.array([m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages], np.int64)
    xyz = np.array([[m.point.x, m.point.y, m.point.z] for m in messages])
    return stamps, xyz[:, :2], xyz[:, 2] > 0.5

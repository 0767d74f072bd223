# SPDX-License-Identifier: Apache-2.0
"""How good a bundle's futures are on recordings, one by one and all together (`jepa evaluate forecast`)."""

from jepa_ros.data.recordings import open_recording
from jepa_ros.data.sequences import find_recordings
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.judge import Judge, Labels, PointReader
from jepa_ros.evaluation.offline import OfflineRun


def evaluate(bundle, patterns, topic=None, label_topic=None, threads=0, progress=lambda items: items):
    """
    Judge a bundle's forecasts.

    :param bundle: `Bundle`, path or name.
    :param patterns: recordings, folders or globs.
    :param topic: camera topic of the bags, where they have several.
    :param label_topic: topic of the readout's true image point (PointStamped or PoseStamped), None: no readout
        rows.
    :returns: list of dicts per recording, then one for all together: name, slices, skill rows, point rows.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    session = open_session(bundle, threads=threads, surprise=False)
    read_point = PointReader(bundle) if bundle.manifest.readout and label_topic else None
    horizons = session.check_horizons(None)
    reports, total = [], Judge.of(bundle, horizons)
    for path in progress(find_recordings(patterns)):
        recording = open_recording(path, topic)
        judge = Judge.of(bundle, horizons)
        labels = Labels.read(recording, label_topic) if read_point else None
        count = 0
        for step in OfflineRun(session, recording):
            count += 1
            judge.see(step)
            if labels is not None and step.futures is not None:
                judge.point(step.futures, read_point(step.futures), labels)
        reports.append({'recording': recording.name, 'slices': count, **judge.report()})
        total.add(judge.sums())
    reports.append({'recording': 'all', 'slices': sum(r['slices'] for r in reports), **total.report()})
    return reports

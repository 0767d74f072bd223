# SPDX-License-Identifier: Apache-2.0
"""
The offline run: every frame is accounted for, one bad slice ends nothing, and the durations belong to the
stages.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import START_NS, image_message

from jepa_ros.data.frames import RecordedFrame, Recording
from jepa_ros.engine.backends import EngineError
from jepa_ros.engine.session import open_session
from jepa_ros.evaluation.offline import OfflineRun, decode
from jepa_ros.images import fit


class Frames(Recording):
    """A recording made of a list of (stamp, log time) in ns, black pictures throughout."""

    def __init__(self, times, size=(48, 64)):
        self.times, self._size, self.warnings = times, size, []

    def frames(self):
        height, width = self._size
        for stamp, log in self.times:
            yield RecordedFrame(
                stamp, log, 'lens', np.zeros(height * width * 3, np.uint8), 'rgb8', height, width, 3 * width
            )


@pytest.fixture(scope='module')
def session(tiny):
    return open_session(tiny, threads=1)


@settings(max_examples=25)
@given(steps=st.lists(st.integers(-400, 400), min_size=1, max_size=40))
def test_whatever_the_stamps_every_frame_is_in_one_count_and_every_step_has_a_duration(session, steps):
    stamps = START_NS + np.cumsum(steps) * 1_000_000
    logs = START_NS + np.arange(len(steps)) * 50_000_000
    run = OfflineRun(session, Frames(list(zip(stamps.tolist(), logs.tolist()))))
    found = list(run)
    assert sum(run.counts.values()) == len(run.arrivals) == len(run.seconds['read']) == len(steps)
    assert len(run.seconds['encode']) == len(found) and run.counts['overrun'] == 0
    assert len(run.seconds['decode']) == sum(a.decode_s is not None for a in run.arrivals)
    assert sum(step.futures is not None for step in found) == len(run.seconds['forecast'])
    assert sum(step.reset is not None for step in found) <= sum(run.resets.values())
    assert all(a.time <= b.time for a, b in zip(run.arrivals, run.arrivals[1:]))
    assert run.recorded_s > run.arrivals[-1].time - 1e-9


def test_a_step_that_fails_is_counted_and_the_stream_goes_on(session, monkeypatch):
    times = [(START_NS + i * 50_000_000,) * 2 for i in range(20)]
    healthy, real = [step.latents.stamp_ns for step in OfflineRun(session, Frames(times))], session._encode
    calls = []

    def sometimes(frames):
        calls.append(frames)
        if len(calls) == 3:
            raise EngineError('expected finite latents from the encoder, found NaN or infinity')
        return real(frames)

    monkeypatch.setattr(session, '_encode', sometimes)
    run = OfflineRun(session, Frames(times))
    assert [step.latents.stamp_ns for step in run] == healthy[:2] + healthy[3:]
    assert run.faults == {'step': 1} and 'NaN' in run.first_fault['step']


def test_what_the_backend_breaks_by_itself_is_not_hidden(session, monkeypatch):
    monkeypatch.setattr(session, '_encode', lambda frames: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(OfflineRun(session, Frames([(START_NS + i * 50_000_000,) * 2 for i in range(4)])))


@pytest.mark.parametrize('compressed', [False, True])
def test_a_frame_is_decoded_as_the_node_decodes_it_bit_for_bit(compressed):
    message = image_message(7, START_NS, compressed, size=(60, 100))
    if compressed:
        frame = RecordedFrame(1, 1, '', message.data, format=message.format)
    else:
        frame = RecordedFrame(
            1, 1, '', message.data, message.encoding, message.height, message.width, message.step
        )
    image, geometry = decode(frame, (32, 48))
    expected, place = fit(frame.image(), (32, 48))
    assert (image == expected).all() and geometry == place


def test_every_frame_is_shown_to_the_watch_before_it_is_judged(session):
    seen = []
    list(OfflineRun(session, Frames([(0, 5), (0, 6)]), watch=seen.append))
    assert [frame.log_ns for frame in seen] == [5, 6]

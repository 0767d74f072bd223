# SPDX-License-Identifier: Apache-2.0
"""Tables beside a recording: by frame or by time, one track or several, and what is wrong with one named."""

from pathlib import Path

import numpy as np
import pytest

from jepa_ros.data.bags import RecordingError
from jepa_ros.data.signals import FrameTimes
from jepa_ros.data.tables import read_table, table_of

STAMPS = np.arange(1, 6, dtype=np.int64) * 10**9


def table(tmp_path, text):
    path = tmp_path / 'table.csv'
    path.write_text(text)
    return path


def test_frames_are_counted_and_tracks_stand_beside_each_other(tmp_path):
    text = 'frame,track,x,y\n0,b,1,2\n0,a,3,4\n2,a,7,8\n9,a,0,0\n'
    found = read_table(table(tmp_path, text), STAMPS)
    assert found.names == ['x_a', 'y_a', 'x_b', 'y_b']
    assert found.stamps_ns.tolist() == [10**9, 3 * 10**9], 'the recording has no frame 9'
    np.testing.assert_array_equal(found.table, [[3, 4, 1, 2], [7, 8, np.nan, np.nan]])


def test_times_count_from_the_first_frame_and_are_interpolated(tmp_path):
    found = read_table(table(tmp_path, 'time,force\n0,1\n1,2\n2,4\n'), STAMPS)
    at = np.array([1.5e9, 2.5e9], np.int64)
    np.testing.assert_allclose(found.at(FrameTimes(at, at)), [[1.5], [3.0]])


def test_a_star_is_the_recording(tmp_path):
    video = tmp_path / 'flies.mp4'
    video.touch()
    assert table_of('*_tracks.csv', video) == tmp_path / 'flies_tracks.csv'
    assert table_of('*.csv', tmp_path) == Path(f'{tmp_path}.csv') and table_of('a.csv', video) == Path('a.csv')


@pytest.mark.parametrize(
    'text, words',
    [
        ('', 'found none'),
        ('x,y\n1,2\n', 'found x, y'),
        ('frame\n1\n', 'found frame'),
        ('frame,x\n0,1\n1,left\n', 'line 3'),
        ('frame,x\n0.5,1\n', 'line 2'),
        ('frame,x\n0\n', None),
    ],
)
def test_what_is_no_such_table_is_one_sentence(tmp_path, text, words):
    path = table(tmp_path, text)
    if words is None:  # an empty place is an unknown value
        assert np.isnan(read_table(path, STAMPS).table).all()
        return
    with pytest.raises(RecordingError, match=words):
        read_table(path, STAMPS)


def test_no_table(tmp_path):
    with pytest.raises(RecordingError, match='nowhere.csv'):
        read_table(tmp_path / 'nowhere.csv', STAMPS)

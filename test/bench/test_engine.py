# SPDX-License-Identifier: Apache-2.0
"""``jepa bench engine``: what it computes, what it says of what cannot be measured, and its arithmetic."""

import json

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxscript')

from jepa_ros.bench import engine  # noqa: E402
from jepa_ros.cli import main  # noqa: E402


def test_the_operations_are_those_of_the_published_windows():
    """GFLOP of 16 frames at 256: matrix products of the blocks and of the patch embedding."""
    for size, gflop in (('tiny', 62), ('small', 167), ('base', 507), ('large', 1656)):
        assert round(engine.window_gflop(size, 256, 16)) == pytest.approx(gflop, abs=1)


def test_subjects_take_turns_and_warm_up_does_not_count():
    order = []

    def subject(name):
        def measure():
            order.append(name)
            return float(len(order))
        return measure

    times = engine._take_turns({'a': subject('a'), 'b': subject('b')}, 2)
    assert order == ['a', 'b'] * (engine.WARM_UP + 2)
    assert times == {'a': [7.0, 9.0], 'b': [8.0, 10.0]}


def test_the_least_cosine_is_that_of_the_worst_token():
    expected = np.eye(2, 3, dtype=np.float32)[None]
    found = expected.copy()
    found[0, 1] = (0, 3, 4)
    differences = engine._differences(expected, found)
    assert differences['cosine'] == pytest.approx(0.6) and differences['error'] == 4


@pytest.mark.slow  # twelve layers are exported: no published size has fewer
def test_every_backend_of_the_cpu_is_measured_and_agrees(tmp_path, capsys):
    file = tmp_path / 'figures.json'
    assert main(['bench', 'engine', '--image-size', '32', '--frames', '4', '--rounds', '2', '--threads', '1',
                 '--json', str(file)]) == 0
    figures = json.loads(file.read_text())
    (model,), told = figures['models'], capsys.readouterr().out
    rows = {row['name']: row for row in model['subjects']}
    measured = {name for name, row in rows.items() if 'milliseconds' in row}
    assert {'torch-cpu', 'onnxruntime-cpu'} <= measured and rows['torch-cpu']['ratio'] == 1
    for name in measured:
        row = rows[name]
        assert row['cosine'] > (0.999 if name == 'openvino' else 0.99999)
        assert row['gflop_s'] == pytest.approx(1e3 * model['gflop'] / row['milliseconds'])
        assert row['of_matrix_rate'] == pytest.approx(row['gflop_s'] / model['matrix_gflop_s'])
    assert model['matrix_gflop_s'] > 0
    if not engine.has_gpu():
        assert set(engine.ON_GPU).isdisjoint(measured)
        assert 'not measured: no GPU that torch can use' in told
        assert 'not measured: expected an NVIDIA GPU' in told


def test_wrong_arguments_are_one_sentence(capsys):
    for wrong, words in ((['--subjects', 'abacus'], "found 'abacus'"), (['--frames', '3'], 'found 3 and 256'),
                         (['--models', 'vast'], "found 'vast'")):
        assert main(['bench', 'engine', *wrong]) == 2
        assert words in capsys.readouterr().err

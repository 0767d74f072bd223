# SPDX-License-Identifier: Apache-2.0
"""Opening and running graphs through the registry of backends."""

import sys

import numpy as np
import pytest
from bundles import make_bundle

import jepa_ros.engine.backends as backends
from jepa_ros.engine.backends import EngineError, Tensor, open_graph


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp('backends') / 'bundle')


def feeds(dt=(0.1, 0.2)):
    return {'context': np.ones((3, 48, 16), np.float32), 'times': np.array([-0.2, -0.1, 0], np.float32),
            'dt': np.array(dt, np.float32)}


@pytest.mark.parametrize('backend', ['auto', *backends.BACKENDS])
def test_every_backend_runs_the_same_graph(path, backend):
    graph = open_graph(path / 'forecaster.onnx', backend, threads=1)
    assert list(map(str, graph.inputs)) == [
        'context float32 [3,48,16]', 'times float32 [3]', 'dt float32 [?]']
    assert [str(t) for t in graph.outputs] == ['futures float32 [?,48,16]']
    outputs = graph.run(feeds())
    np.testing.assert_allclose(outputs['futures'], np.ones((2, 48, 16)), rtol=1e-5)


def test_the_free_length_is_free(path):
    graph = open_graph(path / 'forecaster.onnx')
    assert graph.run(feeds([0.3]))['futures'].shape == (1, 48, 16)
    assert graph.run(feeds(np.linspace(0.1, 0.5, 9)))['futures'].shape == (9, 48, 16)


def test_the_description_says_which_and_why(path):
    assert open_graph(path / 'readout.onnx', 'auto', 2).description.endswith(
        'on the CPU, threads: 2 (auto: the first that runs here)')
    named = open_graph(path / 'readout.onnx', 'onnxruntime').description
    assert named.endswith('on the CPU, threads: one per core')


def test_auto_passes_over_what_does_not_run_here_and_says_so(path, monkeypatch):
    monkeypatch.setattr(backends, 'BACKENDS', {'broken': 'broken_backend', **backends.BACKENDS})

    class Broken:
        @staticmethod
        def open_graph(path, threads):
            raise EngineError('no such device')

    monkeypatch.setitem(sys.modules, 'broken_backend', Broken)
    assert 'after no such device' in open_graph(path / 'readout.onnx').description
    with pytest.raises(EngineError, match='no such device'):
        open_graph(path / 'readout.onnx', 'broken')


def test_unknown_backend(path):
    with pytest.raises(EngineError, match="expected a backend of auto, onnxruntime, found 'cuda'"):
        open_graph(path / 'readout.onnx', 'cuda')


def test_threads_are_no_negative_number(path):
    with pytest.raises(EngineError, match='found -1'):
        open_graph(path / 'readout.onnx', 'auto', -1)


def test_a_missing_library_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineError, match='pip install onnxruntime'):
        open_graph(path / 'readout.onnx')


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / 'encoder.onnx').write_bytes(b'not a graph')
    with pytest.raises(EngineError, match='encoder.onnx: expected a graph for ONNX Runtime, found'):
        open_graph(tmp_path / 'encoder.onnx')


def test_wrong_feeds_are_one_sentence(path):
    graph = open_graph(path / 'forecaster.onnx')
    with pytest.raises(EngineError, match='expected the graph to run, found') as caught:
        graph.run({**feeds(), 'context': np.ones((2, 48, 16), np.float32)})
    assert '\n' not in str(caught.value)


def test_a_signature_that_differs_is_shown_beside_the_expected_one(path):
    graph = open_graph(path / 'readout.onnx')
    dt = Tensor('dt', (None,), np.dtype(np.float32))
    with pytest.raises(EngineError, match=r'readout.onnx: expected the inputs dt float32 ..., found futures'):
        graph.check('readout.onnx', [dt], list(graph.outputs))
    graph.check('readout.onnx', list(graph.inputs)[::-1], list(graph.outputs))


def test_threads_do_not_spin(path, monkeypatch):
    import onnxruntime
    entries = {}
    options = onnxruntime.SessionOptions

    class Recorded(options):
        def add_session_config_entry(self, key, value):
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, 'SessionOptions', Recorded)
    open_graph(path / 'readout.onnx')
    assert entries['session.intra_op.allow_spinning'] == '0'

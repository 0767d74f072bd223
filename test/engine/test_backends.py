# SPDX-License-Identifier: Apache-2.0
"""Opening and running graphs through the registry of backends."""

import sys
from pathlib import Path

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
    try:
        graph = open_graph(path / 'forecaster.onnx', backend, threads=1)
    except EngineError as error:
        if backend in ('auto', 'onnxruntime', 'onnxruntime-cpu'):
            raise
        pytest.skip(str(error))
    assert list(map(str, graph.inputs)) == [
        'context float32 [3,48,16]', 'times float32 [3]', 'dt float32 [?]']
    assert [str(t) for t in graph.outputs] == ['futures float32 [?,48,16]']
    outputs = graph.run(feeds())
    np.testing.assert_allclose(outputs['futures'], np.ones((2, 48, 16)), rtol=1e-5)
    outputs['futures'][:] = 0  # it is the caller's: the next run is not disturbed
    np.testing.assert_allclose(graph.run(feeds())['futures'], np.ones((2, 48, 16)), rtol=1e-5)


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
@pytest.mark.parametrize('backend', ['openvino-f32', 'openvino'])
def test_openvino_agrees_with_onnx_runtime(tmp_path, mode, backend):
    pytest.importorskip('openvino')
    path = make_bundle(tmp_path / 'bundle', mode) / 'encoder.onnx'
    reference, other = open_graph(path, 'onnxruntime-cpu', 1), open_graph(path, backend, 1)
    assert sorted(map(str, other.inputs)) == sorted(map(str, reference.inputs))
    assert list(map(str, other.outputs)) == list(map(str, reference.outputs))
    rng = np.random.default_rng(0)
    given = {t.name: (255 * rng.random(t.shape)).astype(t.dtype) if t.dtype == np.uint8
             else rng.normal(size=t.shape).astype(np.float32) for t in reference.inputs}
    expected, found = reference.run(given), other.run(given)
    for name, values in expected.items():
        error = np.linalg.norm(found[name] - values) / np.linalg.norm(values)
        assert error < (1e-5 if backend == 'openvino-f32' else 0.03), name
    assert ('in f32' in other.description) or backend == 'openvino'


def test_a_ring_is_what_the_graph_gave_slot_by_slot(tmp_path):
    """Beside a plain copy of the cache, for any order of slots and a clear in between."""
    graph = open_graph(make_bundle(tmp_path / 'bundle') / 'encoder.onnx', 'onnxruntime-cpu', 1)
    ring, rng = graph.ring('past', 'present', 3), np.random.default_rng(0)
    shape = next(t.shape for t in graph.inputs if t.name == 'past')
    past = np.zeros(shape, np.float32)
    for slot in (0, 1, 2, 0, None, 1):
        if slot is None:
            ring.clear()
            past[:] = 0
            continue
        given = {'frames': rng.integers(0, 256, (2, 96, 128, 3), np.uint8), 'bias': np.zeros(144, np.float32),
                 'rotary': rng.normal(size=(2, 4)).astype(np.float32)}
        expected, found = graph.run({**given, 'past': past}), ring.run(given, slot)
        assert list(found) == ['tokens']
        np.testing.assert_array_equal(found['tokens'], expected['tokens'])
        past[:, :, :, 48 * slot:48 * (slot + 1)] = expected['present']


def test_the_free_length_is_free(path):
    graph = open_graph(path / 'forecaster.onnx')
    assert graph.run(feeds([0.3]))['futures'].shape == (1, 48, 16)
    assert graph.run(feeds(np.linspace(0.1, 0.5, 9)))['futures'].shape == (9, 48, 16)


def test_the_description_says_which_and_why(path, real_auto):
    taken = open_graph(path / 'readout.onnx', 'auto', 2).description
    assert '(auto: the first that runs here' in taken and 'threads: 2' in taken or 'TensorRT' in taken
    named = open_graph(path / 'readout.onnx', 'onnxruntime-cpu').description
    assert named.endswith('on the CPU, threads: one per core')


def test_auto_passes_over_what_does_not_run_here_and_says_so(path, monkeypatch):
    monkeypatch.setattr(backends, 'BACKENDS', {'broken': 'broken_backend:open_graph', **backends.BACKENDS})
    monkeypatch.setattr(backends, 'AUTO', ('broken', 'onnxruntime-cpu'))

    class Broken:
        @staticmethod
        def open_graph(path, threads):
            raise EngineError('no such device')

    monkeypatch.setitem(sys.modules, 'broken_backend', Broken)
    assert 'after no such device' in open_graph(path / 'readout.onnx').description
    with pytest.raises(EngineError, match='no such device'):
        open_graph(path / 'readout.onnx', 'broken')


def test_unknown_backend(path):
    with pytest.raises(EngineError, match="expected a backend of auto, tensorrt, .*, found 'cuda'"):
        open_graph(path / 'readout.onnx', 'cuda')


def test_auto_takes_tensorrt_first_and_says_why_it_did_not(path, real_auto, monkeypatch):
    monkeypatch.setattr('jepa_ros.engine.backends.tensorrt.has_driver', lambda: False)
    description = open_graph(path / 'readout.onnx').description
    assert description.startswith('onnxruntime')
    assert description.endswith('(auto: the first that runs here after expected an NVIDIA GPU and its driver '
                                'for TensorRT, found none)')


def test_a_provider_that_is_not_there_is_named(path, monkeypatch):
    import onnxruntime
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    with pytest.raises(EngineError, match='an ONNX Runtime with CUDAExecutionProvider .*, found CPUEx'):
        open_graph(path / 'readout.onnx', 'onnxruntime-cuda')


def test_onnx_runtime_that_falls_back_silently_is_found_out(path, monkeypatch):
    """It lists CUDA wherever its build has it, and runs on the CPU without a word if CUDA does not start."""
    import onnxruntime
    asked, session = [], onnxruntime.InferenceSession

    def fall_back(model, options, providers):
        asked.append(providers)
        return session(model, options, providers=['CPUExecutionProvider'])

    built_with = [f'{name}ExecutionProvider' for name in ('Tensorrt', 'CUDA', 'CPU')]
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: built_with)
    monkeypatch.setattr(onnxruntime, 'InferenceSession', fall_back)
    description = open_graph(path / 'readout.onnx', 'onnxruntime').description
    assert 'on the CPU (expected ONNX Runtime to run on CUDA, found that it fell back' in description
    assert asked == [[('CUDAExecutionProvider', {'use_tf32': '0'}), 'CPUExecutionProvider'],
                     ['CPUExecutionProvider']]
    for backend, place in [('onnxruntime-cuda', 'CUDA'), ('onnxruntime-tensorrt', 'its TensorRT provider')]:
        with pytest.raises(EngineError, match=f'to run on {place}, found that it fell back to the CPU'):
            open_graph(path / 'readout.onnx', backend)
    engines = asked[-1][0][1]['trt_engine_cache_path']
    assert Path(engines).parent == path / 'plans' and Path(engines).is_dir()
    (path / 'plans' / 'readout.onnx').write_bytes((path / 'forecaster.onnx').read_bytes())  # others of the same name
    monkeypatch.setenv('JEPA_PLANS', str(path / 'plans'))
    with pytest.raises(EngineError, match='fell back'):
        open_graph(path / 'plans' / 'readout.onnx', 'onnxruntime-tensorrt')
    assert asked[-1][0][1]['trt_engine_cache_path'] != engines


def test_threads_are_no_negative_number(path):
    with pytest.raises(EngineError, match='found -1'):
        open_graph(path / 'readout.onnx', 'auto', -1)


def test_a_missing_library_says_what_to_install(path, monkeypatch):
    for name, backend in [('onnxruntime', 'onnxruntime'), ('openvino', 'openvino'), ('tensorrt', 'tensorrt')]:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr('jepa_ros.engine.backends.tensorrt.has_driver', lambda: True)
        with pytest.raises(EngineError, match=f"'pip install {name}'"):
            open_graph(path / 'readout.onnx', backend)


def test_a_provider_without_code_for_this_gpu_is_found_out(path, monkeypatch):
    """It starts, lists itself, and fails in the first run."""
    import onnxruntime
    session = onnxruntime.InferenceSession

    class Session(session):
        def __init__(self, model, options, providers):
            super().__init__(model, options, providers=['CPUExecutionProvider'])
            self._cuda = providers[0][0] == 'CUDAExecutionProvider'

        def get_providers(self):
            return ['CUDAExecutionProvider'] if self._cuda else super().get_providers()

        def run(self, names, feeds):
            if self._cuda:
                raise RuntimeError('no kernel image is available for execution on the device')
            return super().run(names, feeds)

    monkeypatch.setattr(onnxruntime, 'get_available_providers',
                        lambda: ['CUDAExecutionProvider', 'CPUExecutionProvider'])
    monkeypatch.setattr(onnxruntime, 'InferenceSession', Session)
    graph = open_graph(path / 'forecaster.onnx', 'onnxruntime')
    assert 'on the CPU (expected the graph to run, found no kernel image' in graph.description
    np.testing.assert_allclose(graph.run(feeds())['futures'], np.ones((2, 48, 16)), rtol=1e-5)
    with pytest.raises(EngineError, match='no kernel image is available'):
        open_graph(path / 'forecaster.onnx', 'onnxruntime-cuda')


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / 'encoder.onnx').write_bytes(b'not a graph')
    with pytest.raises(EngineError, match='encoder.onnx: expected a graph for ONNX Runtime, found'):
        open_graph(tmp_path / 'encoder.onnx', 'onnxruntime-cpu')


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

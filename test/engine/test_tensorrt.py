# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend: from ONNX to results, on a faked GPU, and on a real one where there is one."""

import gc
import logging
import sys
import threading

import numpy as np
import pytest
from bundles import make_bundle
from fake_gpu import FakeDriver, Machine, Result

import jepa_ros.engine.backends.tensorrt as backend
from jepa_ros.clip import Frames
from jepa_ros.engine.backends import EngineError, gpu, open_graph, plans
from jepa_ros.engine.session import open_session
from jepa_ros.images import centre_crop


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
    return {mode: make_bundle(tmp_path_factory.mktemp('bundles') / mode, mode)
            for mode in ('frame', 'clip', 'stream')}


@pytest.fixture
def path(tmp_path):
    return make_bundle(tmp_path / 'bundle')


def draw(graph, rng, k=3):
    """Random inputs for a graph."""
    return {t.name: rng.integers(0, 256, t.shape, np.uint8) if t.dtype == np.uint8
            else rng.normal(size=[k if n is None else n for n in t.shape]).astype(np.float32)
            for t in graph.inputs}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
@pytest.mark.parametrize('name', ['encoder', 'forecaster', 'readout'])
def test_every_graph_runs_again_and_again(machine, shipped, mode, name):
    """The first run is enqueued, the second recorded, all later ones are one launch each."""
    path = shipped[mode] / f'{name}.onnx'
    graph, reference = open_graph(path, 'tensorrt'), open_graph(path, 'onnxruntime-cpu', 1)
    assert sorted(map(str, graph.inputs)) == sorted(map(str, reference.inputs))
    assert sorted(map(str, graph.outputs)) == sorted(map(str, reference.outputs))
    rng = np.random.default_rng(0)
    for launches in (0, 1, 2):
        feeds = draw(graph, rng)
        outputs = graph.run(feeds)
        assert_equal(outputs, reference.run(feeds))
        for values in outputs.values():
            values[:] = np.nan  # they are the caller's
        assert machine.driver.launches == launches
    assert machine.driver.captures == 1


def test_another_number_of_horizons_is_recorded_anew(machine, path):
    graph, reference = (open_graph(path / 'forecaster.onnx', name)
                        for name in ('tensorrt', 'onnxruntime-cpu'))
    rng = np.random.default_rng(0)
    for k in (8, 8, 1, 1, 1, 64, 64, 8):
        feeds = draw(graph, rng, k)
        assert_equal(graph.run(feeds), reference.run(feeds))
    assert machine.driver.captures == 3 and machine.driver.launches == 4
    assert machine.trt.profiles[0].shapes == {'dt': ((1,), (8,), (64,))}


def test_without_a_cuda_graph_it_runs_all_the_same_and_says_so(machine, path, caplog):
    machine.driver.can_capture = False
    graph, reference = (open_graph(path / 'encoder.onnx', name) for name in ('tensorrt', 'onnxruntime-cpu'))
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds = draw(graph, rng)
        assert_equal(graph.run(feeds), reference.run(feeds))
    assert machine.driver.launches == 0 and graph.description.endswith('without a CUDA graph')
    assert caplog.text.count('CUDA_ERROR_STREAM_CAPTURE_INVALIDATED') == 1


def test_a_ring_stays_on_the_gpu(machine, path):
    """Slot after slot as on the host, though neither the cache nor what is new in it is ever copied there."""
    device, host = (open_graph(path / 'encoder.onnx', name).ring('past', 'present', 3)
                    for name in ('tensorrt', 'onnxruntime-cpu'))
    rng, copied = np.random.default_rng(0), []
    copy = machine.driver.cuMemcpyHtoDAsync
    machine.driver.cuMemcpyHtoDAsync = lambda *given: copied.append(given[2]) or copy(*given)
    for slot in (0, 1, 2, 0, 1, None, 0, 2):
        if slot is None:
            device.clear()
            host.clear()
            continue
        feeds = {'frames': rng.integers(0, 256, (2, 96, 128, 3), np.uint8), 'bias': np.zeros(144, np.float32),
                 'rotary': rng.normal(size=(2, 4)).astype(np.float32)}
        assert_equal(device.run(feeds, slot), host.run(feeds, slot))
    assert machine.driver.launches == 6
    past, present = 2 * 2 * 2 * 144 * 8 * 4, 2 * 2 * 2 * 48 * 8 * 4  # bytes
    assert not {past, present} & set(machine.driver.live[port.pinned.address]
                                     for port in device._graph._ports.values() if port.pinned)
    assert max(copied) == 2 * 96 * 128 * 3


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
def test_a_session_computes_what_it_computes_on_the_cpu(machine, shipped, mode):
    sessions = [open_session(shipped[mode], backend=name) for name in ('tensorrt', 'onnxruntime-cpu')]
    assert sessions[0].description.startswith('TensorRT 10.3.0 on Fake Orin (compute capability 8.7), plan ')
    rng, geometry = np.random.default_rng(0), centre_crop(128, 96, (96, 128))
    count = sessions[0].request.frames
    for step in range(6):
        stamps = (50_000_000 * (step * count + np.arange(count) + 1)).astype(np.int64)
        frames = Frames(rng.integers(0, 256, (count, 96, 128, 3), np.uint8), stamps, geometry,
                        'a jump' if step == 4 else None)
        latents = [session.step(frames) for session in sessions]
        np.testing.assert_array_equal(latents[0].tokens, latents[1].tokens)
        np.testing.assert_array_equal(latents[0].surprise, latents[1].surprise)
        futures = [session.forecast() for session in sessions]
        if futures[1] is not None:
            np.testing.assert_array_equal(futures[0].tokens, futures[1].tokens)


def test_the_second_start_takes_the_cached_plan(machine, path):
    assert open_graph(path / 'readout.onnx', 'tensorrt').description.endswith(', plan built')
    assert open_graph(path / 'readout.onnx', 'tensorrt').description.endswith(', plan cached')
    assert machine.trt.builds == 1


def change_version(machine, path):
    machine.trt.__version__ = '10.16.1'


def change_gpu(machine, path):
    machine.driver.name = 'Other Orin'


def change_capability(machine, path):
    machine.driver.capability = (8, 6)


def edit_one_byte(machine, path):
    content = bytearray(path.read_bytes())
    at = content.index(b'J\x04' + np.float32(8).tobytes())  # a weight: what is left is still a graph
    content[at + 2] ^= 1
    path.write_bytes(content)


def damage_plan(machine, path):
    plan, = (path.parent / 'plans').glob('*.plan')
    content = bytearray(plan.read_bytes())
    content[-20] ^= 1
    plan.write_bytes(content)


def refuse_plan(machine, path):
    machine.trt.refuse.add(b'plan:' + path.read_bytes())
    machine.trt.during_build = machine.trt.refuse.clear


@pytest.mark.parametrize('change', [change_version, change_gpu, change_capability, edit_one_byte, damage_plan,
                                    refuse_plan])
def test_a_plan_that_does_not_fit_is_rebuilt_and_not_trusted(machine, path, change):
    path = path / 'readout.onnx'
    open_graph(path, 'tensorrt')
    change(machine, path)
    assert open_graph(path, 'tensorrt').description.endswith(', plan built')
    assert machine.trt.builds == 2
    assert open_graph(path, 'tensorrt').description.endswith(', plan cached')


def test_plans_of_another_graph_are_removed_and_those_of_another_gpu_kept(machine, path):
    graph, cache = path / 'readout.onnx', path / 'plans'
    open_graph(graph, 'tensorrt')
    change_gpu(machine, graph)
    open_graph(graph, 'tensorrt')
    assert len(list(cache.glob('readout-*.plan'))) == 2
    open_graph(path / 'forecaster.onnx', 'tensorrt')
    edit_one_byte(machine, graph)
    open_graph(graph, 'tensorrt')
    assert len(list(cache.glob('readout-*.plan'))) == 1 and len(list(cache.glob('forecaster-*.plan'))) == 1


def test_a_runtime_that_refuses_its_own_plan_is_an_error(machine, path):
    machine.trt.refuse.add(b'plan:' + (path / 'readout.onnx').read_bytes())
    with pytest.raises(EngineError, match='readout.onnx: expected TensorRT to accept the plan that it'):
        open_graph(path / 'readout.onnx', 'tensorrt')
    assert not list((path / 'plans').glob('*.plan'))


def test_what_was_timed_is_used_again_unless_it_is_damaged(machine, path, caplog):
    open_graph(path / 'readout.onnx', 'tensorrt')
    timing, = (path / 'plans').glob('timing-*.cache')
    assert timing.name == 'timing-Fake_Orin_8_7_10_3_0.cache' and timing.read_bytes() == b'timed'
    open_graph(path / 'forecaster.onnx', 'tensorrt')
    timing.write_bytes(b'damaged')
    open_graph(path / 'encoder.onnx', 'tensorrt')
    assert machine.trt.timing_caches == [b'', b'timed', b'']
    assert 'TensorRT refuses the timing cache' in caplog.text


def test_a_file_that_is_no_graph_is_named(machine, tmp_path):
    (tmp_path / 'encoder.onnx').write_bytes(b'not a graph')
    with pytest.raises(EngineError, match='encoder.onnx: expected a graph that TensorRT can parse, found .*'):
        open_graph(tmp_path / 'encoder.onnx', 'tensorrt')


def test_a_graph_that_cannot_be_built_brings_tensorrts_own_words(machine, path, caplog):
    import onnx
    graph = path / 'readout.onnx'
    model = onnx.load(graph)
    model.doc_string = 'unbuildable'
    onnx.save(model, graph)
    with pytest.raises(EngineError, match='TensorRT 10.3.0 to build the graph, found no implementation'):
        open_graph(graph, 'tensorrt')
    assert list((path / 'plans').glob('*.plan')) == []


@pytest.mark.parametrize('wrong, words', [
    ({'context': np.ones((3, 48, 16), np.float64)}, 'context float64'),
    ({'context': np.ones((2, 48, 16), np.float32)}, r'context float32 \[2, 48, 16\] for context float32'),
    ({'dt': np.ones(65, np.float32)}, r'dt float32 \[65\] .* where \? is at most 64'),
    ({'dt': np.ones(0, np.float32)}, r'dt float32 \[0\]'),
    ({'more': np.ones(1)}, 'found inputs context, dt, more, times instead of context, dt, times')])
def test_wrong_feeds_are_one_sentence(machine, path, wrong, words):
    graph = open_graph(path / 'forecaster.onnx', 'tensorrt')
    feeds = draw(graph, np.random.default_rng(0))
    with pytest.raises(EngineError, match=words):
        graph.run({**feeds, **wrong})
    graph.run(feeds)


def test_inputs_that_contradict_each_other(machine, path):
    graph = open_graph(path / 'readout.onnx', 'tensorrt')
    feeds = draw(graph, np.random.default_rng(0))
    for _ in range(2):
        with pytest.raises(EngineError, match=r'that agree with each other, found futures \[3, 48, 16\], dt'):
            graph.run({**feeds, 'dt': np.ones(4, np.float32)})
    assert graph.run(feeds)['point'].shape == (3, 2)


def test_what_does_not_run_is_passed_over_by_auto(machine, real_auto, path):
    """The plan loads, but its code fails on this GPU: that shows when somebody waits for it."""
    machine.driver.cuStreamSynchronize = lambda stream: (Result.CUDA_ERROR_NO_DEVICE,)
    graph = open_graph(path / 'readout.onnx')
    assert graph.description.startswith('onnxruntime')
    assert 'after expected CUDA to work, found cuStreamSynchronize: CUDA_ERROR_NO_DEVICE' in graph.description


def test_an_error_of_cuda_is_one_sentence(machine, path):
    machine.driver.cuMemAlloc = lambda size: (Result.CUDA_ERROR_OUT_OF_MEMORY, None)
    with pytest.raises(EngineError, match='CUDA to work, found cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY'):
        open_graph(path / 'readout.onnx', 'tensorrt')


def test_an_engine_that_does_not_fit_into_memory_leaves_none_behind(machine, path):
    allocate, left = machine.driver.cuMemAlloc, [2]

    def exhausted(size):
        left[0] -= 1
        return allocate(size) if left[0] >= 0 else (Result.CUDA_ERROR_OUT_OF_MEMORY, None)

    machine.driver.cuMemAlloc = exhausted
    with pytest.raises(EngineError, match='CUDA_ERROR_OUT_OF_MEMORY'):
        open_graph(path / 'encoder.onnx', 'tensorrt')
    gc.collect()
    assert left[0] < 0 and not machine.driver.live


def test_all_memory_is_given_back(machine, path):
    graph = open_graph(path / 'encoder.onnx', 'tensorrt')
    for _ in range(2):
        graph.run(draw(graph, np.random.default_rng(0)))
    assert machine.driver.live
    del graph
    gc.collect()
    assert not machine.driver.live


@pytest.mark.parametrize('capture, launches', [(True, 4), (False, 0)])
def test_time_is_taken_between_events_and_without_copies(machine, path, capture, launches):
    machine.driver.can_capture = capture
    graph = open_graph(path / 'readout.onnx', 'tensorrt')
    measure = graph.timer(draw(graph, np.random.default_rng(0)))
    machine.driver.cuMemcpyHtoDAsync = machine.driver.cuMemcpyDtoHAsync = None
    assert [measure() for _ in range(4)] == [0.25] * 4
    assert machine.driver.launches == launches


def test_progress_is_told_and_the_log_has_a_heartbeat(machine, path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(plans, 'HEARTBEAT', 0.001)
    beaten, heard = [], threading.Event()

    class Beat(logging.Handler):
        def emit(self, record):
            if 'still building' in record.getMessage():
                beaten.append(record.getMessage())
                if 'Building engine 0 of 2' in beaten[-1]:  # the first beat may come before the phase
                    heard.set()

    handler = Beat()
    logging.getLogger('jepa_ros').addHandler(handler)
    machine.trt.during_build = lambda: heard.wait(60)
    told = []
    try:
        backend.prepare(path / 'readout.onnx', lambda *step: told.append(step))
    finally:
        logging.getLogger('jepa_ros').removeHandler(handler)
    assert told == [('Building engine', n, 2) for n in (0, 1, 2, 2)]
    assert heard.is_set() and all('readout.onnx' in line for line in beaten)


def test_an_interruption_ends_the_build(machine, path):
    """TensorRT swallows exceptions in its callbacks; Ctrl-C arrives in one of them."""
    def interrupt(phase, done, steps):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.prepare(path / 'readout.onnx', interrupt)
    assert machine.trt.builds == 0
    assert open_graph(path / 'readout.onnx', 'tensorrt').description.endswith(', plan built')


def test_a_process_that_is_to_end_stops_its_build(machine, real_auto, path, monkeypatch):
    """Nor is another backend tried, which the node would only have to close again."""
    monkeypatch.setattr(plans, 'ending', threading.Event())
    machine.trt.during_build = plans.ending.set
    with pytest.raises(plans.BuildStopped, match='readout.onnx: the build of its TensorRT plan was stopped'):
        open_graph(path / 'readout.onnx')
    assert machine.trt.builds == 0


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(backend, 'has_driver', lambda: True)
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineError, match="expected TensorRT 10.3 or later .*'pip install tensorrt'"):
        backend.here()
    monkeypatch.setitem(sys.modules, 'cuda', None)
    monkeypatch.setattr(gpu, 'has_driver', lambda: True)
    with pytest.raises(EngineError, match="expected cuda.bindings .'pip install cuda-bindings'"):
        gpu.open_gpu()
    monkeypatch.setattr(gpu, 'has_driver', lambda: False)
    with pytest.raises(EngineError, match='an NVIDIA GPU with its driver .libcuda.so.1., found none'):
        gpu.open_gpu()


def test_the_driver_is_looked_for_by_name(monkeypatch):
    monkeypatch.setattr(gpu, 'DRIVER', 'libc.so.6')
    assert gpu.has_driver()
    monkeypatch.setattr(gpu, 'DRIVER', 'libnothing.so.1')
    assert not gpu.has_driver()


def test_a_machine_without_a_gpu_of_its_driver(monkeypatch):
    """cuda.bindings raises where libcuda does not load, and returns a status where there is no device."""
    driver = FakeDriver()
    driver.cuDeviceGet = lambda ordinal: (Result.CUDA_ERROR_NO_DEVICE, None)
    with pytest.raises(EngineError, match='expected CUDA to work, found cuDeviceGet: CUDA_ERROR_NO_DEVICE'):
        gpu.Gpu(driver)

    def unloadable(flags):
        raise RuntimeError('libcuda.so.1 lacks\ncuInit')

    driver.cuInit = unloadable
    with pytest.raises(EngineError, match='found cuInit: libcuda.so.1 lacks cuInit'):
        gpu.Gpu(driver)


# On a real GPU

@pytest.fixture
def real(shipped):
    try:
        backend.prepare(shipped['frame'] / 'readout.onnx')
    except EngineError as error:
        pytest.skip(f'TensorRT does not run here: {error}')


@pytest.mark.parametrize('mode', ['frame', 'clip', 'stream'])
@pytest.mark.parametrize('name', ['encoder', 'forecaster', 'readout'])
def test_a_real_gpu_computes_what_the_cpu_computes(real, shipped, mode, name):
    path = shipped[mode] / f'{name}.onnx'
    graph, reference = open_graph(path, 'tensorrt'), open_graph(path, 'onnxruntime-cpu', 1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        feeds = draw(graph, rng)
        found, expected = graph.run(feeds), reference.run(feeds)
        for output in expected:
            np.testing.assert_allclose(found[output], expected[output], atol=1e-3, rtol=1e-3)
    assert 'without a CUDA graph' not in graph.description


def test_a_real_ring_stays_on_the_gpu(real, shipped):
    path = shipped['stream'] / 'encoder.onnx'
    rings = [open_graph(path, name).ring('past', 'present', 3) for name in ('tensorrt', 'onnxruntime-cpu')]
    rng = np.random.default_rng(0)
    for slot in (0, 1, 2, 0, 1):
        feeds = {'frames': rng.integers(0, 256, (2, 96, 128, 3), np.uint8), 'bias': np.zeros(144, np.float32),
                 'rotary': rng.normal(size=(2, 4)).astype(np.float32)}
        found, expected = (ring.run(feeds, slot)['tokens'] for ring in rings)
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)

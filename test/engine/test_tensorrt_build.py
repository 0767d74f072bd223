# SPDX-License-Identifier: Apache-2.0
"""
Every graph that is exported is parsed and built by our own TensorRT code, with TensorRT for RTX, which needs
no GPU.

``make test-tensorrt`` provides it. A plan cannot be run or timed without a GPU: that is left to
test_tensorrt.py on a machine that has one.
"""

import contextlib
import logging
import types

import numpy as np
import pytest
import tensorrt_rtx

from jepa_ros.engine.backends import EngineError, tensorrt_build
from jepa_ros.engine.bundle import Bundle

torch = pytest.importorskip('torch')
pytest.importorskip('onnxscript')

# its timing cache does nothing, and says so
pytestmark = pytest.mark.filterwarnings('ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning')

SIZE, SLICES, CONTEXT = (64, 96), 4, 3
HORIZONS = (0.1, 0.2, 0.4)
PUBLISHED = ('ijepa-vith14', 'vjepa-vitl16', 'vjepa2-vitl', 'vjepa2.1-vitl')
GRAPHS = ('frame', 'clip', 'stream', 'forecaster', 'readout', *PUBLISHED,
          'vjepa2-vitl forecaster', 'vjepa2.1-vitl forecaster')


@pytest.fixture(scope='module')
def trt():
    found = tensorrt_rtx.load()
    if not isinstance(found, types.ModuleType):
        pytest.skip(found)
    return found


def draw(name):
    """Return a torch module with random weights as it is exported, its inputs, the names of its outputs."""
    if name.split()[0] in PUBLISHED:
        return draw_published(*name.split())
    from jepa_ros.export import graphs
    from jepa_ros.nets.forecaster import Forecaster
    from jepa_ros.nets.readout import PointReadout
    from jepa_ros.nets.vit import Encoder, EncoderConfig

    torch.manual_seed(0)

    def config(**given):
        return EncoderConfig('tiny', depth=2, image_size=SIZE, **given)

    stream = config(window=SLICES)
    n, dim, dt = stream.tokens, 192, torch.tensor(HORIZONS)
    if name == 'frame':
        return graphs.FrameGraph(Encoder(config(tubelet=1))), {'frames': pixels(1)}, ['tokens']
    if name == 'clip':
        module = graphs.ClipGraph(Encoder(config()), torch.arange(-3, 1) * 0.1)
        return module, {'frames': pixels(8)}, ['tokens']
    if name == 'stream':
        encoder = Encoder(stream)
        cached = (SLICES - 1) * n
        inputs = {'frames': pixels(2), 'rotary': torch.randn(2, encoder_frequencies(encoder)),
                  'past': torch.randn(2, 2, encoder.heads, cached, encoder.head_dim),
                  'bias': torch.zeros(cached)}
        return graphs.StreamGraph(encoder), inputs, ['tokens', 'present']
    if name == 'forecaster':
        times = torch.arange(1 - CONTEXT, 1) * 0.1
        inputs = {'context': torch.randn(CONTEXT, n, dim), 'times': times, 'dt': dt}
        return graphs.ForecastGraph(Forecaster(stream, dim, CONTEXT, depth=2)), inputs, ['futures']
    return PointReadout(stream, dim), {'futures': torch.randn(len(dt), n, dim), 'dt': dt}, ['point', 'cov']


def draw_published(model, part='encoder'):
    """Likewise for a published model made small."""
    from tiny_official import networks, tiny

    from jepa_ros.export import graphs
    from jepa_ros.nets.official.families import ClipShape
    from jepa_ros.nets.official.futures import OfficialForecaster

    model = tiny(model)
    clip, (encoder, predictor) = ClipShape.of(model), networks(model)
    if part == 'encoder':
        slices = clip.slices if clip.frames > 1 else None
        inputs = {'frames': pixels(clip.frames, clip.image_size)}
        return graphs.OfficialGraph(encoder, slices), inputs, ['tokens']
    module = graphs.OfficialForecastGraph(OfficialForecaster(predictor, clip.slices, 2), 0.5)
    inputs = {'context': torch.randn(clip.slices, clip.tokens, model.size.width),
              'times': torch.arange(1 - clip.slices, 1) * 0.5, 'dt': torch.tensor([0.5, 1.0])}
    return module, inputs, ['futures']


def pixels(frames, size=SIZE):
    return torch.randint(0, 256, (frames, *size, 3), dtype=torch.uint8)


def encoder_frequencies(encoder):
    from jepa_ros.nets import rotary
    return len(rotary.axis_frequencies(encoder.head_dim))


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """Graph by name and precision, exported when it is first asked for."""
    from jepa_ros.export.graphs import write_onnx
    folder, written = tmp_path_factory.mktemp('graphs'), {}

    def get(name, precision):
        if name not in written:
            module, inputs, outputs = draw(name)
            written[name] = inputs
            write_onnx(module.eval(), inputs, outputs, folder / f'{name}.onnx')
        source = folder / f'{name}.onnx'
        if precision == 'fp32':
            return source
        from jepa_ros.export.precision import convert
        target = folder / precision / source.name
        target.parent.mkdir(exist_ok=True)
        feeds = [{key: value.numpy() for key, value in written[name].items()}]
        convert(source, target, precision, feeds)
        return target

    return get


@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16', 'int8'])
@pytest.mark.parametrize('name', GRAPHS)
def test_every_exported_graph_is_built(trt, exported, name, precision):
    path, told = exported(name, precision), []
    plan = tensorrt_build.build(trt, path, None, lambda *step: told.append(step))
    assert len(plan) > 10_000
    assert told[0][1] == 0 and told[-1][1] == told[-1][2]  # every step of the outermost phase


@pytest.mark.parametrize('name', ['encoder', 'forecaster', 'readout'])
def test_the_shipped_bundle_is_built(trt, name, tmp_path):
    path = getattr(Bundle.load('conveyor_vjepa'), name)
    assert tensorrt_build.build(trt, path, tmp_path / 'timing.cache')
    assert (tmp_path / 'timing.cache').stat().st_size > 0


def test_the_network_is_strongly_typed_and_keeps_float32(trt, exported, monkeypatch):
    """What was exported in float32 is not rounded to TF32, and no precision is chosen by the builder."""
    seen = []

    class Builder:
        def __init__(self, log):
            self._builder = trt.Builder(log)

        def create_network(self, flags):
            self.network = self._builder.create_network(flags)
            return self.network

        def __getattr__(self, name):
            return getattr(self._builder, name)

        def build_serialized_network(self, network, config):
            seen.append((network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
                         config.get_flag(trt.BuilderFlag.TF32), config.num_optimization_profiles))
            return self._builder.build_serialized_network(network, config)

    module = types.ModuleType('observed')
    module.__dict__.update(trt.__dict__, Builder=Builder)
    tensorrt_build.build(module, exported('frame', 'fp32'))
    tensorrt_build.build(module, exported('readout', 'fp32'))
    assert seen == [(True, False, 0), (True, False, 1)]


def test_a_damaged_graph_is_named_with_tensorrts_own_words(trt, exported, tmp_path):
    whole = exported('readout', 'fp32').read_bytes()
    path = tmp_path / 'readout.onnx'
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(EngineError, match=r'readout.onnx: expected a graph that TensorRT can parse, found'):
        tensorrt_build.build(trt, path)


def test_an_interruption_ends_the_build(trt, exported):
    def interrupt(phase, done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tensorrt_build.build(trt, exported('clip', 'fp32'), None, interrupt)


def test_a_plan_is_not_loaded_without_a_gpu(trt, exported, caplog):
    """Nothing here claims that a plan was run: where there is no driver, TensorRT loads none."""
    from jepa_ros.engine.backends.gpu import has_driver
    if has_driver():
        pytest.skip('an NVIDIA driver is installed')
    caplog.set_level(logging.WARNING)
    plan = tensorrt_build.build(trt, exported('readout', 'fp32'))
    runtime = None
    with contextlib.suppress(Exception):
        runtime = trt.Runtime(tensorrt_build.logger(trt))
    assert runtime is None or runtime.deserialize_cuda_engine(plan) is None


def test_numpy_has_the_types_of_all_inputs_and_outputs(trt, exported):
    """TensorRT hands bfloat16 and 8-bit floats to nobody: such a graph could be built, but not be fed."""
    import onnx
    for name in GRAPHS:
        for precision in ('fp32', 'fp16', 'bf16', 'int8'):
            graph = onnx.load(exported(name, precision)).graph
            kinds = {value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
            assert kinds <= {onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in ('f4', 'u1')}

# SPDX-License-Identifier: Apache-2.0
"""
Precision in the graph: which operators change, that what is computed is what the graph says, and what is
refused.
"""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from jepa_ros.errors import JepaError
from jepa_ros.export import precision

WIDTH, TOKENS = 8, 6


def block(scale=0.3, seed=0):
    """
    A graph with one of everything: convolution, linear layers, attention, softmax, norm and residual sum.
    """
    rng = np.random.default_rng(seed)
    weights = {
        name: (rng.normal(0, scale, shape)).astype(np.float32)
        for name, shape in {
            'kernel': (WIDTH, 3, 4, 4),
            'qk': (WIDTH, WIDTH),
            'bias': (WIDTH,),
            'gemm': (WIDTH, WIDTH),
            'gemm_bias': (WIDTH,),
        }.items()
    }
    weights |= {'ones': np.ones(WIDTH, np.float32), 'shape': np.array([TOKENS, WIDTH])}
    nodes = [
        ('Cast', ['frames'], 'pixels', {'to': TensorProto.FLOAT}),
        ('Conv', ['pixels', 'kernel', 'bias'], 'patches', {'strides': [4, 4]}),
        ('Flatten', ['patches'], 'flat', {'axis': 2}),
        ('Transpose', ['flat'], 'columns', {'perm': [1, 0]}),
        ('Reshape', ['columns', 'shape'], 'raw', {}),
        ('LayerNormalization', ['raw', 'ones'], 'x', {'axis': -1}),
        ('MatMul', ['x', 'qk'], 'projected', {}),
        ('Add', ['projected', 'bias'], 'q', {}),
        ('Transpose', ['q'], 'k', {'perm': [1, 0]}),
        ('MatMul', ['q', 'k'], 'scores', {}),
        ('Softmax', ['scores'], 'attention', {'axis': -1}),
        ('MatMul', ['attention', 'x'], 'mixed', {}),
        ('Gemm', ['mixed', 'gemm', 'gemm_bias'], 'out', {'transB': 1}),
        ('Add', ['x', 'out'], 'tokens', {}),
    ]
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], name=f'{kind}_{output}', **attributes)
            for kind, inputs, output, attributes in nodes
        ],
        'block',
        [helper.make_tensor_value_info('frames', TensorProto.UINT8, [1, 3, 8, 12])],
        [helper.make_tensor_value_info('tokens', TensorProto.FLOAT, [TOKENS, WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def pixels(seed=0):
    return {'frames': np.random.default_rng(seed).integers(0, 256, (1, 3, 8, 12), dtype=np.uint8)}


def types(model):
    """Return the element type of every value of a model, as strict inference finds them."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    found = {
        v.name: v.type.tensor_type.elem_type
        for v in (*inferred.input, *inferred.output, *inferred.value_info)
    }
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


@pytest.mark.parametrize('name', ['fp16', 'bf16'])
def test_products_are_in_16_bits_and_everything_else_in_float32(name):
    model = precision.to_half(block(), name)
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    for node in model.graph.node:
        half = {found[value] == precision.TYPES[name] for value in (*node.input, *node.output)}
        if node.op_type in precision.KINDS[name]:
            assert half == {True}, node.name
        elif node.op_type != 'Cast':
            assert half == {False}, node.name
    assert found['frames'] == TensorProto.UINT8 and found['tokens'] == TensorProto.FLOAT
    assert [node.op_type for node in model.graph.node].count('LayerNormalization') == 1


@pytest.mark.parametrize('name', ['fp16', 'bf16'])
def test_weights_are_stored_once_and_small(name):
    whole, half = block(), precision.to_half(block(), name)
    names = [tensor.name for tensor in half.graph.initializer]
    assert len(names) == len(set(names)) and f'qk_{name}' in names and 'qk' not in names
    assert 'bias' in names  # of the sum in float32; the convolution of fp16 has its own
    assert half.ByteSize() < whole.ByteSize() + 2000 and (f'bias_{name}' in names) == (name == 'fp16')


@settings(max_examples=10)
@given(seed=st.integers(0, 99), name=st.sampled_from(['fp16', 'bf16']))
def test_the_float32_stand_in_computes_what_a_literal_evaluation_of_the_graph_does(seed, name):
    """Against onnx's reference evaluator, which rounds where the graph says so."""
    literal = ReferenceEvaluator(precision.to_half(block(seed=seed), name)).run(None, pixels(seed))[0]
    stand_in = precision.in_float32(precision.to_half(block(seed=seed), name))
    assert not set(types(stand_in)) & {None}
    found = run_unoptimised(stand_in, pixels(seed))
    exact = ReferenceEvaluator(block(seed=seed)).run(None, pixels(seed))[0]
    step = {'fp16': 2.0**-10, 'bf16': 2.0**-7}[name]
    # sums in another order, then rounded
    assert np.abs(found - literal).max() <= 2 * step * np.abs(literal).max()
    assert 0 < np.abs(found - exact).max() <= 40 * step


def run_unoptimised(model, feeds):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    return session.run(None, feeds)[0]


def test_a_weight_beyond_float16_is_named():
    model = block()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == 'qk')
    weight.CopyFrom(numpy_helper.from_array(np.full((WIDTH, WIDTH), 1e5, np.float32), 'qk'))
    with pytest.raises(JepaError, match=r'fp16 cannot hold the weight qk: its largest value is 1e\+05'):
        precision.to_half(model, 'fp16')


@pytest.fixture(scope='module')
def int8(tmp_path_factory):
    folder = tmp_path_factory.mktemp('int8')
    onnx.save(block(), folder / 'block.onnx')
    precision.convert(
        folder / 'block.onnx', folder / 'int8.onnx', 'int8', (pixels(seed) for seed in range(8))
    )
    return onnx.load(folder / 'int8.onnx')


def test_int8_is_in_linear_layers_alone(int8):
    """Not at products of two activations, not at the convolution, not at residual sums, norms and softmax."""
    of = {output: node for node in int8.graph.node for output in node.output}
    quantised = {
        node.name
        for node in int8.graph.node
        if any(of.get(value) is not None and of[value].op_type == 'DequantizeLinear' for value in node.input)
    }
    assert quantised == {'MatMul_projected', 'Gemm_out'}


def test_int8_is_symmetric_signed_and_without_quantised_bias(int8):
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    found = [node for node in int8.graph.node if node.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    assert len(found) == 6  # two inputs (quantised and back) and two weights (back)
    for node in found:
        zero = arrays[node.input[2]]
        assert zero.dtype == np.int8 and not zero.any()
    weights = [arrays[node.input[0]] for node in found if node.input[0] in arrays]
    assert [weight.dtype for weight in weights] == [np.int8, np.int8]
    scales = [arrays[node.input[1]] for node in found if node.input[0] in arrays]
    assert [scale.shape for scale in scales] == [(WIDTH,), (WIDTH,)]  # per output channel


def test_int8_stays_near_float32(int8):
    found = ReferenceEvaluator(int8).run(None, pixels(50))[0]
    exact = ReferenceEvaluator(block()).run(None, pixels(50))[0]
    cosines = (found * exact).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(exact, axis=-1)
    assert cosines.min() > 0.999 and np.abs(found - exact).max() > 0


@pytest.mark.parametrize('feeds', [None, []])
def test_int8_without_recordings_is_refused(tmp_path, feeds):
    onnx.save(block(), tmp_path / 'block.onnx')
    with pytest.raises(JepaError, match='int8 needs recordings to calibrate with'):
        precision.convert(tmp_path / 'block.onnx', tmp_path / 'int8.onnx', 'int8', feeds)


@pytest.mark.parametrize('name', ['fp16', 'bf16', 'int8'])
def test_a_graph_with_external_weights_is_converted_too(tmp_path, monkeypatch, name):
    monkeypatch.setattr(precision, 'EXTERNAL_ABOVE', 100)
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    model = block()
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == 'kernel')
    precision.save(model, tmp_path / 'a' / 'block.onnx')
    assert (tmp_path / 'a' / 'block.onnx.data').stat().st_size >= len(kernel.raw_data)
    precision.convert(tmp_path / 'a' / 'block.onnx', tmp_path / 'b' / 'block.onnx', name, [pixels()])
    model = onnx.load(tmp_path / 'b' / 'block.onnx')
    exact = ReferenceEvaluator(block()).run(None, pixels())[0]
    assert np.abs(ReferenceEvaluator(model).run(None, pixels())[0] - exact).max() < 0.3

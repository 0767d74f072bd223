# SPDX-License-Identifier: Apache-2.0
"""
Precision written into a graph, so that a strongly typed TensorRT network computes exactly what is measured
here.

fp16, bf16: the matrix products (linear layers, attention) and, in fp16, the convolution take and give 16-bit
numbers; their weights are stored so. Everything between them (normalisation, softmax, rotary positions, GELU,
residual sums) stays in float32, as do the inputs and outputs of the graph. A runtime fuses the casts into the
products.

int8: weights and inputs of linear layers, symmetric, weights per output channel. Products of two activations
(attention), residual sums and normalisations stay in float32.

The conversion works on the ONNX graph and not on the torch module: one rule by operator serves every network,
and no network has to be written for it.
"""

import contextlib
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jepa_ros.errors import JepaError

EXTERNAL_ABOVE = 1_900_000_000  # bytes of weights; a protobuf message ends at 2 GiB
TYPES = {'fp16': TensorProto.FLOAT16, 'bf16': TensorProto.BFLOAT16}
# ONNX has a convolution in bfloat16 only since opset 22; the patch embedding is the only one, and small.
KINDS = {'fp16': ('MatMul', 'Gemm', 'Conv'), 'bf16': ('MatMul', 'Gemm')}


def convert(source, target, precision, feeds=None):
    """
    Write a float32 graph in another precision; its inputs and outputs stay as they are.

    :param source: ONNX file; `target`: file to write, in another folder.
    :param precision: fp16, bf16 or int8.
    :param feeds: for int8: iterable of the graph's inputs (dict of name to array) to calibrate with.
    :raises JepaError: int8 without feeds, or a weight that fp16 cannot hold.
    """
    save(quantised(source, feeds) if precision == 'int8' else to_half(onnx.load(source), precision), target)


def to_half(model, precision):
    """
    Put the matrix products of a model into 16 bits, each between casts.

    :param model: onnx ModelProto, float32; changed in place.
    :param precision: fp16 or bf16.
    :returns: the model.
    """
    kind, graph = TYPES[precision], model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    halves, nodes = {}, []
    for node in graph.node:
        if node.op_type not in KINDS[precision]:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if not name:
                continue
            if name not in halves:
                halves[name] = f'{name}_{precision}'
                if name in weights:
                    graph.initializer.append(_rounded(weights[name], kind, halves[name]))
                else:
                    nodes.append(_cast(name, halves[name], kind))
            node.input[index] = halves[name]
        output = node.output[0]
        halves[output] = node.output[0] = f'{output}_{precision}'  # the next product takes it as it is
        nodes += [node, _cast(halves[output], output, TensorProto.FLOAT)]
    _replace_nodes(graph, nodes)
    return model


def in_float32(model):
    """
    The same arithmetic for a runtime without 16-bit products: operands and results are rounded to 16 bits,
    and the products between are taken in float32, as a GPU's matrix units accumulate them.

    A runtime must be told not to optimise (ONNX Runtime drops pairs of casts, and with them the rounding).

    :param model: what `to_half` returned; changed in place.
    :returns: the model.
    """
    graph, nodes = model.graph, []
    casts = {
        node.output[0]: helper.get_node_attr_value(node, 'to')
        for node in graph.node
        if node.op_type == 'Cast'
    }
    halves = {name: kind for name, kind in casts.items() if kind in TYPES.values()}
    halves |= {
        tensor.name: tensor.data_type for tensor in graph.initializer if tensor.data_type in TYPES.values()
    }
    for node in graph.node:
        kinds = {halves[name] for name in node.input if name in halves}
        if node.op_type == 'Cast' or not kinds:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name in halves:
                node.input[index] = f'{node.output[0]}_input{index}'
                nodes.append(_cast(name, node.input[index], TensorProto.FLOAT))
        output, kind = node.output[0], kinds.pop()
        node.output[0], halves[output] = f'{output}_float', kind
        nodes += [node, _cast(node.output[0], output, kind)]
    _replace_nodes(graph, nodes)
    return model


def quantised(path, feeds):
    """
    Quantise the linear layers of a float32 graph with ONNX Runtime's static quantisation.

    TensorRT takes symmetric signed 8-bit numbers only, and no quantised bias.

    :param path: ONNX file; `feeds`: iterable of its inputs to calibrate with.
    :returns: onnx ModelProto.
    :raises JepaError: without feeds.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    linear = [
        node.name for node in graph.node if node.op_type in ('MatMul', 'Gemm') and node.input[1] in weights
    ]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        written = Path(folder) / 'quantised.onnx'
        quantize_static(
            path,
            written,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=['MatMul', 'Gemm'],
            nodes_to_quantize=linear,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=data_file(path).exists(),
            extra_options={
                'ActivationSymmetric': True,
                'WeightSymmetric': True,
                'QuantizeBias': False,
                'OpTypesToExcludeOutputQuantization': ['MatMul', 'Gemm'],
            },
        )
        return _unshared(onnx.load(written), set(linear))


def _unshared(model, linear):
    """
    ONNX Runtime lets everybody read the dequantised input of a linear layer: give the others the exact one.
    """
    graph = model.graph
    exact = {node.output[0]: node.input[0] for node in graph.node if node.op_type == 'QuantizeLinear'}
    exact = {
        node.output[0]: exact[node.input[0]]
        for node in graph.node
        if node.op_type == 'DequantizeLinear' and node.input[0] in exact
    }
    for node in graph.node:
        if node.name not in linear:
            for index, name in enumerate(node.input):
                node.input[index] = exact.get(name, name)
    return model


def save(model, path):
    """Write a model, its weights beside it in `NAME.onnx.data` where they are too many for one file."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_ABOVE:
        onnx.save(model, path, save_as_external_data=True, location=data_file(path).name)
    else:
        onnx.save(model, path)


def data_file(path):
    """Where the weights of a graph lie that are too many for its own file."""
    return Path(path).with_name(f'{Path(path).name}.data')


class _Reader:
    """Calibration inputs as ONNX Runtime reads them."""

    def __init__(self, feeds):
        self._feeds, self.count = iter(feeds or ()), 0

    def get_next(self):
        feed = next(self._feeds, None)
        if feed is None and not self.count:
            raise JepaError(
                'int8 needs recordings to calibrate with: expected at least one window, found none'
            )
        self.count += 1
        return feed


@contextlib.contextmanager
def _quiet():
    """
    ONNX Runtime's advice to preprocess goes to the root logger; our graphs come out of the exporter's own.
    """
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _rounded(tensor, kind, name):
    array = numpy_helper.to_array(tensor)
    largest = np.abs(array).max(initial=0.0)
    if kind == TensorProto.FLOAT16 and not largest <= np.finfo(np.float16).max:
        raise JepaError(
            f'fp16 cannot hold the weight {tensor.name}: its largest value is {largest:.3g}, expected at '
            'most 65504 (use bf16)'
        )
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def _cast(source, name, kind):
    return helper.make_node('Cast', [source], [name], name=f'cast_{name}', to=kind)


def _replace_nodes(graph, nodes):
    """
    Give a graph its new nodes, without casts and weights that nothing reads, and without the old types of
    values.
    """
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(node for node in nodes if node.op_type != 'Cast' or node.output[0] in used)
    graph.initializer.extend(kept)

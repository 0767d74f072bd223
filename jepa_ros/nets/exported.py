# SPDX-License-Identifier: Apache-2.0
"""The weights of a network back from the ONNX graph that `jepa export` made of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from jepa_ros.errors import JepaError


def read_weights(graph, module):
    """
    Weights by their names in the module.

    The export keeps the names of biases, norms and convolutions. The matrix of a linear layer has lost its name, and
    lies transposed, but the bias that is added to its product has kept its own. A forecaster's trend lies in two parts,
    without names, its constant beside the rest.

    :param graph: path of `encoder.onnx`, `forecaster.onnx` or `readout.onnx`.
    :param module: an `nn.Module` like that which was exported; only names and shapes of its parameters and buffers are
        looked at.
    :returns: dict of float32 tensors, for those of its parameters and buffers that were found. A buffer that the export
        has computed with, as the readout's calibration, is in the graph no more.
    :raises JepaError: the file is no ONNX graph.
    """
    import onnx
    from onnx import numpy_helper

    try:
        of = onnx.load(Path(graph)).graph
    except Exception as error:  # protobuf's and onnx's own, which share no class but this
        raise JepaError(f'expected an ONNX graph in {graph}, found: {error}') from error
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in of.initializer}
    named, users = dict(held), {}
    for node in of.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for node in of.node:
        if node.op_type != 'MatMul' or node.input[1] not in held:
            continue
        for user in users.get(node.output[0], ()):
            bias = next((name for name in user.input if name.endswith('.bias') and name in held), None)
            if user.op_type == 'Add' and bias is not None:
                named[f'{bias.removesuffix(".bias")}.weight'] = held[node.input[1]].T
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    names = list(shapes)
    # a graph that wraps the module puts something before all names
    before = Counter(key[: -len(name)] for key in named for name in names if key.endswith(name))
    prefix = before.most_common(1)[0][0] if before else ''
    if 'trend' in shapes and (trend := _joined(held.values(), shapes['trend'])) is not None:
        named[f'{prefix}trend'] = trend
    return {
        name: torch.tensor(named[prefix + name], dtype=torch.float32) for name in names if prefix + name in named
    }


def _joined(arrays, shape):
    """An array [P, S, D] from its first S - 1 rows and its last one, None where there are not just these two."""
    powers, rows, width = shape
    parts = [[a for a in arrays if a.shape == (powers, count, width)] for count in (rows - 1, 1)]
    return np.concatenate([part for part, in parts], axis=1) if all(len(found) == 1 for found in parts) else None

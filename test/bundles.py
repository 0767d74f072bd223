# SPDX-License-Identifier: Apache-2.0
"""
Tiny engine bundles, built by hand with onnx.helper: the exact signatures of the real ones, no training, no
torch.

The graphs are deterministic and honest: the stream encoder attends to its cache with rotary keys, the
forecaster follows the trend of its context, the readout finds the centre of what is bright.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jepa_ros.engine.bundle import file_sha256, write_manifest
from jepa_ros.engine.manifest import Manifest
from jepa_ros.latents import token_centres

PATCH = 16
LATENT_DIM = 16
LAYERS, HEADS, HEAD_DIM = 2, 2, 8
FREQUENCIES = (1.0, 0.5, 0.25, 0.125)
ROTARY_PERIOD = 0.1
SLICES = 4
CONTEXT = 3
CLIP_FRAMES = 8


def make_bundle(directory, mode='stream', size=(96, 128), readout=True, forecaster=True,
                horizons=None, seed=0, name=None, frame_period=0.05) -> Path:
    """
    Write a bundle.

    :param directory: of the bundle; made if it is not there
    :param mode: frame, clip or stream
    :param size: (height, width) of the model's frames, multiples of 16
    :param readout: with a readout named 'handle' (publish mode dense)
    :param forecaster: with a forecaster; without one there is no readout either
    :param horizons: the manifest's section; None: continuous 0.1..0.5 s
    :param seed: of the weights; another seed is another model
    :param name: of the bundle; None: tiny_<mode>
    :param frame_period: (s)
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    readout = readout and forecaster
    grid = (size[0] // PATCH, size[1] // PATCH)
    tubelet = 1 if mode == 'frame' else 2
    frames = {'frame': 1, 'clip': CLIP_FRAMES, 'stream': tubelet}[mode]
    rng = np.random.default_rng(seed)
    if mode == 'stream':
        encoder = _stream_encoder(grid, tubelet, rng)
    else:
        encoder = _encoder(mode, grid, frames, tubelet, rng)
    graphs = {'encoder.onnx': encoder}
    if forecaster:
        graphs['forecaster.onnx'] = _forecaster(grid)
    if readout:
        graphs['readout.onnx'] = _readout(grid)
    for filename, graph in graphs.items():
        onnx.save(_model(graph), directory / filename)
    if horizons is None:
        horizons = {'kind': 'continuous', 'min': 0.1, 'max': 0.5, 'default': [0.1, 0.2, 0.3, 0.4, 0.5]}
    manifest = {
        'format': 1,
        'name': name or f'tiny_{mode}',
        'family': 'ijepa' if mode == 'frame' else 'vjepa',
        'mode': mode,
        'image_size': list(size),
        'patch': PATCH,
        'tubelet': tubelet,
        'frame_period': frame_period,
        'frames': frames,
        'normalisation': {'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]},
        'grid': list(grid),
        'latent_dim': LATENT_DIM,
        'output_norm': 'layer_norm',
        'future_space': 'latents',
        'stream': None if mode != 'stream' else {
            'slices': SLICES, 'layers': LAYERS, 'heads': HEADS, 'head_dim': HEAD_DIM,
            'rotary_period': ROTARY_PERIOD, 'frequencies': list(FREQUENCIES)},
        'forecaster': {'context': CONTEXT, 'horizons': horizons, 'dim': LATENT_DIM} if forecaster else None,
        'readout': {'name': 'handle', 'publish': 'dense', 'quantity': 'image_point'} if readout else None,
        'weights': {'which': 'target_encoder', 'sha256': '0' * 64, 'source': f'drawn with seed {seed}',
                    'licence': 'Apache-2.0'},
        'precision': 'fp32',
        'training': {'steps': 0},
        'metrics': {},
        'parity': {},
        'files': {filename: file_sha256(directory / filename) for filename in graphs},
    }
    write_manifest(directory, Manifest.from_dict(manifest))
    return directory


class _Builder:
    """Collects nodes and weights of one graph."""

    def __init__(self, name):
        self.name = name
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], []

    def op(self, kind, *inputs, outputs=1, name=None, **attributes):
        """Add a node; arrays among the inputs become weights. Returns the names of its outputs."""
        names = [self.weight(value) if isinstance(value, np.ndarray) else value for value in inputs]
        made = [name] if name else [f'{kind.lower()}_{len(self.nodes)}_{i}' for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, **attributes))
        return made[0] if outputs == 1 else made

    def weight(self, array):
        name = f'weight_{len(self.weights)}'
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def input(self, name, shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value, name, shape):
        self.op('Identity', value, name=name)
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _ints(*values):
    return np.array(values, np.int64)


def _f32(*values):
    return np.array(values, np.float32)


def _model(builder):
    graph = helper.make_graph(builder.nodes, builder.name, builder.inputs, builder.outputs, builder.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _embed(builder, grid, frames, tubelet, rng):
    """Return features [frames / tubelet, N, D]: patch means of RGB and their brightness, projected."""
    rows, columns = grid
    size = [frames, rows * PATCH, columns * PATCH, 3]
    pixels = builder.op('Cast', builder.input('frames', size, TensorProto.UINT8), to=TensorProto.FLOAT)
    patches = builder.op('Reshape', pixels, _ints(frames, rows, PATCH, columns, PATCH, 3))
    means = builder.op('ReduceMean', patches, _ints(2, 4), keepdims=0)  # [frames, rows, columns, 3]
    scaled = builder.op('Div', means, _f32(64.0))
    tokens = builder.op('Reshape', scaled, _ints(frames // tubelet, tubelet, rows * columns, 3))
    tokens = builder.op('Transpose', tokens, perm=[0, 2, 1, 3])
    tokens = builder.op('Reshape', tokens, _ints(frames // tubelet, rows * columns, tubelet * 3))
    weights = rng.normal(0, 0.3, (tubelet * 3, LATENT_DIM)).astype(np.float32)
    # The first number of a token is its brightness, which the readout looks for; the others are colour and
    # change.
    weights -= weights.mean(axis=0)
    weights[:, 0] = 1 / (tubelet * 3)
    return builder.op('Add', builder.op('MatMul', tokens, weights),
                      rng.normal(0, 0.3, LATENT_DIM).astype(np.float32))


def _normalise(builder, tokens):
    return builder.op('LayerNormalization', tokens, np.ones(LATENT_DIM, np.float32), axis=-1, epsilon=1e-6)


def _encoder(mode, grid, frames, tubelet, rng):
    """Frame and clip encoders: patch features; in a clip every slice also sees the mean of the clip."""
    builder = _Builder(f'{mode}_encoder')
    tokens = _embed(builder, grid, frames, tubelet, rng)
    shape = [frames // tubelet, grid[0] * grid[1], LATENT_DIM]
    if mode == 'clip':
        whole = builder.op('ReduceMean', tokens, _ints(0), keepdims=1)
        mixing = rng.normal(0, 0.3, (LATENT_DIM, LATENT_DIM)).astype(np.float32)
        tokens = builder.op('Add', tokens, builder.op('MatMul', whole, mixing))
    tokens = _normalise(builder, tokens)
    if mode == 'frame':
        shape = shape[1:]
        tokens = builder.op('Reshape', tokens, _ints(*shape))
    builder.output(tokens, 'tokens', shape)
    return builder


def _stream_encoder(grid, tubelet, rng):
    """A block-causal encoder: per layer, the slice attends to the cached slices and to itself."""
    builder = _Builder('stream_encoder')
    count = grid[0] * grid[1]
    cached = (SLICES - 1) * count
    tokens = builder.op('Reshape', _embed(builder, grid, tubelet, tubelet, rng), _ints(count, LATENT_DIM))
    rotary = builder.input('rotary', [2, len(FREQUENCIES)])
    past = builder.input('past', [LAYERS, 2, HEADS, cached, HEAD_DIM])
    bias = builder.input('bias', [cached])
    cosine, sine = builder.op('Split', rotary, outputs=2, axis=0, num_outputs=2)  # [1, HEAD_DIM / 2] each
    bias = builder.op('Concat', bias, np.zeros(count, np.float32), axis=0)
    present = []
    for layer in range(LAYERS):
        query, key, value = (_heads(builder, tokens, count, rng) for _ in range(3))
        query, key = _rotate(builder, query, cosine, sine), _rotate(builder, key, cosine, sine)
        old_key, old_value = (
            builder.op('Gather', builder.op('Gather', past, np.array(layer), axis=0), np.array(index), axis=0)
            for index in range(2))
        keys = builder.op('Concat', old_key, key, axis=1)
        values = builder.op('Concat', old_value, value, axis=1)
        scores = builder.op('MatMul', query, builder.op('Transpose', keys, perm=[0, 2, 1]))
        attention = builder.op('Softmax', builder.op('Add', scores, bias), axis=-1)
        mixed = builder.op('Transpose', builder.op('MatMul', attention, values), perm=[1, 0, 2])
        mixed = builder.op('Reshape', mixed, _ints(count, LATENT_DIM))
        tokens = builder.op('Add', tokens, mixed)
        pair = [builder.op('Unsqueeze', part, _ints(0)) for part in (key, value)]
        pair = builder.op('Concat', *pair, axis=0)
        present.append(builder.op('Unsqueeze', pair, _ints(0)))
    builder.output(_normalise(builder, tokens), 'tokens', [count, LATENT_DIM])
    builder.output(builder.op('Concat', *present, axis=0), 'present', [LAYERS, 2, HEADS, count, HEAD_DIM])
    return builder


def _heads(builder, tokens, count, rng):
    """Project tokens [N, D] to heads [HEADS, N, HEAD_DIM]."""
    weights = rng.normal(0, 0.3, (LATENT_DIM, HEADS * HEAD_DIM)).astype(np.float32)
    projected = builder.op('Reshape', builder.op('MatMul', tokens, weights), _ints(count, HEADS, HEAD_DIM))
    return builder.op('Transpose', projected, perm=[1, 0, 2])


def _rotate(builder, heads, cosine, sine):
    """Rotate the first half of a head against its second half."""
    first, second = builder.op('Split', heads, outputs=2, axis=2, num_outputs=2)
    turned = [builder.op('Sub', builder.op('Mul', first, cosine), builder.op('Mul', second, sine)),
              builder.op('Add', builder.op('Mul', first, sine), builder.op('Mul', second, cosine))]
    return builder.op('Concat', *turned, axis=2)


def _forecaster(grid):
    """Every token follows the straight line that fits its context best."""
    builder = _Builder('forecaster')
    count = grid[0] * grid[1]
    context = builder.input('context', [CONTEXT, count, LATENT_DIM])
    times = builder.op('Reshape', builder.input('times', [CONTEXT]), _ints(CONTEXT, 1, 1))
    dt = builder.op('Reshape', builder.input('dt', ['K']), _ints(-1, 1, 1))
    mean_time = builder.op('ReduceMean', times, _ints(0), keepdims=1)
    mean = builder.op('ReduceMean', context, _ints(0), keepdims=1)
    offset = builder.op('Sub', times, mean_time)
    spread = builder.op('ReduceSum', builder.op('Mul', offset, offset), _ints(0), keepdims=1)
    rise = builder.op('ReduceSum', builder.op('Mul', offset, context), _ints(0), keepdims=1)
    slope = builder.op('Div', rise, builder.op('Add', spread, _f32(1e-6)))
    ahead = builder.op('Sub', dt, mean_time)
    futures = builder.op('Add', mean, builder.op('Mul', ahead, slope))
    builder.output(futures, 'futures', ['K', count, LATENT_DIM])
    return builder


def _readout(grid):
    """The centre of the tokens weighted by brightness; the covariance is their spread, and grows with dt."""
    builder = _Builder('readout')
    count = grid[0] * grid[1]
    futures = builder.input('futures', ['K', count, LATENT_DIM])
    dt = builder.op('Reshape', builder.input('dt', ['K']), _ints(-1, 1, 1))
    brightness = builder.op('Gather', futures, np.array(0), axis=2)  # [K, N]
    weights = builder.op('Softmax', builder.op('Mul', brightness, _f32(8.0)), axis=-1)
    centres = token_centres(grid)
    point = builder.op('MatMul', weights, centres)  # [K, 2]
    squares = (centres[:, :, None] * centres[:, None, :]).reshape(count, 4)
    second = builder.op('Reshape', builder.op('MatMul', weights, squares), _ints(-1, 2, 2))
    outer = builder.op('Mul', *(builder.op('Unsqueeze', point, _ints(axis)) for axis in (2, 1)))
    spread = builder.op('Sub', second, outer)
    growth = builder.op('Mul', dt, np.eye(2, dtype=np.float32)[None] * np.float32(1e-3))
    builder.output(point, 'point', ['K', 2])
    builder.output(builder.op('Add', spread, growth), 'cov', ['K', 2, 2])
    return builder

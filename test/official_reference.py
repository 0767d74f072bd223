# SPDX-License-Identifier: Apache-2.0
"""
The published predictors once more, from the papers' equations, token by token in float64 and over the
authors' names.

Shares nothing with the package: attention is a loop over heads, positions are a loop over tokens.
"""

import math

import numpy as np

THETA = 10000.0


def layer_norm(x, weight, bias):
    """Eps is 1e-6 in every published model."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * weight + bias


def gelu(x):
    """With the error function, not its approximation by tanh."""
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def linear(state, name, x):
    """One affine layer."""
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']


def sines(position, width):
    """Vaswani et al. 2017, all sines before all cosines."""
    angles = [position / THETA ** (2 * i / width) for i in range(width // 2)]
    return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]


def added(kind, place, width):
    """
    Fixed position of one token: I-JEPA's column then row; V-JEPA's slice, row, column, a third each, cut.
    """
    time, row, column = place
    if kind == 'ijepa':
        return np.array(sines(column, width // 2) + sines(row, width // 2))
    third = int(np.ceil(width / 6) * 2)
    return np.array(sines(time, third) + sines(row, third) + sines(column, third))[:width]


def turned(x, place, tiled):
    """
    Rotate one head's features of one token: neighbours turn together, every axis has its share, the rest
    stays.
    """
    x, share = x.copy(), 2 * (len(x) // 3 // 2)
    for axis, position in enumerate(place):
        of_axis = x[axis * share : (axis + 1) * share].copy()
        for feature in range(share):
            frequency = feature % (share // 2) if tiled else feature // 2
            angle = position * THETA ** (-frequency / (share // 2))
            other = -of_axis[feature + 1] if feature % 2 == 0 else of_axis[feature - 1]
            x[axis * share + feature] = of_axis[feature] * math.cos(angle) + other * math.sin(angle)
    return x


def attention(state, name, x, heads, places, tiled, allowed):
    """Softmax attention, one head after another; `places` None: nothing turns."""
    queries, keys, values = np.split(linear(state, f'{name}.qkv', x), 3, axis=-1)
    out, share = [], x.shape[-1] // heads
    for head in range(heads):
        q, k, v = (of[:, head * share : (head + 1) * share] for of in (queries, keys, values))
        if places is not None:
            q, k = (
                np.stack([turned(token, place, tiled) for token, place in zip(of, places)]) for of in (q, k)
            )
        logits = np.where(allowed, q @ k.T / math.sqrt(share), -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        out.append(weights / weights.sum(-1, keepdims=True) @ v)
    return linear(state, f'{name}.proj', np.concatenate(out, -1))


def blocks(state, x, heads, places=None, tiled=False, allowed=True):
    """Every pre-norm block, then the last norm."""
    depth = 1 + max(int(name.split('.')[1]) for name in state if name.startswith('predictor_blocks.'))
    for index in range(depth):
        name = f'predictor_blocks.{index}'
        y = layer_norm(x, state[f'{name}.norm1.weight'], state[f'{name}.norm1.bias'])
        x = x + attention(state, f'{name}.attn', y, heads, places, tiled, allowed)
        y = layer_norm(x, state[f'{name}.norm2.weight'], state[f'{name}.norm2.bias'])
        x = x + linear(state, f'{name}.mlp.fc2', gelu(linear(state, f'{name}.mlp.fc1', y)))
    return layer_norm(x, state['predictor_norm.weight'], state['predictor_norm.bias'])


def predict(family, state, context, context_ids, target_ids, grid, heads, mask_index=0):
    """
    One clip through a predictor with mask tokens, in the authors' order: tokens sorted by position, and back.

    :param family: as in a manifest; `state`: the authors' names to float64 arrays.
    :param context: [M, D]; `context_ids`: [M]; `target_ids`: [Q].
    :returns: predictions [Q, D_out], and for V-JEPA 2.1 those of the context [M, D_out], else None.
    """
    rows, columns = grid
    ids = [int(i) for i in [*context_ids, *target_ids]]
    places = [(i // (rows * columns), i // columns % rows, i % columns) for i in ids]
    if 'predictor_embed.0.weight' in state:
        x = linear(state, 'predictor_embed.2', gelu(linear(state, 'predictor_embed.0', context)))
    else:
        x = linear(state, 'predictor_embed', context)
    query = state['mask_token'] if family == 'ijepa' else state[f'mask_tokens.{mask_index}']
    x = np.concatenate([x, np.tile(query.reshape(1, -1), (len(target_ids), 1))])
    if family in ('ijepa', 'vjepa'):
        x, places = x + np.stack([added(family, place, x.shape[-1]) for place in places]), None
    elif family == 'vjepa2.1':
        x = x + state['video_mod_embed'].reshape(1, -1)
        places = [(time, row * 15 / (rows - 1), column * 15 / (columns - 1)) for time, row, column in places]
    order = np.argsort(ids, kind='stable')
    in_order = blocks(state, x[order], heads, places and [places[i] for i in order], family == 'vjepa2')
    x = np.empty_like(in_order)
    x[order] = in_order
    seen = len(context_ids)
    of_context = linear(state, 'predictor_proj_context', x[:seen]) if family == 'vjepa2.1' else None
    return linear(state, 'predictor_proj', x[seen:]), of_context


def predict_next(state, context, actions, states, grid, heads):
    """
    One sequence through V-JEPA 2-AC (Assran et al. 2025, section 3): action, state, then the frame, for every
    step.

    :param context: [T * N, D]; `actions`, `states`: [T, 7].
    :returns: [T * N, D_out].
    """
    (rows, columns), steps = grid, len(actions)
    frames = linear(state, 'predictor_embed', context).reshape(steps, rows * columns, -1)
    tokens, places, of_step, is_patch = [], [], [], []
    for step in range(steps):
        tokens += [
            linear(state, 'action_encoder', actions[step]),
            linear(state, 'state_encoder', states[step]),
        ]
        places += [(step, 0, 0)] * 2
        for cell in range(rows * columns):
            tokens.append(frames[step, cell])
            places.append((step, cell // columns, cell % columns * rows / columns))
        of_step += [step] * (2 + rows * columns)
        is_patch += [False] * 2 + [True] * (rows * columns)
    allowed = np.array(of_step)[:, None] >= np.array(of_step)[None]
    x = blocks(state, np.stack(tokens), heads, places, True, allowed)
    return linear(state, 'predictor_proj', x[np.array(is_patch)])

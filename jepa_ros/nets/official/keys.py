# SPDX-License-Identifier: Apache-2.0
"""
Names of weights: ours, those of Meta's files, and those of Hugging Face's; pure functions over state
dictionaries.

Meta's names differ from ours in a few words; I-JEPA's patches are 2D there. Hugging Face's split queries,
keys and values, and hold encoder and predictor in one dictionary. I-JEPA has two spellings there, before and
after transformers 5; both are read, the older, which the published files have, is written.
"""

import re

import torch

from jepa_ros.errors import JepaError

# (ours, Meta's): the word at the beginning of a name, then the words inside a block.
_HEADS = {
    'encoder': [
        ('patch_embed', 'patch_embed.proj'),
        ('patch_embed_img', 'patch_embed_img.proj'),
        ('norms.0', 'norm'),
    ],
    'predictor': [
        ('embed', 'predictor_embed'),
        ('blocks', 'predictor_blocks'),
        ('norm', 'predictor_norm'),
        ('proj', 'predictor_proj'),
        ('proj_context', 'predictor_proj_context'),
        ('pos_embed', 'predictor_pos_embed'),
    ],
}
_TAPPED = [*_HEADS['encoder'][:2], ('norms', 'norms_block')]
_MLP = [('mlp.0', 'mlp.fc1'), ('mlp.2', 'mlp.fc2')]
_QKV = ('query', 'key', 'value')

# (Meta's, Hugging Face's)
_HF_VJEPA2 = {
    'encoder': [
        ('patch_embed', 'encoder.embeddings.patch_embeddings'),
        ('blocks', 'encoder.layer'),
        ('norm', 'encoder.layernorm'),
    ],
    'predictor': [
        ('predictor_embed', 'predictor.embeddings.predictor_embeddings'),
        ('predictor_blocks', 'predictor.layer'),
        ('predictor_norm', 'predictor.layernorm'),
        ('predictor_proj', 'predictor.proj'),
    ],
}
_HF_VJEPA2_BLOCK = [('attn', 'attention')]
_HF_IJEPA = [
    ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
    ('pos_embed', 'embeddings.position_embeddings'),
    ('blocks', 'encoder.layer'),
    ('norm', 'layernorm'),
]
_HF_IJEPA_BLOCK = [
    ('attn.proj', 'attention.output.dense'),
    ('attn', 'attention.attention'),
    ('mlp.fc1', 'intermediate.dense'),
    ('mlp.fc2', 'output.dense'),
    ('norm1', 'layernorm_before'),
    ('norm2', 'layernorm_after'),
]
_HF_IJEPA_5 = [
    (r'^layers\.', 'encoder.layer.'),
    (r'attention\.(q|k|v)_proj', r'attention.attention.\1_proj'),
    ('q_proj', 'query'),
    ('k_proj', 'key'),
    ('v_proj', 'value'),
    (r'attention\.o_proj', 'attention.output.dense'),
    (r'mlp\.fc1', 'intermediate.dense'),
    (r'mlp\.fc2', 'output.dense'),
]


def to_official(state, model, part):
    """
    Our names to Meta's, without prefixes.

    :param state: dict of name to tensor of `OfficialEncoder`, `OfficialPredictor` or `ActionPredictor`.
    :param part: `encoder` or `predictor`.
    """
    result = _renamed(state, _heads(model, part), _MLP)
    if model.family == 'ijepa' and 'patch_embed.proj.weight' in result:
        result['patch_embed.proj.weight'] = result['patch_embed.proj.weight'][:, :, 0]
    tokens = result.pop('mask_tokens', None)
    if tokens is not None:
        names = (
            ['mask_token'] if model.family == 'ijepa' else [f'mask_tokens.{i}' for i in range(len(tokens))]
        )
        result.update({name: token[None, None] for name, token in zip(names, tokens)})
    return result


def from_official(state, model, part):
    """
    Meta's names, without prefixes, to ours: the inverse of `to_official`.

    Names that it does not know stay as they are, for the check of the whole dictionary to find.
    """
    result = _renamed(state, [pair[::-1] for pair in _heads(model, part)], [pair[::-1] for pair in _MLP])
    if model.family == 'ijepa' and 'patch_embed.weight' in result:
        result['patch_embed.weight'] = result['patch_embed.weight'][:, :, None]
    names = sorted(
        (name for name in result if re.fullmatch(r'mask_token(s\.\d+)?', name)),
        key=lambda name: int(name.partition('.')[2] or 0),
    )
    if names:
        result['mask_tokens'] = torch.cat([result.pop(name)[0] for name in names])
    return result


def to_hf(encoder, predictor, model):
    """
    Our dictionaries to one of Hugging Face's `IJepaModel` or `VJEPA2Model`.

    :param predictor: None for I-JEPA, whose predictor has no place there.
    :raises JepaError: for a family that transformers lacks.
    """
    if model.family == 'ijepa':
        return _split(_renamed(to_official(encoder, model, 'encoder'), _HF_IJEPA, _HF_IJEPA_BLOCK))
    _check_hf(model)
    result = {}
    for part, state in (('encoder', encoder), ('predictor', predictor)):
        state = to_official(state, model, part)
        tokens = [
            state.pop(name) for name in [f'mask_tokens.{i}' for i in range(len(state))] if name in state
        ]
        result |= _split(_renamed(state, _HF_VJEPA2[part], _HF_VJEPA2_BLOCK))
        if tokens:
            result['predictor.embeddings.mask_tokens'] = torch.stack(tokens)
    return result


def from_hf(state, model):
    """
    A dictionary of Hugging Face's to ours: (encoder, predictor); the predictor is None where there is none.

    Names that it does not know stay, in the encoder's. The inverse of `to_hf`.

    :raises JepaError: for a family that transformers lacks.
    """
    state = _join(hf_spelling(state, model))
    if model.family == 'ijepa':
        state = _renamed(state, [pair[::-1] for pair in _HF_IJEPA], [pair[::-1] for pair in _HF_IJEPA_BLOCK])
        return from_official(state, model, 'encoder'), None
    _check_hf(model)
    parts = {'encoder': {}, 'predictor': {}}
    for name, value in state.items():
        parts['predictor' if name.startswith('predictor.') else 'encoder'][name] = value
    tokens = parts['predictor'].pop('predictor.embeddings.mask_tokens', None)
    for part, of_part in parts.items():
        of_part = _renamed(
            of_part, [pair[::-1] for pair in _HF_VJEPA2[part]], [pair[::-1] for pair in _HF_VJEPA2_BLOCK]
        )
        if part == 'predictor' and tokens is not None:
            of_part |= {f'mask_tokens.{i}': token for i, token in enumerate(tokens)}
        parts[part] = from_official(of_part, model, part)
    return parts['encoder'], parts['predictor'] or None


def hf_spelling(state, model):
    """Names of transformers 5 as the published files have them."""
    if model.family != 'ijepa':
        return dict(state)
    return {
        _substituted(name) if name.startswith('layers.') else name: value for name, value in state.items()
    }


def _substituted(name):
    for pattern, replacement in _HF_IJEPA_5:
        name = re.sub(pattern, replacement, name)
    return name


def _check_hf(model):
    if model.family != 'vjepa2' or model.predictor.action_conditioned:
        raise JepaError(f'the layout of Hugging Face exists for ijepa and vjepa2, found {model.name}')


def _heads(model, part):
    return _TAPPED if part == 'encoder' and len(model.taps) > 1 else _HEADS[part]


def _renamed(state, heads, inner):
    """Replace the beginning of each name, and what follows a block's number; whole words only."""
    heads = sorted(heads, key=lambda pair: -len(pair[0]))
    inner = sorted(inner, key=lambda pair: -len(pair[0]))

    def swap(name, pairs):
        for old, new in pairs:
            if name == old or name.startswith(old + '.'):
                return new + name[len(old) :]
        return name

    result = {}
    for name, value in state.items():
        block = re.fullmatch(r'(.*?(?:blocks|layer))\.(\d+)\.(.*)', name)
        if block:
            result[f'{swap(block[1], heads)}.{block[2]}.{swap(block[3], inner)}'] = value
        else:
            result[swap(name, heads)] = value
    return result


def _split(state):
    """One matrix of queries, keys and values into three."""
    result = {}
    for name, value in state.items():
        if '.qkv.' in name:
            result |= {name.replace('qkv', part): piece for part, piece in zip(_QKV, value.chunk(3))}
        else:
            result[name] = value
    return result


def _join(state):
    """Three matrices into one; an incomplete set stays as it is."""
    result = dict(state)
    for name in state:
        names = [name.replace('.query.', f'.{part}.') for part in _QKV]
        if '.query.' in name and all(each in state for each in names):
            result[name.replace('.query.', '.qkv.')] = torch.cat([result.pop(each) for each in names])
    return result

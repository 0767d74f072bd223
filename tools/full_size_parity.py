#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Parity of the published networks at their full sizes, as far as this machine's memory goes.

  python tools/full_size_parity.py                         # everything that fits
  python tools/full_size_parity.py vjepa2-vitl ijepa-vith14
  python tools/full_size_parity.py vjepa2-vitg --frames 16

With random weights: encoder and predictor against transformers where it has the family (whole clips), and
against the equations that the tests hold (some tokens, position by position over the whole image; the rest is
dropped before the first block). Prints a table with the largest absolute differences in float32. Exits with 1
when one of them is above the bound, and with 2 when nothing could be compared.
"""

import argparse
import importlib.util
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]

import official_reference  # noqa: E402
import tiny_official  # noqa: E402

from jepa_ros.nets.official import keys  # noqa: E402
from jepa_ros.nets.official.encoder import OfficialEncoder  # noqa: E402
from jepa_ros.nets.official.families import MODELS, ClipShape  # noqa: E402
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor  # noqa: E402

BOUND = 1e-4
TOKENS = 6            # that the equations are computed for, one after another
ACTION_STEPS = 2      # of V-JEPA 2-AC, whose sequences cannot be thinned out
ROOM = 1.5e9          # bytes for activations and libraries


@dataclass
class Row:
    """
    One comparison: what, against what, over how many tokens, how far apart (None: not compared, and why).
    """

    part: str
    against: str
    tokens: int = 0
    difference: float | None = None
    seconds: float = 0.0
    why: str = ''


class AsDouble(dict):
    """Weights that become float64 when they are read, one at a time: all at once would be twice the model."""

    def __getitem__(self, name):
        return super().__getitem__(name).double()


def encoder_equations():
    """`reference` of the encoders' test."""
    path = ROOT / 'test' / 'nets' / 'official' / 'test_papers.py'
    spec = importlib.util.spec_from_file_location('test_papers', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reference


def available_bytes():
    """Memory that can be had without swapping, or infinity where the system does not say."""
    try:
        lines = Path('/proc/meminfo').read_text(encoding='ascii').splitlines()
    except OSError:
        return float('inf')
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith('MemAvailable'))


def compared(part, against, tokens, ours, theirs):
    """Run both, and measure."""
    began = time.monotonic()
    with torch.inference_mode():
        ours, theirs = ours(), theirs()
    if ours.shape != theirs.shape or not theirs.std() > 0.1:
        raise AssertionError(
            f'{part} against {against}: shapes {tuple(ours.shape)} and {tuple(theirs.shape)}, '
            f'spread {theirs.std():.3g}'
        )
    difference = (ours.double() - theirs.double()).abs().max().item()
    return Row(part, against, tokens, difference, time.monotonic() - began)


def transformers_model(model, frames, encoder, predictor):
    """transformers' network around our weights, which are not copied; None where it lacks the family."""
    size, narrow = model.size, model.predictor.size
    if model.family not in ('ijepa', 'vjepa2') or model.predictor.action_conditioned:
        return None
    import transformers

    shared = {'patch_size': model.patch, 'hidden_size': size.width, 'num_attention_heads': size.heads,
              'num_hidden_layers': size.depth, 'layer_norm_eps': 1e-6}
    with torch.device('meta'):
        if model.family == 'ijepa':
            theirs = transformers.IJepaModel(transformers.IJepaConfig(
                image_size=model.image_size, intermediate_size=size.mlp_width, **shared))
        else:
            theirs = transformers.VJEPA2Model(transformers.VJEPA2Config(
                crop_size=model.image_size, frames_per_clip=frames, tubelet_size=model.tubelet,
                mlp_ratio=size.mlp_width / size.width, pred_hidden_size=narrow.width,
                pred_num_attention_heads=narrow.heads, pred_num_hidden_layers=narrow.depth,
                pred_num_mask_tokens=model.predictor.mask_tokens, **shared))
    state = keys.to_hf(encoder.state_dict(), predictor.state_dict(), model)
    spelled = {name: next(iter(keys.hf_spelling({name: None}, model))) for name in theirs.state_dict()}
    theirs.load_state_dict(
        {name: state[published] for name, published in spelled.items()}, strict=True, assign=True
    )
    return theirs.eval()


def encoder_rows(model, clip, encoder, theirs):
    """The encoder, against all there is."""
    frames = torch.randn(1, 3, clip.frames, *clip.image_size, generator=torch.Generator().manual_seed(1))
    total = clip.slices * clip.tokens
    if theirs is not None:
        def run():
            if model.family == 'ijepa':
                return theirs(frames[:, :, 0]).last_hidden_state
            return theirs(frames.transpose(1, 2), skip_predictor=True).last_hidden_state

        yield compared('encoder', 'transformers', total, lambda: encoder(frames), run)
    ids = torch.linspace(0, total - 1, TOKENS).long()[None]  # both corners are among them
    state = AsDouble(keys.to_official(encoder.state_dict(), model, 'encoder'))
    if model.family == 'ijepa':
        state['patch_embed.proj.weight'] = state['patch_embed.proj.weight'][:, :, None]
    filled = frames if model.modalities else frames.expand(-1, -1, max(clip.frames, model.tubelet), -1, -1)
    equations, levels = encoder_equations(), slice(None) if encoder.hierarchical else slice(-1, None)
    yield compared('encoder', 'equations', TOKENS, lambda: encoder(frames, ids=ids)[0], lambda: torch.cat(
        equations(state, model, filled[0].double(), ids[0].tolist())[levels], -1))


def predictor_rows(model, clip, predictor, theirs):
    """The predictor, against all there is."""
    generator = torch.Generator().manual_seed(2)
    state = {name: value.double().numpy()
             for name, value in keys.to_official(predictor.state_dict(), model, 'predictor').items()}
    heads, width = model.predictor.size.heads, model.size.width * model.predictor.levels
    if model.predictor.action_conditioned:
        context = torch.randn(1, ACTION_STEPS * clip.tokens, width, generator=generator)
        actions, states = torch.randn(2, 1, ACTION_STEPS, 7, generator=generator)
        yield compared(
            'predictor',
            'equations',
            context.shape[1],
            lambda: predictor(context, actions, states)[0],
            lambda: torch.from_numpy(
                official_reference.predict_next(
                    state, *(of[0].double().numpy() for of in (context, actions, states)), clip.grid, heads
                )
            ),
        )
        return
    total = clip.slices * clip.tokens
    if theirs is not None and model.family == 'vjepa2':
        context = torch.randn(1, total, width, generator=generator)
        order = torch.randperm(total, generator=generator)[None]
        seen, hidden = order[:, :total // 2], order[:, total // 2:]
        yield compared(
            'predictor',
            'transformers',
            total,
            lambda: predictor(
                context.gather(1, seen[..., None].expand(-1, -1, width)), seen, hidden, mask_index=1
            ),
            lambda: theirs.predictor(context, [seen], [hidden]).last_hidden_state,
        )
    ids = torch.linspace(0, total - 1, 2 * TOKENS).long()
    seen, hidden = ids[::2], ids[1::2]
    context = torch.randn(1, TOKENS, width, generator=generator)
    yield compared(
        'predictor',
        'equations',
        2 * TOKENS,
        lambda: predictor(context, seen[None], hidden[None])[0],
        lambda: torch.from_numpy(
            np.asarray(
                official_reference.predict(
                    model.family,
                    state,
                    context[0].double().numpy(),
                    seen,
                    hidden,
                    clip.grid,
                    heads,
                    model.predictor.mask_index,
                )[0]
            )
        ),
    )


def rows(model, frames):
    """All comparisons of one model."""
    if model.predictor.action_conditioned or model.tubelet == 1:
        frames = 1  # frames are encoded alone
    clip, kind = ClipShape.of(model, frames=frames), OfficialPredictor
    needed = 4 * (1.1 * model.encoder_parameters + 4 * model.predictor_parameters) + ROOM
    if needed > available_bytes():
        yield Row('all', 'all', why=f'needs {needed / 1e9:.1f} GB, {available_bytes() / 1e9:.1f} GB are free')
        return
    if model.predictor.action_conditioned:
        predictor, kind = ActionPredictor(model, steps=ACTION_STEPS), ActionPredictor
    else:
        predictor = kind(model, frames=frames)
    predictor = tiny_official.random_weights(predictor, seed=1)
    encoder = tiny_official.random_weights(
        OfficialEncoder(model, frames=frames, hierarchical=model.predictor.levels > 1)
    )
    theirs, why = None, ''
    try:
        theirs = transformers_model(model, frames, encoder, predictor)
    except ImportError as error:
        why = f'transformers cannot be imported: {error}'
    yield from encoder_rows(model, clip, encoder, theirs)
    yield from predictor_rows(model, clip, predictor, theirs)
    if why:
        yield Row('all', 'transformers', why=why)


def main():
    """Parse the command line, compare, print; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('models', nargs='*', metavar='MODEL', help=f'default all: {", ".join(MODELS)}')
    parser.add_argument('--frames', type=int, default=4, metavar='F',
                        help='of a clip; even. Images and V-JEPA 2-AC take one (default: %(default)s)')
    parser.add_argument(
        '--bound', type=float, default=BOUND, help='largest difference allowed (default: %(default)g)'
    )
    args = parser.parse_args()
    strange = [name for name in args.models if name not in MODELS]
    if strange or args.frames < 2 or args.frames % 2:
        parser.error(f'unknown model {strange[0]}; known: {", ".join(MODELS)}' if strange
                     else f'--frames must be even and at least 2, found {args.frames}')
    print(
        f'{"model":<17}{"part":<11}{"against":<14}{"tokens":>7}{"difference":>12}{"seconds":>9}', flush=True
    )
    worst = None
    for name in args.models or MODELS:
        for row in rows(MODELS[name], args.frames):
            start = f'{name:<17}{row.part:<11}{row.against:<14}'
            if row.difference is None:
                print(f'{start}skipped: {row.why}', flush=True)
                continue
            verdict = '' if row.difference <= args.bound else f'  above {args.bound:g}'
            print(f'{start}{row.tokens:>7}{row.difference:>12.1e}{row.seconds:>9.1f}{verdict}', flush=True)
            worst = max(worst or 0.0, row.difference)
    if worst is None:
        print('nothing could be compared')
        return 2
    return 0 if worst <= args.bound else 1


if __name__ == '__main__':
    sys.exit(main())

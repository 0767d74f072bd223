# SPDX-License-Identifier: Apache-2.0
"""
The model card of a bundle, written from its manifest alone, so that it cannot say what the manifest does not.
"""

HEAD = {
    'ijepa': 'image encoder (I-JEPA)',
    'vjepa': 'video encoder (V-JEPA)',
    'vjepa2': 'video encoder (V-JEPA 2)',
    'vjepa2.1': 'video encoder (V-JEPA 2.1)',
}


def card(manifest):
    """
    Markdown for the README.md of a bundle.

    :param manifest: `jepa_ros.engine.manifest.Manifest`, parity filled in.
    """
    with_ = ['a forecaster'] * bool(manifest.forecaster)
    with_ += [f'a readout of `{manifest.readout.name}`'] if manifest.readout else []
    lines = [
        f'# {manifest.name}',
        '',
        f'{HEAD[manifest.family]} in mode `{manifest.mode}`'
        + ' with ' * bool(with_)
        + ' and '.join(with_)
        + '. '
        f'Run it with `bundle: {manifest.name}`; `jepa info` prints the manifest.',
        '',
        '| | |',
        '|---|---|',
        f'| input | {manifest.frames} frame(s) of {manifest.image_size[0]}x{manifest.image_size[1]} (height '
        f'x width), one every {manifest.frame_period:g} s |',
        f'| latents | {manifest.grid[0]}x{manifest.grid[1]} tokens of {manifest.latent_dim}, every '
        f'{manifest.slice_period:g} s, output norm {manifest.output_norm} |',
        *_futures(manifest),
        f'| weights | {manifest.weights.which}, licence {manifest.weights.licence}, checkpoint sha256 '
        f'`{manifest.weights.sha256[:16]}…` |',
        f'| made by | {_maker(manifest)} |',
        '',
        f'## Graphs in {manifest.precision} against the checkpoint in float32',
        '',
        f'Measured on {manifest.parity_inputs}.',
        '',
        '| output | largest absolute difference | mean cosine similarity |',
        '|---|---|---|',
        *(
            f'| {output} | {difference:.1e} | {manifest.cosine[output]:.7f} |'
            for output, difference in manifest.parity.items()
        ),
        '',
    ]
    if 'config' in manifest.training:
        lines += _data(manifest.training['config']['data'])
    if 'validation' in manifest.metrics:
        lines += _validation(manifest, manifest.metrics['validation'])
    return '\n'.join(lines)


def _futures(manifest):
    if manifest.forecaster is None:
        return
    horizons = manifest.forecaster.horizons
    if horizons.values:
        yield f'| horizons | {", ".join(f"{value:g}" for value in horizons.values)} s |'
    else:
        yield (
            f'| horizons | any in {horizons.min} to {horizons.max} s; '
            f'{", ".join(map(str, horizons.default))} by default |'
        )
    if manifest.future_space != 'latents':
        yield f'| futures | {manifest.forecaster.dim} wide, in the space of {manifest.future_space} |'


def _maker(manifest):
    config = manifest.training.get('config')
    return manifest.weights.source + (f', seed {config["seed"]}' if config else '')


def _data(data):
    return [
        '## Data',
        '',
        *(
            f'- {split.replace("_", " ")}: ' + ', '.join(f'`{pattern}`' for pattern in data[split])
            for split in ('train', 'validation', 'held_out')
            if data.get(split)
        ),
        '',
    ]


def _validation(manifest, validation):
    return [
        '## Validation, as the trainer measured it',
        '',
        f'Step {validation.get("step", "?")}. Skill is 1 - error / error of a baseline: the newest latent '
        'unchanged (persistence), or drawn towards the training mean by the best factor (shrunk).',
        '',
        '| horizon s | skill over persistence | skill over shrunk |',
        '|---|---|---|',
        *(
            f'| {key[6:-1]} | {value:+.3f} | {validation["skill_shrunk_" + key[6:]]:+.3f} |'
            for key, value in validation.items()
            if key.startswith('skill_') and 'shrunk' not in key
        ),
        '',
        f'Effective rank of the latents {validation.get("rank", float("nan")):.1f} of {manifest.latent_dim}, '
        f'standard deviation over tokens {validation.get("std", float("nan")):.2f}.',
        '',
    ]

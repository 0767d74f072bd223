# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle, written from its manifest alone, so that it cannot say what the manifest does not."""


def card(manifest):
    """
    Markdown for the README.md of a bundle.

    :param manifest: `jepa_ros.engine.manifest.Manifest`, parity filled in.
    """
    data = manifest.training['config']['data']
    horizons = manifest.forecaster.horizons
    validation = manifest.metrics.get('validation', {})
    lines = [
        f'# {manifest.name}', '',
        f'{manifest.family} encoder in mode `{manifest.mode}` with a forecaster'
        + (f' and a readout of `{manifest.readout.name}`' if manifest.readout else '') + '. '
        f'Run it with `bundle: {manifest.name}`; `jepa info` prints the manifest.', '',
        '| | |', '|---|---|',
        f'| input | {manifest.frames} frame(s) of {manifest.image_size[0]}x{manifest.image_size[1]} (height x width), '
        f'one every {manifest.frame_period} s |',
        f'| latents | {manifest.grid[0]}x{manifest.grid[1]} tokens of {manifest.latent_dim}, every '
        f'{manifest.slice_period:g} s, output norm {manifest.output_norm} |',
        f'| horizons | any in {horizons.min} to {horizons.max} s; {", ".join(map(str, horizons.default))} by default |',
        f'| weights | {manifest.weights.which}, licence {manifest.weights.licence}, checkpoint sha256 '
        f'`{manifest.weights.sha256[:16]}…` |',
        f'| made by | {manifest.weights.source}, seed {manifest.training["config"]["seed"]} |',
        f'| graph against torch | largest absolute difference {max(manifest.parity.values()):.1e} |', '',
        '## Data', '',
        *(f'- {split.replace("_", " ")}: ' + ', '.join(f'`{pattern}`' for pattern in data[split])
          for split in ('train', 'validation', 'held_out') if data[split]), '',
        '## Validation, as the trainer measured it', '',
        f'Step {validation.get("step", "?")}. Skill is 1 - error / error of a baseline: the newest latent unchanged '
        '(persistence), or drawn towards the training mean by the best factor (shrunk).', '',
        '| horizon s | skill over persistence | skill over shrunk |', '|---|---|---|',
        *(f'| {key[6:-1]} | {value:+.3f} | {validation["skill_shrunk_" + key[6:]]:+.3f} |'
          for key, value in validation.items() if key.startswith('skill_') and 'shrunk' not in key), '',
        f'Effective rank of the latents {validation.get("rank", float("nan")):.1f} of {manifest.latent_dim}, standard '
        f'deviation over tokens {validation.get("std", float("nan")):.2f}.', '']
    return '\n'.join(lines)

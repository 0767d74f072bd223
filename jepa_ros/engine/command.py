# SPDX-License-Identifier: Apache-2.0
"""``jepa info``: what an engine bundle is, what it needs and how well it was measured."""

import argparse
import json

from jepa_ros.engine.bookkeeping import manifest_rows
from jepa_ros.engine.build import backends_here
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.manifest import Horizons, Manifest
from jepa_ros.paths import DEFAULT_BUNDLE, PROMOTED, find_promotion


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('bundle', nargs='?', default='conveyor_vjepa',
                        help='directory of a bundle, the name of a shipped one, or promoted: the default, '
                             'as an audit decided (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print the manifest as JSON')


def run(args: argparse.Namespace) -> int:
    """Check the bundle and print its manifest."""
    bundle = Bundle.load(args.bundle)
    if args.json:
        print(json.dumps(bundle.manifest.to_dict(), indent=2))
        return 0
    from rich.console import Console

    console = Console()
    if args.bundle == PROMOTED:
        console.print(promotion_sentence(), highlight=False)
    for title, rows in sections(bundle):
        console.print(_table(title, rows))
    return 0


def promotion_sentence() -> str:
    """Return what the name ``promoted`` stands for, and why."""
    found = find_promotion()
    if found is None:
        return f'nothing was promoted yet: {DEFAULT_BUNDLE} stands in (jepa audit --promote)'
    return (f'promoted on {found.date}: {found.bundle.name}, by {found.audit} '
            f'(sha256 {found.audit_sha256[:12]}...); {found.path}')


def sections(bundle: Bundle) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what is told about a bundle: titles, each with rows of a name and a text."""
    manifest = bundle.manifest
    found = [('What it is', _identity(bundle)), ('What it needs', _needs(manifest)),
             ('What runs it here', backends_here(bundle)), ('Tokens and cost', manifest_rows(manifest))]
    if manifest.parity:
        found.append(('Graphs against the checkpoint in float32', _parity(manifest)))
    for title, values in (('Measured', manifest.metrics), ('Training', manifest.training)):
        if values:
            found.append((title, list(_flat(values))))
    sizes = {name: (bundle.path / name).stat().st_size / 1e6 for name in manifest.files}
    found.append(('Files', [(name, f'{sizes[name]:.2f} MB, sha256 {digest[:12]}...')
                            for name, digest in manifest.files.items()]))
    return found


def _identity(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    rows, columns = manifest.grid
    identity = [('name', manifest.name), ('model', f'{bundle.model_id} ({bundle.model_id:08x})'),
                ('path', str(bundle.path)), ('family', manifest.family), ('mode', manifest.mode),
                ('latents', f'{rows}x{columns} tokens of {manifest.latent_dim}, '
                            f'output norm {manifest.output_norm}')]
    if manifest.forecaster:
        spec = manifest.forecaster
        identity.append(('futures', f'{_describe(spec.horizons)}, from {spec.context} slices, '
                                    f'{spec.dim} wide, in the space of {manifest.future_space}'))
    else:
        identity.append(('futures', 'none'))
    readout = manifest.readout
    identity.append(('readout', f'{readout.name} ({readout.quantity})' if readout else 'none'))
    weights = manifest.weights
    identity += [('precision', manifest.precision), ('weights', f'{weights.which}, {weights.source}'),
                 ('licence', weights.licence)]
    return identity


def _needs(manifest: Manifest) -> list[tuple[str, str]]:
    height, width = manifest.image_size
    needs = [('images', f'{width}x{height} (resized for it), one every {1000 * manifest.frame_period:g} ms'),
             ('per step', f'{manifest.frames} frame(s), {manifest.tubelet} per slice')]
    if manifest.stream:
        needs.append(('cache', f'{manifest.stream.slices} slices, '
                               f'{manifest.stream.slices * manifest.slice_period:g} s'))
    if manifest.readout:
        needs.append(('publish mode for the readout', manifest.readout.publish))
    return needs


def _parity(manifest: Manifest) -> list[tuple[str, str]]:
    rows = [('on', manifest.parity_inputs)] if manifest.parity_inputs else []
    for output, difference in manifest.parity.items():
        cosine = manifest.cosine.get(output)
        rows.append((output, f'max abs error {difference:.4g}'
                     + (f', mean cosine similarity {cosine:.7f}' if cosine is not None else '')))
    return rows


def _describe(horizons: Horizons) -> str:
    times = ', '.join(f'{t:g}' for t in horizons.default or horizons.values)
    if horizons.values is not None:
        return f'{times} s'
    return f'any of {horizons.min:g}..{horizons.max:g} s (default {times})'


def _flat(values: dict, prefix: str = ''):
    """Yield nested mappings as rows of a dotted name and a text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, f'{value:.4g}' if isinstance(value, float) else str(value)


def _table(title: str, rows: list[tuple[str, str]]):
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify='left', title_style='bold', show_header=False, box=None,
                  padding=(0, 2, 0, 0))
    table.add_column(style='cyan', no_wrap=True)
    table.add_column(overflow='fold')
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table

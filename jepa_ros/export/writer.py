# SPDX-License-Identifier: Apache-2.0
"""Writing a bundle: graphs, their precision, how near they are to torch, manifest; whole or not at all."""

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path

import torch

from jepa_ros.data.sequences import find_recordings
from jepa_ros.engine.bundle import Bundle, file_sha256, write_manifest
from jepa_ros.engine.manifest import ENCODER, FORECASTER, READOUT
from jepa_ros.errors import JepaError
from jepa_ros.export import graphs
from jepa_ros.export import precision as precisions
from jepa_ros.export.card import card
from jepa_ros.export.clips import Replay
from jepa_ros.export.fidelity import Fidelity, expected_outputs, open_rounded

RANDOM_DRAWS = 3
FILES = {'encoder': ENCODER, 'forecaster': FORECASTER, 'readout': READOUT}


def placeholders(forecaster, readout):
    """The files of a manifest whose graphs are still to be written: a manifest must name them."""
    names = [ENCODER] + [FORECASTER] * forecaster + [READOUT] * readout
    return dict.fromkeys(names, '0' * 64)


def write_bundle(out, manifest, modules, clips=None, more=None, progress=print):
    """
    Write an engine bundle; an existing one of the same path is replaced only when the new one is whole.

    :param out: directory to write.
    :param manifest: what the bundle is; its files, parity and cosines are filled in. Its precision is that of
        the graphs.
    :param modules: dict of encoder, forecaster and readout (those there are) to float32 torch modules in eval
        mode with the signatures of the graphs.
    :param clips: `clips.Clips` to calibrate and measure on; None: random inputs.
    :param more: function of a directory that writes further files into it.
    :param progress: called with a line for every stage.
    :returns: the loaded Bundle.
    :raises JepaError: the directory holds something else, int8 without clips, or a graph is beyond its bound.
    """
    out = Path(out)
    if out.exists() and not (out / 'manifest.yaml').exists() and any(out.iterdir()):
        raise JepaError(f'{out} is not empty and holds no engine bundle: name another directory with --out')
    if manifest.precision == 'int8' and clips is None:
        raise JepaError('int8 needs recordings to calibrate with: name some with --clips')
    if clips is not None:
        find_recordings(clips.patterns)  # before minutes are spent
    with _replacing(out) as work:
        manifest = _write_graphs(work, manifest, modules, clips, progress)
        if more is not None:
            more(work)
        (work / 'README.md').write_text(card(manifest), encoding='utf-8')
        _write_manifest(work, manifest)
    return Bundle.load(out)


@contextlib.contextmanager
def _replacing(out):
    """A folder beside `out` that takes its place when all went well."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.'))
    try:
        yield work
        work.chmod(0o755)
        old = work.with_name(f'{work.name}.old')
        if out.exists():
            out.rename(old)
        try:
            work.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)  # plans in it may be another user's
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_manifest(directory, manifest):
    files = {path.name: file_sha256(path) for path in sorted(directory.iterdir()) if path.is_file()}
    files.pop('manifest.yaml', None)
    write_manifest(directory, dataclasses.replace(manifest, files=files))


def _write_graphs(work, manifest, modules, clips, progress):
    """Write all graphs in the manifest's precision and return it with what was measured on them."""
    exact = work if manifest.precision == 'fp32' else work / 'float32'
    exact.mkdir(exist_ok=True)
    examples = graphs.example_inputs(manifest, torch.Generator().manual_seed(0))
    outputs = graphs.output_names(manifest)
    for name, module in modules.items():
        progress(f'exporting {FILES[name]}')
        graphs.write_onnx(module, examples[name], outputs[name], exact / FILES[name])
    inputs = _Clips(exact, manifest, clips) if clips else _Random(manifest)
    if manifest.precision != 'fp32':
        for name in modules:
            progress(f'writing {FILES[name]} in {manifest.precision}')
            precisions.convert(
                exact / FILES[name], work / FILES[name], manifest.precision, inputs.calibration(name)
            )
    fidelity = _measure(work, manifest, modules, examples, inputs, progress)
    if exact != work:
        shutil.rmtree(exact)
    (work / 'manifest.yaml').unlink(missing_ok=True)
    how = ''
    if manifest.precision in precisions.TYPES:
        how = f'; operands and results of the products rounded to {manifest.precision}, summed in float32'
    return dataclasses.replace(
        manifest, parity=fidelity.parity, cosine=fidelity.cosine, parity_inputs=inputs.words + how
    )


def _measure(work, manifest, modules, examples, inputs, progress):
    """Run all graphs against torch; :raises JepaError: one was not run, or is beyond its bound."""
    progress(f'running {", ".join(FILES[name] for name in modules)} against torch on {inputs.words}')
    fidelity, outputs = Fidelity(), graphs.output_names(manifest)
    runs = {name: open_rounded(work / FILES[name], manifest.precision) for name in modules}
    for feeds in inputs.measured():
        for name, values in feeds.items():
            arguments = [values[key] for key in examples[name]]
            expected, found = expected_outputs(modules[name], arguments, outputs[name]), runs[name](values)
            for output in outputs[name]:
                fidelity.add(f'{name}.{output}', expected[output], found[output])
    if manifest.mode == 'stream' and manifest.precision != 'fp32':
        for expected, found in inputs.closed_loop(runs['encoder']):
            fidelity.add('session.tokens', expected, found)
    for output, difference in fidelity.parity.items():
        progress(
            f'  {output}: differs by at most {difference:.1e}, cosine similarity '
            f'{fidelity.cosine[output]:.7f}'
        )
    for name in modules:
        if f'{name}.{outputs[name][0]}' not in fidelity.parity:
            raise _never_run(name, manifest, inputs.words)
    fidelity.check(manifest.precision)
    return fidelity


def _never_run(name, manifest, words):
    return JepaError(
        f'{FILES[name]} was never run: expected recordings with enough windows for its context of '
        f'{manifest.forecaster.context} slices, found {words} (--windows, --clips)'
    )


class _Random:
    """
    Inputs drawn at random: they tell whether a graph is right, and little of how precise it is on images.
    """

    words = 'random inputs (no recordings were named)'

    def __init__(self, manifest):
        self._manifest = manifest

    def measured(self):
        generator = torch.Generator().manual_seed(1)
        for _ in range(RANDOM_DRAWS):
            drawn = graphs.example_inputs(self._manifest, generator)
            yield {
                name: {key: value.numpy() for key, value in feeds.items()} for name, feeds in drawn.items()
            }

    def calibration(self, name):
        return None

    def closed_loop(self, encoder):
        return ()


class _Clips:
    """Inputs from recordings through the float32 graphs."""

    def __init__(self, exact, manifest, clips):
        _write_manifest(exact, dataclasses.replace(manifest, precision='fp32'))
        self._manifest, self._replay = manifest, Replay(Bundle.load(exact))
        recordings = clips.load(self._replay.session.request, manifest.image_size)
        # The middle one of an odd number is in both halves, so that a single one is enough.
        self._first = [windows[: (len(windows) + 1) // 2] for windows in recordings.values()]
        self._second = [windows[len(windows) // 2 :] for windows in recordings.values()]
        self.words = (
            f'{sum(map(len, self._second))} windows of {", ".join(recordings)}'
            + '; calibrated on earlier ones' * (manifest.precision == 'int8')
        )

    def measured(self):
        return self._replay.feeds(self._second)

    def calibration(self, name):
        count = 0
        for feeds in self._replay.feeds(self._first):
            if name in feeds:
                count += 1
                yield feeds[name]
        if not count:
            raise _never_run(name, self._manifest, f'{sum(map(len, self._first))} windows to calibrate on')

    def closed_loop(self, encoder):
        """
        Latents of the float32 session and of one whose encoder, and so its cache, has the other precision.
        """
        expected = list(self._replay.tokens(self._second))
        self._replay.replace_encoder(encoder)
        return zip(expected, self._replay.tokens(self._second))

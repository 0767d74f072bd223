# SPDX-License-Identifier: Apache-2.0
"""`jepa export` on the command line: it writes where it should, reads once, and refuses in one sentence."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros import cli  # noqa: E402
from jepa_ros.engine.bundle import Bundle  # noqa: E402
from jepa_ros.training import model as models  # noqa: E402


def test_the_default_folder_bears_the_runs_name_and_the_checkpoint_is_read_once(
    tmp_path, checkpoint, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    checkpoint(
        tmp_path / 'best.pt',
        encoder={'depth': 1, 'image_size': [32, 48], 'tubelet': 1, 'window': 1},
        pretraining={'objective': 'ijepa'},
        stages=['pretraining'],
        readout={},
    )
    reads, load = [], models.load
    monkeypatch.setattr(models, 'load', lambda path: reads.append(path) or load(path))
    assert cli.main(['export', 'best.pt', '--precision', 'fp16']) == 0
    manifest = Bundle.load(tmp_path / 'bundles' / 'small').manifest
    assert (manifest.name, manifest.precision, len(reads)) == ('small', 'fp16', 1)
    out = capsys.readouterr().out
    assert 'bundles/small: small, mode frame, fp16' in out and 'encoder.tokens: differs by at most' in out


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--precision', 'int8'], 'int8 needs recordings to calibrate with: name some with --clips'),
        (['--windows', '0'], '--windows must be at least 1, found 0'),
        (['--clips', 'nowhere.mp4'], 'nowhere.mp4: expected'),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(tmp_path, checkpoint, capsys, arguments, words):
    checkpoint(tmp_path / 'best.pt', stages=['pretraining'], readout={})
    out = tmp_path / 'bundle'
    assert cli.main(['export', str(tmp_path / 'best.pt'), '--out', str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1 and not out.exists()

# SPDX-License-Identifier: Apache-2.0
"""``jepa build``, and what ``jepa info`` says of backends."""

import pytest
from bundles import make_bundle
from fake_gpu import Machine

from jepa_ros.cli import main
from jepa_ros.engine.backends import tensorrt
from jepa_ros.engine.build import backends_here, plan_states
from jepa_ros.engine.bundle import Bundle


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
    return make_bundle(tmp_path / 'bundle')


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_build_then_check(machine, bundle, capsys):
    assert main(['build', str(bundle), '--check']) == 1
    assert capsys.readouterr().out.count('no plan for this machine (not built yet)') == 3
    assert main(['build', str(bundle)]) == 0
    told = capsys.readouterr().out
    for name in ('encoder', 'forecaster', 'readout'):
        assert f'{name}.onnx: TensorRT 10.3.0 on Fake Orin (compute capability 8.7), plan built' in told
    assert machine.trt.builds == 3
    assert main(['build', str(bundle), '--check']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.endswith('built for Fake Orin (8.7), TensorRT 10.3.0: fits') for line in lines)
    assert main(['build', str(bundle)]) == 0 and machine.trt.builds == 3
    Bundle.load(bundle)  # plans are no files of the bundle


def test_check_says_why_a_plan_does_not_fit(machine, bundle, capsys):
    main(['build', str(bundle)])
    readout, = (bundle / 'plans').glob('readout-*.plan')
    readout.write_bytes(readout.read_bytes()[:-1])
    machine.trt.__version__ = '10.16.1'
    capsys.readouterr()
    assert main(['build', str(bundle), '--check']) == 1
    told = capsys.readouterr().out
    assert told.count("does not fit: tensorrt '10.3.0' instead of '10.16.1'") == 2
    assert 'the plan is damaged' in told and told.count('no plan for this machine (not built yet)') == 3


def test_plans_of_other_bundles_in_the_users_cache_are_not_listed(machine, tmp_path, bundle):
    other = make_bundle(tmp_path / 'other', seed=1)
    for path in (bundle, other):
        (path / 'plans').symlink_to('/nothing/there')  # cannot be made a directory
        main(['build', str(path)])
    states = plan_states(Bundle.load(bundle))
    assert len(states) == 3 and all(state.problem is None for state in states)


def test_without_a_gpu_it_is_one_sentence(bundle, capsys, monkeypatch):
    monkeypatch.setattr(tensorrt, 'has_driver', lambda: False)
    assert main(['build', str(bundle)]) == 2
    captured = capsys.readouterr()
    assert captured.err == ('jepa: error: expected an NVIDIA GPU and its driver for TensorRT, found none\n')
    assert captured.out == ''
    assert main(['build', str(bundle), '--check']) == 1


def test_info_says_what_runs_here(machine, bundle, capsys):
    rows = dict(backends_here(Bundle.load(bundle)))
    assert rows['tensorrt'] == ('10.3.0 on Fake Orin (8.7); to be built: encoder, forecaster, readout '
                                '(jepa build)')
    assert rows['auto takes'] == 'tensorrt' and 'CPU' in rows['onnxruntime']
    main(['build', str(bundle)])
    assert dict(backends_here(Bundle.load(bundle)))['tensorrt'].endswith('all plans are built')
    capsys.readouterr()
    assert main(['info', str(bundle)]) == 0
    assert 'What runs it here' in capsys.readouterr().out


def test_info_on_a_machine_without_a_gpu(bundle, monkeypatch):
    monkeypatch.setattr(tensorrt, 'has_driver', lambda: False)
    rows = dict(backends_here(Bundle.load(bundle)))
    assert rows['tensorrt'] == 'no: expected an NVIDIA GPU and its driver for TensorRT, found none'
    assert rows['auto takes'] == 'onnxruntime'

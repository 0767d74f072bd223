# SPDX-License-Identifier: Apache-2.0
"""What a run keeps, which scenes it has, and one of them with the oracle in real physics."""

import json

import numpy as np
import pytest

from jepa_ros.cli import main
from jepa_ros.evaluation import rollout_run
from jepa_ros.evaluation.rollout_run import Plan, RolloutError, Store, run_all
from jepa_ros.evaluation.rollout_scene import Scene, van_der_corput
from jepa_ros.sim import seeds
from jepa_ros.sim.belt import SPEEDS
from jepa_ros.sim.hall import SimError, import_mujoco

PLAN = Plan({}, {}, {'oracle': 0.03})


def test_any_run_of_seeds_covers_the_speeds_evenly():
    assert [van_der_corput(n, 2) for n in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
    speeds = np.array([Scene(seed).speed for seed in seeds.HELD_OUT[3000:3100]])
    counts, _ = np.histogram(speeds, 5, SPEEDS)
    assert counts.sum() == 100 and counts.min() >= 18
    covered = np.array([Scene(seed).covered for seed in seeds.HELD_OUT[3000:3100]])
    assert 0.6 < covered.mean() < 0.7 and abs(np.corrcoef(covered, speeds)[0, 1]) < 0.15


def test_episodes_are_kept_and_gone_on_with(tmp_path, monkeypatch):
    ran = []

    def run_one(plan, name, seed, stop=None):
        ran.append((name, seed))
        return {'contender': name, 'seed': seed}

    monkeypatch.setattr(rollout_run, 'run_one', run_one)
    store = Store(tmp_path)
    store.begin(PLAN)
    assert list(run_all(PLAN, [('oracle', 3), ('oracle', 4)], store)) == ran == [('oracle', 3), ('oracle', 4)]
    assert store.load('oracle', 4) == {'contender': 'oracle', 'seed': 4} and store.load('oracle', 5) is None
    store.begin(Plan({}, {'vjepa': 7}, {'vjepa': 0.05}))
    assert store.plan()['latencies'] == {'oracle': 0.03, 'vjepa': 0.05}
    with pytest.raises(RolloutError, match=r'these latencies, found others \(oracle\)'):
        store.begin(Plan({}, {}, {'oracle': 0.09}))
    with pytest.raises(RolloutError, match=r'these models, found others \(vjepa\)'):
        store.begin(Plan({}, {'vjepa': 8}, {}))
    with pytest.raises(RolloutError, match="with this latency, '0.08 s', found 'measured'"):
        store.begin(Plan({}, {}, {}, given=0.08))
    with pytest.raises(RolloutError, match="with this backend, 'tensorrt', found 'auto'"):
        store.begin(Plan({}, {}, {}, 'tensorrt'))
    with monkeypatch.context() as patched, pytest.raises(RolloutError, match="with this code, 'other', found"):
        patched.setattr(rollout_run, 'code', lambda: 'other')
        store.begin(PLAN)
    store.clear()
    assert store.plan() is None and store.load('oracle', 3) is None


def test_a_spoiled_episode_is_named(tmp_path):
    path = Store(tmp_path).path('oracle', 3)
    path.parent.mkdir(parents=True)
    path.write_text('{"seed": 3')
    with pytest.raises(RolloutError, match='00003.json as a run left it'):
        Store(tmp_path).load('oracle', 3)


@pytest.mark.parametrize('arguments, said', [
    (['--contenders', 'vjepa,nobody'], 'some of vjepa'),
    (['--contenders', 'oracle,oracle'], 'some of vjepa'),
    (['--jobs', '0'], '--jobs from 1'),
    (['--latency', '2'], '--latency 0 to 1'),
    (['--seeds', '9:3'], 'seeds: expected'),
])
def test_wrong_arguments(arguments, said, tmp_path, capsys):
    assert main(['evaluate', 'rollout', '--out', str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_oracle_takes_a_bin_in_real_physics(tmp_path, capsys):
    try:
        import_mujoco()
    except SimError as missing:
        pytest.skip(str(missing))
    seed = next(s for s in seeds.VALIDATION if Scene(s).speed > 0.28 and Scene(s).covered)
    arguments = ['evaluate', 'rollout', '--contenders', 'oracle', '--seeds', str(seed), '--jobs', '1']
    assert main([*arguments, '--out', str(tmp_path)]) == 0
    assert '1 of 1' in capsys.readouterr().out
    report = json.loads((tmp_path / 'report.json').read_text())
    (episode,) = report['episodes']['oracle']
    assert episode['outcome'] == 'picked' and episode['covered'] and episode['seed'] == seed
    assert episode['seconds'] < episode['length'] and episode['attempts'] >= 1
    page = (tmp_path / 'report.html').read_text()
    assert '1 of 1' in page and 'latency that was measured' in page and 'was interrupted' not in page
    assert report['latency'] == 'measured' and not report['interrupted']
    kept = Store(tmp_path).path('oracle', seed).stat().st_mtime_ns
    assert main([*arguments, '--out', str(tmp_path)]) == 0
    assert Store(tmp_path).path('oracle', seed).stat().st_mtime_ns == kept, 'nothing is measured twice'

# SPDX-License-Identifier: Apache-2.0
"""The plan cache: what a plan is trusted for, damage, other devices, several builders, read-only places."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.engine.backends import EngineError, plans
from jepa_ros.engine.backends.plans import PlanError, PlanKey

KEY = PlanKey('a' * 64, '10.3.0', 'Orin', '8.7', 'strongly typed', (1, 8, 64))
OTHER = {'onnx_sha256': 'b' * 64, 'tensorrt': '10.16.1', 'gpu': 'Thor', 'compute_capability': '11.0',
         'precision': 'weakly typed', 'shapes': (1, 4, 64)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the user's own cache out of it."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('JEPA_PLANS', raising=False)
    return tmp_path / 'home' / 'jepa_ros' / 'plans'


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / 'bundle' / 'encoder.onnx'
    path.parent.mkdir()
    path.write_bytes(b'a graph')
    return path


def test_what_is_written_is_read_back(tmp_path):
    plans.write(tmp_path / 'plan', KEY, b'plan\n\0bytes')
    assert plans.read(tmp_path / 'plan', KEY) == b'plan\n\0bytes'
    assert plans.read_key(tmp_path / 'plan') == {**dataclasses.asdict(KEY), 'shapes': [1, 8, 64]}
    assert [path.name for path in tmp_path.iterdir()] == ['plan']


@pytest.mark.parametrize('part', OTHER)
def test_every_part_of_the_key_counts(graph, part):
    """In the name of the file, and again in the header: a file that was renamed is not trusted either."""
    other = dataclasses.replace(KEY, **{part: OTHER[part]})
    assert other.digest() != KEY.digest()
    plans.obtain(graph, KEY, lambda _: b'old')
    assert plans.find(graph, KEY) == b'old' and plans.find(graph, other) is None
    built, = plans.cached_plans(graph)
    with pytest.raises(PlanError, match=f'for this graph, TensorRT and GPU, found {part} .* instead of'):
        plans.read(built, other)
    built.rename(built.with_name(f'encoder-{other.digest()}.plan'))
    assert plans.find(graph, other) is None


@given(st.binary(max_size=64), st.data())
def test_any_damage_is_found(tmp_path_factory, plan, data):
    path = tmp_path_factory.mktemp('damage') / 'plan'
    plans.write(path, KEY, plan)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        flipped = whole[at] ^ (1 << data.draw(st.integers(0, 7)))
        path.write_bytes(whole[:at] + bytes([flipped]) + whole[at + 1:])
    else:
        path.write_bytes(whole[:at])
    with pytest.raises(PlanError, match='is damaged|found something else'):
        plans.read(path, KEY)


def test_a_damaged_plan_is_logged_and_built_anew(graph, caplog):
    assert plans.obtain(graph, KEY, lambda _: b'first') == (b'first', 'built')
    path, = plans.cached_plans(graph)
    path.write_bytes(path.read_bytes()[:-1])
    assert plans.obtain(graph, KEY, lambda _: b'second') == (b'second', 'built')
    assert 'the plan is damaged; it is built anew' in caplog.text
    assert plans.obtain(graph, KEY, lambda _: b'third') == (b'second', 'cached')


def test_a_plan_that_cannot_be_kept_serves_all_the_same(graph, monkeypatch, caplog):
    def full(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(plans, 'write', full)
    assert plans.obtain(graph, KEY, lambda _: b'plan') == (b'plan', 'built')
    assert 'could not be kept' in caplog.text and 'No space left' in caplog.text and not plans.cached_plans(graph)


def test_the_hash_is_of_the_graph_and_its_external_data(graph):
    alone = plans.graph_sha256(graph)
    external = graph.with_name('encoder.onnx.data')
    external.write_bytes(b'weights')
    with_data = plans.graph_sha256(graph)
    external.write_bytes(b'weightz')
    assert len({alone, with_data, plans.graph_sha256(graph)}) == 3
    graph.with_name('forecaster.onnx').write_bytes(b'another graph')
    external.unlink()
    assert plans.graph_sha256(graph) == alone


def test_a_place_that_cannot_be_written_leaves_the_users_cache(graph, cache):
    (graph.parent / 'plans').write_bytes(b'')  # root may write anything but into a file that is in the way
    given_directories = []
    plans.obtain(graph, KEY, lambda directory: given_directories.append(directory) or b'plan')
    assert given_directories == [cache]
    assert plans.obtain(graph, KEY, None) == (b'plan', 'cached')
    assert [path.parent for path in plans.cached_plans(graph)] == [cache]


def test_a_directory_that_is_chosen_is_the_only_one(graph, tmp_path, monkeypatch):
    plans.obtain(graph, KEY, lambda _: b'beside')
    monkeypatch.setenv('JEPA_PLANS', str(tmp_path / 'volume'))
    assert plans.obtain(graph, KEY, lambda _: b'plan') == (b'plan', 'built')
    assert [path.parent for path in plans.cached_plans(graph)] == [tmp_path / 'volume']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write into read-only directories')
def test_a_read_only_bundle(graph, cache):
    graph.parent.chmod(0o555)
    try:
        assert plans.writable_directory(graph) == cache
    finally:
        graph.parent.chmod(0o755)


def test_nowhere_to_write_is_one_sentence(graph, monkeypatch):
    for directory in plans.directories(graph):
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.write_bytes(b'')
    with pytest.raises(EngineError, match='a directory for TensorRT plans that can be written, found'):
        plans.obtain(graph, KEY, lambda _: b'plan')


def test_a_plan_that_came_with_the_bundle_serves_where_nothing_can_be_written(graph, monkeypatch):
    plans.obtain(graph, KEY, lambda _: b'plan')
    monkeypatch.setattr(plans, 'writable_directory', None)
    assert plans.obtain(graph, KEY, None) == (b'plan', 'cached')


def test_of_several_that_need_a_plan_one_builds_it(graph, caplog):
    building, waiting = threading.Event(), threading.Event()
    built, results = [], []

    def build(directory):
        built.append(directory)
        building.set()
        assert waiting.wait(60)
        return b'plan'

    def obtain():
        results.append(plans.obtain(graph, KEY, build))

    class Waits(plans.logging.Handler):
        def emit(self, record):
            if 'waiting for it' in record.getMessage():
                waiting.set()

    handler = Waits()
    plans._log.addHandler(handler)
    try:
        threads = [threading.Thread(target=obtain) for _ in range(3)]
        threads[0].start()
        assert building.wait(60)
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        plans._log.removeHandler(handler)
    assert len(built) == 1
    assert sorted(results) == [(b'plan', 'built'), (b'plan', 'cached'), (b'plan', 'cached')]


BUILDER = """
import sys, time
from pathlib import Path
from jepa_ros.engine.backends import plans

def build(directory):
    print('building', flush=True)
    time.sleep(600)

key = plans.PlanKey(*eval(sys.argv[2]))
plans.obtain(Path(sys.argv[1]), key, build)
"""


def test_a_builder_that_is_killed_is_in_nobodys_way(graph):
    """Its lock goes with it, and it leaves no half a plan."""
    values = repr(dataclasses.astuple(KEY))
    with subprocess.Popen([sys.executable, '-c', BUILDER, graph, values], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b'building\n'
        other.send_signal(signal.SIGKILL)
    assert plans.obtain(graph, KEY, lambda _: b'plan') == (b'plan', 'built')


def test_waiting_for_another_builder_ends_with_the_process(graph, monkeypatch):
    monkeypatch.setattr(plans, 'ending', threading.Event())
    plans.ending.set()
    with subprocess.Popen([sys.executable, '-c', BUILDER, graph, repr(dataclasses.astuple(KEY))],
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b'building\n'
        with pytest.raises(plans.BuildStopped):
            plans.obtain(graph, KEY, lambda _: b'plan')
        other.kill()


def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again(graph):
    def fail(directory):
        raise EngineError('no memory')

    with pytest.raises(EngineError, match='no memory'):
        plans.obtain(graph, KEY, fail)
    assert plans.cached_plans(graph) == []
    assert plans.obtain(graph, KEY, lambda _: b'plan') == (b'plan', 'built')

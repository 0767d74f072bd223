# SPDX-License-Identifier: Apache-2.0
import math
import threading

import pytest
from builtin_interfaces.msg import Time

from jepa_ros.nodes import diagnostics
from jepa_ros.nodes.diagnostics import Durations, Health, Rate

pytestmark = pytest.mark.ros


def test_message_has_the_worst_level_and_all_sentences():
    health = Health({'rate': 29.97123, 'backend': 'onnxruntime', 'frames': 12})
    assert health.message(Time(), 'camera').status[0].message == 'ok'
    health.warn('a is late')
    health.error('b is gone')
    array = health.message(Time(sec=3), 'left/camera', 'arm')
    status, = array.status
    assert (array.header.stamp.sec, status.name, status.hardware_id) == (3, 'left/camera', 'arm')
    assert status.level == diagnostics.ERROR and status.message == 'a is late; b is gone'
    assert {pair.key: pair.value for pair in status.values} == {
        'rate': '29.97', 'backend': 'onnxruntime', 'frames': '12'}


def test_rate_counts_the_newest_seconds_only(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, 'monotonic', lambda: now[0])
    rate = Rate(span=5.0)
    for _ in range(100):
        now[0] += 0.1
        rate.tick()
    assert rate.hz() == pytest.approx(10, rel=0.05)
    now[0] += 2.5
    assert rate.hz() == pytest.approx(5, rel=0.05)
    now[0] += 10
    assert rate.hz() == 0


def test_durations_give_percentiles_in_ms():
    durations = Durations(size=100)
    assert durations.values('step') == {} and math.isnan(durations.percentile(50))
    for index in range(1000):
        durations.add(index / 1000)  # only the newest 100 are kept
    values = durations.values('step')
    assert values == pytest.approx({'step_p50_ms': 949.5, 'step_p90_ms': 989.1, 'step_p99_ms': 998.01})


def test_meters_may_be_read_while_another_thread_writes():
    durations, rate, errors, done = Durations(), Rate(), [], threading.Event()

    def read():
        try:
            while not done.is_set():
                durations.values('x')
                rate.hz()
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20000):
        durations.add(0.1)
        rate.tick()
    done.set()
    reader.join()
    assert not errors

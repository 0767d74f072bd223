# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import rclpy
from hypothesis import given
from hypothesis import strategies as st
from rclpy.parameter import Parameter

from jepa_ros.errors import JepaError
from jepa_ros.nodes.parameters import ParameterError, ParameterSpec, ParameterTable

pytestmark = pytest.mark.ros

SPECS = (
    ParameterSpec('rate', 5.0, 'How often.', 'Hz', 0.5, 60.0),
    ParameterSpec('threads', 0, 'How many.', '', 0, 8, live=False),
    ParameterSpec('mode', 'a', 'Which.', choices=('a', 'b')),
    ParameterSpec('times', [], 'When.', 's', 0.0, 2.0),
    ParameterSpec('flag', True, 'Whether.', read_only=True),
)


@pytest.fixture
def make_node():
    rclpy.init()
    nodes = []

    def make(**overrides):
        nodes.append(rclpy.create_node(
            'table', parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def test_defaults_and_overrides(make_node):
    table = ParameterTable(make_node(rate=2.0, times=[0.5, 1.0]), SPECS)
    assert [table[spec.name] for spec in SPECS] == [2.0, 0, 'a', (0.5, 1.0), True]


def test_whole_number_will_do_for_a_float_at_start_up(make_node):
    node = make_node(rate=7)
    table = ParameterTable(node, SPECS)
    assert table['rate'] == 7.0 and node.get_parameter('rate').value == 7.0
    assert isinstance(node.get_parameter('rate').value, float)


@pytest.mark.parametrize('name, value, sentence', [
    ('rate', 100.0, "parameter 'rate' must be in 0.5..60 Hz, got 100.0"),
    ('rate', math.nan, "parameter 'rate' must be in 0.5..60 Hz, got nan"),
    ('rate', 'fast', "parameter 'rate' must be in 0.5..60 Hz, got 'fast'"),
    ('threads', 9, "parameter 'threads' must be a whole number in 0..8, got 9"),
    ('threads', 1.0, "parameter 'threads' must be a whole number in 0..8, got 1.0"),
    ('threads', True, "parameter 'threads' must be a whole number in 0..8, got True"),
    ('mode', 'c', "parameter 'mode' must be one of a, b, got 'c'"),
    ('mode', 1, "parameter 'mode' must be one of a, b, got 1"),
    ('flag', 'yes', "parameter 'flag' must be true or false, got 'yes'"),
    ('times', [0.1, 3.0], "each value of parameter 'times' must be in 0..2 s, got 3.0"),
    ('times', ['a'], "each value of parameter 'times' must be in 0..2 s, got 'a'"),
    ('times', 'soon', "each value of parameter 'times' must be in 0..2 s, got 'soon'")])
def test_what_is_not_allowed_at_start_up_is_said_with_what_is(make_node, name, value, sentence):
    with pytest.raises(ParameterError) as error:
        ParameterTable(make_node(**{name: value}), SPECS)
    assert str(error.value) == sentence


@pytest.mark.parametrize('name, value', [
    ('rate', 0.4), ('rate', math.nan), ('rate', 5), ('threads', -1), ('mode', 'c'), ('flag', False),
    ('times', [3.0]), ('times', 'soon')])
def test_change_that_is_not_allowed_is_refused_and_changes_nothing(make_node, name, value):
    node = make_node()
    table = ParameterTable(node, SPECS)
    before = table[name]
    result, = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful and result.reason
    assert table[name] == before


def test_change_is_seen_at_once_and_together(make_node):
    node = make_node()
    table = ParameterTable(node, SPECS)
    result = node.set_parameters_atomically([Parameter('rate', value=1.0), Parameter('mode', value='c')])
    assert not result.successful and (table['rate'], table['mode']) == (5.0, 'a')
    result = node.set_parameters_atomically([Parameter('rate', value=1.0), Parameter('mode', value='b')])
    assert result.successful and (table['rate'], table['mode']) == (1.0, 'b')


def test_list_can_be_emptied_again(make_node):
    node = make_node(times=[1.0])
    table = ParameterTable(node, SPECS)
    result, = node.set_parameters([Parameter('times', value=[])])
    assert result.successful and table['times'] == ()


def test_check_of_the_node_may_refuse(make_node):
    node = make_node()

    def check(new):
        if new.get('rate', 0) > 10:
            raise JepaError('expected at most 10 Hz with this camera')

    table = ParameterTable(node, SPECS, check)
    result, = node.set_parameters([Parameter('rate', value=20.0)])
    assert result.reason == 'expected at most 10 Hz with this camera' and table['rate'] == 5.0


def test_descriptors_tell_range_unit_and_choices(make_node):
    node = make_node()
    ParameterTable(node, SPECS)
    rate, threads, mode, times, flag = (node.describe_parameter(spec.name) for spec in SPECS)
    assert rate.description == 'How often. [Hz]'
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.5, 60.0)
    assert threads.integer_range[0].to_value == 8
    assert threads.additional_constraints == 'a change takes effect at the next configure transition'
    assert mode.additional_constraints == 'one of: a, b'
    assert times.additional_constraints == 'each in 0..2 s; empty for the default'
    assert flag.read_only


@given(st.floats(allow_nan=True) | st.integers() | st.text() | st.booleans() | st.none())
def test_check_lets_through_what_is_in_range_and_nothing_else(value):
    spec = SPECS[0]
    try:
        checked = spec.check(value)
    except ParameterError as error:
        assert repr(value) in str(error)
        assert isinstance(value, (str, bool, type(None))) or not 0.5 <= value <= 60
    else:
        assert isinstance(checked, float) and 0.5 <= checked == value <= 60

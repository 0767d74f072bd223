# SPDX-License-Identifier: Apache-2.0
"""The table of a node's parameters: type, default, unit and range, written down once and checked always."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from jepa_ros.errors import JepaError

_TYPES = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER, float: Parameter.Type.DOUBLE,
          str: Parameter.Type.STRING, list: Parameter.Type.DOUBLE_ARRAY}


class ParameterError(JepaError):
    """A parameter has a value that its table does not allow."""


@dataclass(frozen=True)
class ParameterSpec:
    """
    One row of a node's parameter table.

    :param name: name of the parameter.
    :param default: its default; its type (bool, int, float, str or list, which means float[]) is the
        parameter's type.
    :param help: what it does, in one sentence.
    :param unit: unit of the value, for example ``s`` or ``Hz``.
    :param minimum: smallest value allowed (of every element of a list); numbers and lists must give both
        limits.
    :param maximum: largest value allowed, so that NaN and infinity never are.
    :param choices: the strings allowed; empty: any.
    :param read_only: True if it can be set at start-up only.
    :param live: False if a change takes effect at the next configure transition, not at once.
    """

    name: str
    default: bool | int | float | str | list
    help: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    live: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """:return: what ``ros2 param describe`` shows."""
        constraints = []
        if self.choices:
            constraints.append('one of: ' + ', '.join(self.choices))
        if isinstance(self.default, list):
            constraints.append(f'each {self._limits()}; empty for the default')
        if not self.live and not self.read_only:
            constraints.append('a change takes effect at the next configure transition')
        descriptor = ParameterDescriptor(
            description=self.help + (f' [{self.unit}]' if self.unit else ''),
            additional_constraints='; '.join(constraints), read_only=self.read_only)
        descriptor.type = _TYPES[type(self.default)].value
        # An empty list has no element type in ROS (YAML's [] arrives as bytes or bools), so a statically
        # typed float[] could never be set back to empty.
        descriptor.dynamic_typing = isinstance(self.default, list)
        if isinstance(self.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum), step=0.0)]
        elif isinstance(self.default, int) and not isinstance(self.default, bool):
            descriptor.integer_range = [
                IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=0)]
        return descriptor

    def check(self, value):
        """
        Check a value.

        :param value: the value as ROS hands it out.
        :return: the value as the node uses it: an int given for a float becomes one, a list a tuple of
            floats.
        :raises ParameterError: it is not allowed; the message says what is and what was found.
        """
        if isinstance(self.default, list):
            # An empty list in a parameter file arrives as None.
            items = () if value is None else value
            if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
                raise self._error(value)
            return tuple(self._number(item) for item in items)
        if isinstance(self.default, float):
            return self._number(value)
        if type(value) is not type(self.default) or (self.choices and value not in self.choices):
            raise self._error(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return int(self._number(value))
        return value

    def _number(self, value) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.minimum <= value <= self.maximum:  # NaN is in no range
            raise self._error(value)
        return float(value)

    def _error(self, value) -> ParameterError:
        kind = {bool: 'true or false', str: 'a string'}.get(type(self.default))
        wanted = 'one of ' + ', '.join(self.choices) if self.choices else kind or self._limits()
        whole = 'a whole number ' if type(self.default) is int else ''
        each = 'each value of ' if isinstance(self.default, list) else ''
        return ParameterError(f"{each}parameter '{self.name}' must be {whole}{wanted}, got {value!r}")

    def _limits(self) -> str:
        return f'in {self.minimum:g}..{self.maximum:g}' + (f' {self.unit}' if self.unit else '')


class ParameterTable:
    """
    The declared parameters of a node: ``table['rate']`` is the value allowed and set last.

    :param node: the rclpy node that they are declared on.
    :param specs: the rows.
    :param check: called on a change with the new values by name, before they are accepted; raises a JepaError
        to refuse them. It is how a node checks values against each other or against what it has loaded.
    :raises ParameterError: a value given at start-up is not allowed.
    """

    def __init__(self, node, specs: Iterable[ParameterSpec], check: Callable[[dict], None] | None = None):
        self._specs = {spec.name: spec for spec in specs}
        self._check = check
        self._values = {}
        for spec in self._specs.values():
            # Declared without type and range at first, so that the message is ours and `rate: 1` will do for
            # a float.
            given = node.declare_parameter(spec.name, spec.default, ParameterDescriptor(dynamic_typing=True))
            value = self._values[spec.name] = spec.check(given.value)
            if isinstance(value, float):
                node.set_parameters([Parameter(spec.name, value=value)])
            node.set_descriptor(spec.name, spec.descriptor())
        node.add_on_set_parameters_callback(self._on_set)

    def __getitem__(self, name: str):
        return self._values[name]

    def _on_set(self, parameters) -> SetParametersResult:
        try:
            new = {p.name: self._specs[p.name].check(p.value) for p in parameters if p.name in self._specs}
            if new and self._check is not None:
                self._check(new)
        except JepaError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values.update(new)
        return SetParametersResult(successful=True)

# SPDX-License-Identifier: Apache-2.0
"""The table of a node's parameters: type, default, unit and range of each, written down once and checked always."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException

from jepa_ros.errors import JepaError


class ParameterError(JepaError):
    """A parameter has a value that its table does not allow."""


@dataclass(frozen=True)
class ParameterSpec:
    """
    One row of a node's parameter table.

    :param name: name of the parameter.
    :param default: its default; its type (bool, int, float, str or list, which means float[]) is the parameter's type.
    :param help: what it does, in one sentence.
    :param unit: unit of the value, for example ``s`` or ``Hz``.
    :param minimum: smallest value allowed (of every element of a list); numbers and lists must give both limits.
    :param maximum: largest value allowed.
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
            constraints.append(f'{self._limits()} each; empty for the default')
        if not self.live and not self.read_only:
            constraints.append('a change takes effect at the next configure transition')
        descriptor = ParameterDescriptor(
            description=self.help + (f' [{self.unit}]' if self.unit else ''),
            additional_constraints='; '.join(constraints), read_only=self.read_only)
        # An empty list has no element type in ROS (YAML's [] arrives as bytes or bools), so a statically typed
        # float[] could never be set back to empty.
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
        Check a value that already has passed its descriptor.

        :param value: the value as ROS hands it out.
        :return: the value as the node uses it; a list becomes a tuple of floats.
        :raises ParameterError: it is not allowed; the message says what is and what was found.
        """
        if self.choices and value not in self.choices:
            raise ParameterError(f"parameter '{self.name}' must be one of {', '.join(self.choices)}, got '{value}'")
        if isinstance(self.default, float) and not math.isfinite(value):
            raise ParameterError(f"parameter '{self.name}' must be in {self._limits()}, got {value}")
        if not isinstance(self.default, list):
            return value
        if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
            raise ParameterError(f"parameter '{self.name}' must be a list of numbers, got {value!r}")
        for item in value:
            number = isinstance(item, (int, float)) and not isinstance(item, bool)
            if not number or not self.minimum <= item <= self.maximum:
                raise ParameterError(f"each of parameter '{self.name}' must be in {self._limits()}, got {item!r}")
        return tuple(float(item) for item in value)

    def _limits(self) -> str:
        return f'{self.minimum:g}..{self.maximum:g}' + (f' {self.unit}' if self.unit else '')


class ParameterTable:
    """
    The declared parameters of a node: ``table['rate']`` is the value allowed and set last.

    :param node: the rclpy node that they are declared on.
    :param specs: the rows.
    :param check: called on a change with the new values by name, before they are accepted; raises a JepaError to refuse
        them. It is how a node checks values against each other or against what it has loaded.
    :raises ParameterError: a value given at start-up is not allowed.
    """

    def __init__(self, node, specs: Iterable[ParameterSpec], check: Callable[[dict], None] | None = None):
        self._specs = {spec.name: spec for spec in specs}
        self._check = check
        self._values = {}
        for spec in self._specs.values():
            try:
                parameter = node.declare_parameter(spec.name, spec.default, spec.descriptor())
            except ParameterException as error:
                # The second argument of rclpy's exception is the name, which its first one may leave out.
                raise ParameterError(f"parameter '{spec.name}': {error.args[0]}") from error
            self._values[spec.name] = spec.check(parameter.value)
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

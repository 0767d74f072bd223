# SPDX-License-Identifier: Apache-2.0
"""What every backend gives: a graph with named inputs and outputs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from jepa_ros.errors import JepaError


class EngineError(JepaError):
    """A graph that cannot be run, or a session that was asked for what its bundle cannot give."""


@dataclass(frozen=True)
class Tensor:
    """
    An input or output.

    :param name: in the graph
    :param shape: None where a length is free
    :param dtype: of the arrays
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype

    def __str__(self):
        return f"{self.name} {self.dtype} [{','.join('?' if n is None else str(n) for n in self.shape)}]"


class Graph(ABC):
    """
    A graph that is ready to run.

    :ivar inputs: what :meth:`run` takes
    :ivar outputs: what it gives
    :ivar description: one line: backend, device, threads, and why this one
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    description: str

    @abstractmethod
    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once; the arrays that come back belong to the caller."""

    def ring(self, past: str, present: str, axis: int) -> 'Ring':
        """
        Return memory for a graph that reads earlier outputs of its own.

        :param past: an input of slots, which begins as zeros
        :param present: the output that becomes a slot of it
        :param axis: along which the slots lie
        """
        return _HostRing(self, past, present, axis)

    def check(self, where: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """
        Check that the graph has exactly these inputs and outputs.

        :param where: name of the graph, for the message
        :raises EngineError: naming both signatures
        """
        for kind, expected, found in (('inputs', inputs, self.inputs), ('outputs', outputs, self.outputs)):
            if sorted(map(str, expected)) != sorted(map(str, found)):
                raise EngineError(f"{where}: expected the {kind} {', '.join(map(str, expected))}, found "
                                  f"{', '.join(map(str, found))}")


class Ring(ABC):
    """What a graph remembers from run to run, kept where the backend computes."""

    @abstractmethod
    def clear(self) -> None:
        """Fill all slots with zeros."""

    @abstractmethod
    def run(self, feeds: dict[str, np.ndarray], slot: int) -> dict[str, np.ndarray]:
        """
        Run the graph once, then overwrite a slot with what it gave.

        :param feeds: the other inputs
        :param slot: counted along the axis, in lengths of the output
        :returns: the other outputs
        """


class _HostRing(Ring):
    """For backends that compute on the host."""

    def __init__(self, graph: Graph, past: str, present: str, axis: int):
        self._graph, self._names, self._before = graph, (past, present), (slice(None),) * axis
        tensor = next(tensor for tensor in graph.inputs if tensor.name == past)
        self._past = np.zeros(tensor.shape, tensor.dtype)

    def clear(self):
        self._past[:] = 0

    def run(self, feeds, slot):
        past, present = self._names
        outputs = self._graph.run({**feeds, past: self._past})
        fresh = outputs.pop(present)
        length = fresh.shape[len(self._before)]
        self._past[(*self._before, slice(slot * length, (slot + 1) * length))] = fresh
        return outputs

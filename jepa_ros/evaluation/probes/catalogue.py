# SPDX-License-Identifier: Apache-2.0
"""The probes that are known by name, with the topics of the simulator's recordings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from jepa_ros.evaluation.probes.future import EndEffector, HandlePosition, Planning
from jepa_ros.evaluation.probes.probe import Probe, ProbeError
from jepa_ros.evaluation.probes.static import Counting, Depth, Retrieval
from jepa_ros.evaluation.probes.temporal import (
    ActionAnticipation,
    ContactOnset,
    StateChange,
    TemporalOrdering,
)

PROBES: dict[str, type[Probe]] = {
    probe.name: probe
    for probe in (
        Depth,
        Counting,
        Retrieval,
        ActionAnticipation,
        TemporalOrdering,
        StateChange,
        ContactOnset,
        HandlePosition,
        Planning,
        EndEffector,
    )
}


def chosen(probes: Sequence[Probe | str]) -> list[Probe]:
    """
    Return probes by name or as they are; all that are known where none is given.

    :raises ProbeError: for an unknown name, or two probes of one name.
    """
    found: dict[str, Probe] = {}
    for probe in probes or PROBES:
        if isinstance(probe, str):
            if probe not in PROBES:
                near = difflib.get_close_matches(probe, PROBES, n=1) or PROBES
                raise ProbeError(f"expected a probe ({', '.join(near)}), found '{probe}'")
            probe = PROBES[probe]()
        if probe.name in found:
            raise ProbeError(f"expected each probe once, found '{probe.name}' twice")
        found[probe.name] = probe
    return list(found.values())

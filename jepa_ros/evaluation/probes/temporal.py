# SPDX-License-Identifier: Apache-2.0
"""Probes with classes whose answer should need several frames in their order."""

from __future__ import annotations

import numpy as np

from jepa_ros.evaluation.probes.probe import ClassProbe


class ActionAnticipation(ClassProbe):
    """
    What the manipulator will be told to do.

    :param topic: of the action's name, or number.
    :param horizon: after the moment, s.
    """

    name, top = 'action_anticipation', 5

    def __init__(self, topic: str = '/sim/action', horizon: float = 0.5):
        self.topic, self.horizon = topic, horizon
        self.task = f'which action is taken {horizon:g} s later'
        self.metric = 'top-5 recall of the action, mean over the actions'

    def labels(self, track, at, settings):
        later = track.later(at, self.horizon)
        return np.where(later >= 0, track.classes(self.topic)[later], '')


class TemporalOrdering(ClassProbe):
    """Whether the halves of a clip were swapped. It needs no labels, and frames in which something moves."""

    name = 'temporal_ordering'
    task = 'were the two halves of the clip swapped'
    metric = 'share of clips told right, mean over in order and swapped'

    def variants(self):
        return 'true', 'swapped'

    def labels(self, track, at, settings):
        return np.full(len(at), 'in order')

    def labels_of(self, variant, track, at, settings):
        return np.full(len(at), 'swapped' if variant == 'swapped' else 'in order')


class StateChange(ClassProbe):
    """
    Whether a state changed while the clip lasted.

    :param topics: of states, as text or numbers; a change of any of them counts.
    """

    name = 'state_change'
    task = 'did the state of bin or belt change during the clip'
    metric = 'share of clips told right, mean over changed and unchanged'

    def __init__(self, topics: tuple[str, ...] = ('/sim/state', '/sim/belt')):
        self.topics = topics

    def labels(self, track, at, settings):
        oldest = np.searchsorted(track.stamps_ns, track.stamps_ns[at] - round(settings.span * 1e9) + 10**6)
        changed, known = np.zeros(len(at), bool), np.ones(len(at), bool)
        for topic in self.topics:
            states = track.classes(topic)
            until = np.concatenate([[0], np.cumsum(states[1:] != states[:-1])])
            changed |= until[at] > until[oldest]
            known &= (states[at] != '') & (states[oldest] != '')
        return np.where(known, np.where(changed, 'changed', 'unchanged'), '')


class ContactOnset(ClassProbe):
    """
    Whether a contact is about to begin. Moments at which there is one already do not count.

    :param topic: of a state that is `without` while there is none.
    :param horizon: how far ahead, s.
    """

    name = 'contact_onset'

    def __init__(self, topic: str = '/sim/contact', horizon: float = 1.0, without: str = 'none'):
        self.topic, self.horizon, self.without = topic, horizon, without
        self.task = f'does the manipulator begin to touch a bin within {horizon:g} s'
        self.metric = 'share of clips told right, mean over onset and none'

    def labels(self, track, at, settings):
        states, stamps = track.classes(self.topic), track.stamps_ns
        touching = np.concatenate([[0], np.cumsum((states != self.without) & (states != ''))])
        last = np.searchsorted(stamps, stamps[at] + round(self.horizon * 1e9) + 10**6)
        onset = touching[last] > touching[at + 1]
        return np.where(states[at] == self.without, np.where(onset, 'onset', 'none'), '')

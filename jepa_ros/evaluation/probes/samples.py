# SPDX-License-Identifier: Apache-2.0
"""From labels of sequences and features of their clips to what a head is trained or judged on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jepa_ros.data.bags import RecordingError
from jepa_ros.evaluation.probes.features import FeatureStore
from jepa_ros.evaluation.probes.probe import ClassProbe, Labels, Probe, Samples
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import Track

logger = logging.getLogger(__name__)
ALL = 'all'  # the group of labels that have none
EXTRA = 'extra '  # begins the columns that only the metric needs


@dataclass(frozen=True)
class Labelled:
    """
    The labels of one probe in one split.

    :param tracks: sequences that have some; `labels`: of each, by the order in which its clips are shown.
    :param horizons: K, s; empty for a probe of another view.
    """

    tracks: tuple[Track, ...]
    labels: tuple[dict[str, Labels], ...]
    horizons: tuple[float, ...]

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes that are there."""
        found = {str(name) for by in self.labels for label in by.values() for name in np.unique(label.values)}
        return tuple(sorted(found - {''}))


def read_labels(probe: Probe, tracks: Iterable[Track], settings: Settings, horizons=()) -> Labelled:
    """
    Read the labels of a probe; sequences without are left out, and the log says why.

    :param horizons: that are asked for.
    """
    asked = dataclasses.replace(settings, horizons=tuple(horizons) or settings.horizons)
    found, labels = [], []
    for track in tracks:
        at = track.moments(settings.span, settings.stride, settings.reach)
        if not len(at):
            continue
        try:
            of_orders = {
                order: _plain(probe.labels_of(order, track, at, asked)) for order in probe.variants()
            }
        except RecordingError as error:
            logger.info('%s: %s has no labels: %s', probe.name, track.name, error)
            continue
        if any(_known(label.values).any() for label in of_orders.values()):
            found.append(track)
            labels.append(of_orders)
    return Labelled(tuple(found), tuple(labels), asked.horizons if probe.view == 'futures' else ())


def gather(
    probe: Probe, labelled: Labelled, store: FeatureStore, classes: tuple[str, ...], shown: str = '{}'
) -> Samples:
    """
    Return what a head is trained or judged on.

    :param classes: of a ClassProbe: names of those that can be answered; clips of others are left out.
    :param shown: how clips are shown, from the order that their labels are of: 'shuffled', '{}+light'.
    """
    parts = []
    for track, of_orders in zip(labelled.tracks, labelled.labels):
        for order, labels in of_orders.items():
            parts.append(_clips(probe, labelled, store, track, shown.format(order), labels))
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    values, groups = columns.pop('values'), columns.pop('groups')
    if isinstance(probe, ClassProbe):
        numbers = {name: number for number, name in enumerate(classes)}
        values = np.array([numbers.get(str(name), -1) for name in values], np.int64)
        keep, numbered, names = values >= 0, values, classes
    else:
        values = values.astype(np.float32)
        keep = _known(values)
        names, numbered = np.unique(groups[keep].astype(str), return_inverse=True)
        every = np.zeros(len(values), np.int64)
        every[keep] = numbered
        numbered, names = every, tuple(names.tolist())
    tokens, times, sequences = (columns.pop(key)[keep] for key in ('tokens', 'times', 'names'))
    extra = {key.removeprefix(EXTRA): column[keep] for key, column in columns.items()}
    return Samples(tokens, times, sequences, values[keep], numbered[keep], names, extra)


def offered(probe: Probe, settings: Settings, samples: Samples, predicted: bool) -> str:
    """Say what a head saw."""
    slices, tokens = samples.tokens.shape[1:3]
    if probe.view == 'newest':
        return f'{tokens} tokens of the newest slice after {settings.span:g} s'
    if probe.view == 'futures' and predicted:
        return f'{tokens} tokens of the slice that is predicted for the horizon, from {settings.span:g} s'
    return f'{slices} slices of {settings.span:g} s, {tokens} tokens each'


def _clips(probe, labelled, store, track, variant, labels: Labels) -> dict[str, np.ndarray]:
    """Return the columns of the clips of a sequence; of a probe on futures the horizons are clips of their own."""
    times = store.load([track], variant, 'times')
    count, horizons = len(times), labelled.horizons
    values, groups = labels.values, labels.groups
    groups = np.full(values.shape[: 2 if horizons else 1], ALL) if groups is None else groups
    extra = labels.extra
    if horizons:
        ahead = np.array(horizons, np.float32)
        if store.encoder.horizons:
            tokens = store.load([track], variant, 'futures')[:, :, None]
            times = np.broadcast_to(ahead[:, None], (count, len(ahead), 1))
        else:
            tokens = store.load([track], variant, 'context')
            tokens = np.broadcast_to(tokens[:, None], (count, len(ahead), *tokens.shape[1:]))
            times = times[:, None] - ahead[:, None]
        tokens, times, values, groups = map(_flat, (tokens, times, values, groups))
        extra = {key: _flat(column) for key, column in extra.items()}
    else:
        tokens = store.load([track], variant, probe.view)
        if probe.view == 'newest':
            times = times[:, -1:]
    names = np.full(len(values), track.group)
    columns = {'tokens': tokens, 'times': times, 'names': names, 'values': values, 'groups': groups}
    return {**columns, **{EXTRA + key: column for key, column in extra.items()}}


def _plain(labels) -> Labels:
    return labels if isinstance(labels, Labels) else Labels(np.asarray(labels))


def _known(values: np.ndarray) -> np.ndarray:
    """Return which labels there are, bool [M], or [M, K]."""
    return values != '' if values.dtype.kind in 'UO' else ~np.isnan(values).any(-1)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[2:])

# SPDX-License-Identifier: Apache-2.0
"""All probes on one encoder: features, choices on validation, controls, noise, and the held-out clips once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from jepa_ros.engine.bundle import Bundle
from jepa_ros.evaluation.probes.catalogue import chosen
from jepa_ros.evaluation.probes.encoders import BundleEncoder, RandomEncoder, RawPixels
from jepa_ros.evaluation.probes.features import FeatureStore
from jepa_ros.evaluation.probes.probe import Probe
from jepa_ros.evaluation.probes.result import HeldOut, ProbeResult
from jepa_ros.evaluation.probes.samples import read_labels
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.evaluation.probes.settings import NOISES, Settings
from jepa_ros.evaluation.probes.tracks import Splits
from jepa_ros.evaluation.probes.trial import Trial

logger = logging.getLogger(__name__)
Tick = Callable[[str, int, int], None]


def run(
    bundle,
    splits: Splits,
    probes: Sequence[Probe | str] = (),
    settings: Settings = Settings(),
    cache: str | Path = '.cache/probes',
    tick: Tick = lambda what, done, of: None,
    threads: int = 1,
) -> dict[str, ProbeResult]:
    """
    Run probes on a frozen encoder. Two encoders are compared by two calls with the same splits and settings:
    their scores are then of the same sequences (`scores.difference`).

    An interrupted run goes on from the features that are in the cache.

    :param bundle: `Bundle`, path or name.
    :param splits: of recordings; the held-out ones are encoded and judged once, after all choices were made.
    :param probes: instances or names (`catalogue.PROBES`); none: all that the recordings have labels for.
    :param cache: folder of the features, by bundle, recording and settings; may be deleted at any time.
    :param tick: called with what is done now, how much of it and how much there is.
    :param threads: of the session.
    :returns: by the probe's name; a probe without labels in one of the splits is left out, and the log says so.
    :raises ProbeError: when nothing can be probed.
    """
    wanted = chosen(probes)
    _check(wanted, settings)
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    stores = _stores(bundle, wanted, settings, cache, threads)
    trials = _trials(wanted, stores, splits, settings, tick)
    _encode(trials, stores, ('train', 'validation'), (), tick)
    total, done = sum(trial.fits for trial in trials), 0
    for trial in trials:
        for what in trial.choose():
            done += 1
            tick(f'heads: {trial.probe.name}, {what}', done, total)
    choices = _sha256(bundle, settings, trials)
    split = 'held_out' if splits.held_out else 'validation'
    if splits.held_out:
        _read(trials, splits, ('held_out',), settings, stores, tick)
    trials = _answerable(trials, split)
    _encode(trials, stores, (split,), NOISES, tick)
    at = datetime.now(timezone.utc).isoformat(timespec='seconds')
    name = 'held-out' if splits.held_out else split
    results = {}
    for done, trial in enumerate(trials):
        tick('judging', done, len(trials))
        sequences = len({track.group for track in trial.labels[split].tracks})
        results[trial.probe.name] = trial.judge(bundle, split, HeldOut(name, sequences, 1, at, choices))
    tick('judging', len(trials), len(trials))
    return results


def _check(probes: Sequence[Probe], settings: Settings) -> None:
    for probe in probes:
        reach = max(settings.horizons) if probe.view == 'futures' else probe.horizon
        if reach > settings.reach + 1e-6:
            raise ProbeError(
                f'expected sequences to go on for {reach:g} s after a clip for {probe.name}, found a reach of '
                f'{settings.reach:g} s'
            )


def _stores(bundle: Bundle, probes, settings: Settings, cache, threads: int) -> dict[str, FeatureStore]:
    """Return where the features of the encoder and of its baselines are kept."""
    predicted = any(probe.view == 'futures' for probe in probes)
    encoders = {'': BundleEncoder(bundle, settings.horizons if predicted else (), threads)}
    encoders['raw'] = RawPixels(bundle.manifest)
    try:
        encoders['random'] = RandomEncoder(bundle.manifest, settings.seed)
    except ProbeError as error:
        logger.warning('no control with a random encoder: %s', error)
    return {name: FeatureStore(encoder, settings, cache) for name, encoder in encoders.items()}


def _trials(probes, stores, splits: Splits, settings: Settings, tick: Tick) -> list[Trial]:
    trials = [Trial(probe, stores, settings) for probe in probes]
    _read(trials, splits, ('train', 'validation'), settings, stores, tick)
    found = _answerable(trials, 'validation')
    if not found:
        names = ', '.join(probe.name for probe in probes)
        raise ProbeError(
            f'expected sequences of at least {settings.span + settings.reach:g} s to train on and to choose on with '
            f'labels for {names}, found none'
        )
    return found


def _read(trials: Sequence[Trial], splits: Splits, names, settings: Settings, stores, tick: Tick) -> None:
    horizons = stores[''].encoder.horizons
    for done, trial in enumerate(trials):
        tick('labels', done, len(trials))
        for name in names:
            trial.labels[name] = read_labels(trial.probe, getattr(splits, name), settings, horizons)
    tick('labels', len(trials), len(trials))


def _answerable(trials: Sequence[Trial], split: str) -> list[Trial]:
    found = []
    for trial in trials:
        if trial.answerable(split):
            found.append(trial)
        else:
            where = f'train and {split}'.replace('_', '-')
            logger.warning('%s is left out: no labels that differ in %s', trial.probe.name, where)
    return found


def _encode(trials, stores, splits: Sequence[str], noises: Sequence[str], tick: Tick) -> None:
    """Compute the features that the trials need in some splits."""
    for name, store in stores.items():
        needed: dict = {}  # by sequence
        for trial in trials:
            variants = trial.shown(name, noises)
            for split in splits:
                for track in trial.labels[split].tracks:
                    needed.setdefault(track, set()).update(variants)
        groups: dict[tuple[str, ...], list] = {}
        for track, variants in needed.items():
            groups.setdefault(tuple(sorted(variants)), []).append(track)
        what = ' and '.join(splits).replace('_', '-')
        what = f'features of {what}' + (f', {name}' if name else '')
        before = 0
        for variants, tracks in groups.items():
            store.prepare(tracks, variants, lambda done: tick(what, before + done, len(needed)))
            before += len(tracks)


def _sha256(bundle: Bundle, settings: Settings, trials: Sequence[Trial]) -> str:
    choices = {trial.probe.name: {head: asdict(c) for head, c in trial.choices.items()} for trial in trials}
    about = {'model': bundle.model_id, 'settings': asdict(settings), 'choices': choices}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

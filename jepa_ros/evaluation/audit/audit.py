# SPDX-License-Identifier: Apache-2.0
"""
An audit from its configuration to its record.

What takes long is kept below the folder of the audit as soon as it is done, under a key of everything that it
depends on; the same command goes on where an interrupted one stopped. The rule is no part of that key: who
changes it decides anew on the same evidence, and the ledger makes the record say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jepa_ros import __version__, host
from jepa_ros.engine.bundle import Bundle
from jepa_ros.evaluation.audit import closed_loop, costs, evidence
from jepa_ros.evaluation.audit.config import AuditError, Config, sha256
from jepa_ros.evaluation.audit.criteria import criteria
from jepa_ros.evaluation.audit.decision import IMAGE, PENDING, VIDEO, decide
from jepa_ros.evaluation.audit.evidence import SIDES
from jepa_ros.evaluation.audit.ledger import Ledger, Look, fingerprint
from jepa_ros.evaluation.audit.record import TransferAudit
from jepa_ros.evaluation.audit.shelf import Shelf
from jepa_ros.evaluation.audit.side_by_side import side_by_side
from jepa_ros.evaluation.probes.result import ProbeResult
from jepa_ros.evaluation.probes.tracks import SPLITS, Splits, load_splits

FORMAT = 1  # of what is kept

Tick = Callable[[str, int, int], None]
RunProbes = Callable[[Bundle, Splits, Sequence[str], Tick], Mapping[str, ProbeResult]]


@dataclass(frozen=True)
class Place:
    """
    Where an audit reads and writes.

    :param out: its folder: record, report, kept evidence.
    :param roots: folders in which relative patterns are looked up.
    :param cache: of the probes' features.
    :param ledger: file of the ledger of held-out data.
    """

    out: Path
    roots: Sequence[Path]
    cache: Path
    ledger: Path


def audit(
    config: Config,
    config_sha256: str,
    place: Place,
    *,
    command: str = '',
    tick: Tick = lambda what, done, of: None,
    run_probes: RunProbes | None = None,
) -> TransferAudit:
    """
    Run an audit.

    :param config_sha256: of its file.
    :param command: that runs it, for the record.
    :param tick: called with what is done now, how much of it and how much there is.
    :param run_probes: runs probes by name on a bundle, one encoder after the other; None: `probes.suite.run`, in a
        process for each encoder.
    :returns: the record, which is not written.
    :raises JepaError: a bundle, recording, probe or rollout is not as it must be.
    """
    bundles = tuple(Bundle.load(side.bundle) for side in (config.image, config.video))
    same, names = _same(bundles), _names(config, bundles)
    if not same and names[0] == names[1]:
        raise AuditError(f"expected two names, found '{names[0]}' twice: give image.name and video.name")
    splits = _splits(config, place, tick)
    held_out = {'/'.join(t.path.parts[-2:]): fingerprint(t.path) for t in splits.held_out}
    if not held_out:
        raise AuditError(f'expected held-out recordings in {config.data.held_out}, found none')
    shelf, ledger = Shelf(place.out / 'evidence'), Ledger(place.ledger)
    # What may fail without a look at held-out recordings comes first.
    outcomes = _outcomes(config, bundles, place)
    spent = _costs(config, bundles, splits, shelf, tick)
    look = Look(
        [f'{bundle.model_id:08x}' for bundle in bundles],
        config.rule.sha256(),
        sha256(dataclasses.asdict(config.settings)),
    )
    with ledger.scoring(look, held_out, {'audit': config.name, 'config_sha256': config_sha256}):
        results = _probes(config, bundles, splits, place, shelf, run_probes, tick)
        found = criteria(config.rule, *results, spent, outcomes)
    decision = decide(found, config.rule.tie, same)
    sides = zip(SIDES, bundles, (config.image, config.video))
    first = config.rule.temporal[0]
    measured = next((found[first.probe].metric for found in results if first.probe in found), first.probe)
    return TransferAudit(
        *names,
        config.probe_task or first.probe,
        config.split,
        config.metric or first.metric or measured,
        dict(zip((IMAGE, VIDEO, PENDING), (*names, PENDING)))[decision.winner],
        {
            'decision': evidence.decided(decision),
            'criteria': [evidence.criterion(finding) for finding in decision.findings],
            'rule': {'sha256': look.rule_sha256, **dataclasses.asdict(config.rule)},
            'config': {'name': config.name, 'sha256': config_sha256},
            'held_out': {**ledger.looks(look, held_out), 'sequences': held_out},
            'bundles': {name: evidence.about(bundle, side) for name, bundle, side in sides},
            'probes': evidence.probes(config.rule, results),
            'costs': {name: cost.to_dict() for name, cost in zip(SIDES, spent)},
            'closed_loop': outcomes.to_dict() if outcomes else None,
            'settings': {'sha256': look.settings_sha256, **evidence.settings(config.settings)},
            'made': {'command': command, 'version': __version__, 'host': host.describe()},
        },
    )


def _splits(config: Config, place: Place, tick: Tick) -> Splits:
    from jepa_ros.training.clips import expand

    paths = [expand(getattr(config.data, split), place.roots) for split in SPLITS]
    return load_splits(*paths, config.data.topic or None, tick=lambda done, of: tick('recordings', done, of))


def _probes(config, bundles, splits, place, shelf, run, tick) -> list[dict[str, ProbeResult]]:
    """Return the results of each encoder's probes, all of an encoder run at once: held-out data is judged once."""
    names = config.probe_names()
    keys = [
        sha256(
            {
                'format': FORMAT,
                'model': bundle.model_id,
                'probes': names,
                'settings': dataclasses.asdict(config.settings),
                'topic': config.data.topic,
                'recordings': {split: [t.source.key for t in getattr(splits, split)] for split in SPLITS},
            }
        )
        for bundle in bundles
    ]
    kept = [shelf.get(f'probes-{side}', key) for side, key in zip(SIDES, keys)]
    missing = [number for number, found in enumerate(kept) if found is None]
    if run is not None:
        done = ((number, _told(run, bundles[number], splits, names, SIDES[number], tick)) for number in missing)
    else:
        jobs = [(_suite, (config, place, SIDES[number])) for number in missing]
        done = ((missing[job], found) for job, found in side_by_side(jobs, tick))
    for number, found in done:
        shelf.put(f'probes-{SIDES[number]}', keys[number], found)
        kept[number] = found
    return [{name: ProbeResult.from_dict(values) for name, values in found.items()} for found in kept]


def _suite(config: Config, place: Place, side: str, tick: Tick) -> dict[str, dict]:
    """Run the probes of one encoder, in a process that has nothing but this."""
    from jepa_ros.evaluation.probes import suite

    def run(bundle: Bundle, splits: Splits, names: Sequence[str], tick: Tick) -> Mapping[str, ProbeResult]:
        return suite.run(
            bundle, splits, names, config.settings, place.cache, tick, max(1, config.timing.threads)
        )

    splits = _splits(config, place, lambda what, *rest: None)
    return _told(run, Bundle.load(getattr(config, side).bundle), splits, config.probe_names(), side, tick)


def _told(run: RunProbes, bundle, splits, names, side: str, tick: Tick) -> dict[str, dict]:
    """Return what probes find, as it is kept, and say whose they are."""
    found = run(bundle, splits, names, lambda what, *rest: tick(f'{side}: {what}', *rest))
    return {name: result.to_dict() for name, result in found.items()}


def _costs(config, bundles, splits, shelf, tick) -> tuple[costs.Costs, costs.Costs]:
    sides = (config.image, config.video)
    here = host.describe()
    key = sha256(
        {
            'format': FORMAT,
            'host': [here['processor'], here['cores']],
            'version': __version__,
            'models': [bundle.model_id for bundle in bundles],
            'timing': dataclasses.asdict(config.timing),
            'hours': [side.training_hours for side in sides],
        }
    )
    kept = shelf.get('costs', key)
    if kept is None:
        paths = list(dict.fromkeys(track.path for track in splits.validation))
        found = costs.measure(
            bundles,
            sides,
            paths,
            config.data.topic,
            config.timing,
            lambda done, of: tick('time per frame', done, of),
        )
        kept = {'costs': [cost.to_dict() for cost in found]}
        shelf.put('costs', key, kept)
    image, video = (costs.Costs(**values) for values in kept['costs'])
    return image, video


def _same(bundles: Sequence[Bundle]) -> str:
    image, video = (bundle.manifest for bundle in bundles)
    if image.files['encoder.onnx'] == video.files['encoder.onnx']:
        return 'both bundles hold the same encoder, which cannot win against itself'
    if image.weights.sha256 == video.weights.sha256 and image.mode == video.mode:
        return 'both bundles were made of the same weights, which cannot win against themselves'
    return ''


def _names(config: Config, bundles: Sequence[Bundle]) -> list[str]:
    sides = (config.image, config.video)
    return [side.name or bundle.manifest.name for side, bundle in zip(sides, bundles)]


def _outcomes(config: Config, bundles: Sequence[Bundle], place: Place) -> closed_loop.Outcomes | None:
    wanted = config.rule.closed_loop
    if wanted is None or not wanted.result:
        return None
    candidates = [Path(root) / Path(wanted.result).expanduser() for root in place.roots]
    folder = next((path for path in candidates if path.exists()), candidates[0])
    return closed_loop.read(folder, tuple(bundle.model_id for bundle in bundles))

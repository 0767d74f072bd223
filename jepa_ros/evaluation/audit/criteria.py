# SPDX-License-Identifier: Apache-2.0
"""From scores, costs and rollouts to the criteria of a rule."""

from __future__ import annotations

from collections.abc import Mapping

from jepa_ros.evaluation.audit.closed_loop import Outcomes
from jepa_ros.evaluation.audit.config import AuditError, Cost, Gain, Loss, Rule
from jepa_ros.evaluation.audit.costs import Costs
from jepa_ros.evaluation.audit.decision import Criterion
from jepa_ros.evaluation.audit.statistics import Interval, bootstrap_ratio, exact
from jepa_ros.evaluation.probes.result import ProbeResult
from jepa_ros.evaluation.probes.scores import ProbeError, Scores, difference

Results = Mapping[str, ProbeResult]


def criteria(
    rule: Rule,
    image: Results,
    video: Results,
    costs: tuple[Costs, Costs] | None,
    outcomes: Outcomes | None,
) -> list[Criterion]:
    """
    Return the criteria of a rule with what was measured.

    :param image: results of its probes by name; `video` likewise.
    :param costs: of both, or None where they were not measured.
    :param outcomes: of the rollouts, or None where there are none.
    :raises AuditError: a metric that the probe does not have.
    """
    found = [_probed(wanted, rule, image, video) for wanted in (*rule.temporal, *rule.static)]
    if rule.closed_loop:
        gain = outcomes and outcomes.gain(rule.confidence)
        found.append(
            Criterion(
                'closed_loop',
                'gain in the success rate of rollouts',
                rule.closed_loop.minimum_gain,
                gain,
                resolution=rule.closed_loop.resolution,
                least=rule.least_sequences,
                void='' if gain else 'no rollouts of this pair were given (jepa evaluate rollout)',
            )
        )
    return found + _costs(rule.cost, costs, rule.confidence)


def gain_of(image: ProbeResult, video: ProbeResult, rule: Rule, metric: str = '') -> Interval:
    """
    Return by how much the video encoder is better, in the metric's unit.

    :raises ProbeError: the two were not judged on the same sequences.
    :raises AuditError: a metric that the probe does not have.
    """
    gain = _difference(_scores(video, rule.head, metric), _scores(image, rule.head, metric), rule.confidence)
    return gain if video.higher else -gain


def _probed(wanted: Gain | Loss, rule: Rule, image: Results, video: Results) -> Criterion:
    temporal = isinstance(wanted, Gain)
    kind, name = ('temporal', 'gain on') if temporal else ('static', 'loss on')
    values = dict(
        kind=kind,
        name=f'{name} {wanted.probe}' + (f' ({wanted.metric})' if wanted.metric else ''),
        limit=wanted.minimum_gain if temporal else wanted.largest_loss,
        at_most=not temporal,
        resolution=wanted.resolution,
        least=rule.least_sequences,
    )
    pair = [results.get(wanted.probe) for results in (image, video)]
    if None in pair:
        return Criterion(interval=None, void='the recordings have no labels for it', **values)
    void = _nothing_learned(pair, rule) or (_not_temporal(pair) if temporal else '')
    unearned = ''
    if temporal and not void and pair[1].verdict != 'temporal':
        unearned = 'the video encoder does as well without the order of the frames, so it is no gain in time'
    try:
        gain = gain_of(*pair, rule, wanted.metric)
    except ProbeError as error:
        return Criterion(interval=None, void=str(error), **values)
    return Criterion(interval=gain if temporal else -gain, void=void, unearned=unearned, **values)


def _nothing_learned(pair: list[ProbeResult], rule: Rule) -> str:
    """Say that neither encoder does better than with labels that mean nothing, or ''."""
    for result in pair:
        blind = result.controls.get('permuted') or result.chance
        if blind is None:
            return ''
        scores = _scores(result, 'attentive')  # the head of the control
        lead = _difference(scores, blind, rule.confidence)
        if (lead if result.higher else -lead).low > 0:
            return ''
    return 'neither encoder does better than a head that was trained on permuted labels'


def _not_temporal(pair: list[ProbeResult]) -> str:
    if any(result.verdict == 'temporal' for result in pair):
        return ''
    verdicts = ', '.join(f'{result.encoder}: {result.verdict}' for result in pair)
    return f'order in time is not needed to answer it on these recordings ({verdicts})'


def _scores(result: ProbeResult, head: str, metric: str = '') -> Scores:
    """Return what a rule looks at: a head's scores, one group of them, or a further metric."""
    found = result.linear if head == 'linear' else result.scores
    if metric in result.details:
        return result.details[metric]
    if found is None:
        raise AuditError(f'expected a probe with a {head} head, found none for {result.probe}')
    if not metric:
        return found
    if metric not in found.groups:
        known = ', '.join((*result.details, *found.groups))
        raise AuditError(f"expected a metric or group of {result.probe} ({known}), found '{metric}'")
    return found.only(metric)


def _difference(one: Scores, other: Scores, confidence: float) -> Interval:
    """Return one minus other."""
    found = difference(one, other, confidence)
    return Interval(found.value, found.low, found.high, confidence, found.sequences)


def _costs(limits: Cost, costs: tuple[Costs, Costs] | None, confidence: float) -> list[Criterion]:
    found = []

    def add(limit: float | None, name: str, ratio: Interval | None, void: str) -> None:
        if limit is not None:
            name = f'{name}, video over image'
            found.append(Criterion('cost', name, limit, ratio, at_most=True, void='' if ratio else void))

    untimed = 'the encoders were not timed'
    if costs is None:
        frame = load = memory = training = None
    else:
        image, video = costs
        frame = bootstrap_ratio(video.frame_ms, image.frame_ms, confidence)
        load = bootstrap_ratio(video.load, image.load, confidence)
        memory = _ratio(video.memory_mb, image.memory_mb)
        training = _ratio(video.training_hours, image.training_hours)
    add(limits.inference, 'time per new frame', frame, untimed)
    add(limits.load, 'computing time per second of camera', load, untimed)
    add(limits.memory, 'memory', memory, 'it could not be measured on this machine')
    stated = 'not stated: give image.training_hours and video.training_hours'
    add(limits.training, f'training, {limits.training_unit}', training, stated)
    return found


def _ratio(video: float | None, image: float | None) -> Interval | None:
    return exact(video / image) if video is not None and image else None

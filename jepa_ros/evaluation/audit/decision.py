# SPDX-License-Identifier: Apache-2.0
"""
What the evidence decides, by a rule that was written before it.

The video encoder wins when every criterion is met, the image encoder when one of them is missed, and as
long as neither is certain nobody does. Met and missed ask for the same confidence. That all criteria must be
met needs no correction for their number: the chance that an encoder which deserves none of them passes all is
no larger than that of passing one (intersection-union test, Berger 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jepa_ros.evaluation.audit.statistics import Interval, needed

MET, MISSED, OPEN = 'met', 'missed', 'open'
IMAGE, VIDEO, PENDING = 'image', 'video', 'pending'
_UNITS = {'temporal': 'sequences', 'static': 'sequences', 'closed_loop': 'seeds', 'cost': 'rounds'}


@dataclass(frozen=True)
class Criterion:
    """
    One thing that the video encoder must show.

    :param kind: temporal, static, closed_loop or cost.
    :param name: what was measured, for people.
    :param limit: the gain it must reach, or with `at_most` the loss or ratio that it must not exceed.
    :param interval: of that gain, loss or ratio; None where it was not measured.
    :param resolution: differences below it do not matter: an interval no wider than this to either side that
        still holds the limit is a tie. 0: there are no ties.
    :param least: sequences below which nothing is decided, however narrow the interval.
    :param void: why the evidence says nothing, or ''.
    :param unearned: why it cannot speak for the video encoder, though it may against it, or ''.
    """

    kind: str
    name: str
    limit: float
    interval: Interval | None
    at_most: bool = False
    resolution: float = 0.0
    least: int = 1
    void: str = ''
    unearned: str = ''


@dataclass(frozen=True)
class Finding:
    """
    What a criterion came to.

    :param state: met, missed or open.
    :param why: one sentence.
    :param sequences: how many (seeds, rounds) would decide it, where more of them can; else None.
    :param tie: open, and more data would show no difference that matters.
    """

    criterion: Criterion
    state: str
    why: str
    sequences: int | None = None
    tie: bool = False


@dataclass(frozen=True)
class Decision:
    """
    :param winner: image, video or pending.
    :param reasons: sentences, the deciding ones first.
    :param findings: of every criterion.
    :param sequences: how many held-out sequences in all would decide what is open; None: none is known to.
    """

    winner: str
    reasons: list[str]
    findings: list[Finding]
    sequences: int | None = None


def judge(criterion: Criterion) -> Finding:
    """Return whether a criterion is met."""
    found, limit = criterion.interval, criterion.limit
    if criterion.void or found is None:
        why = criterion.void or 'not measured'
        return Finding(criterion, OPEN, f'{criterion.name}: {why}')
    unit = _UNITS[criterion.kind]
    wanted = f'{"at most" if criterion.at_most else "at least"} {limit:.3g}'
    said = f'{criterion.name}: {_show(found)}, {wanted} asked'
    more = max(criterion.least, needed(found, limit, criterion.resolution or 0.1 * (found.high - found.low)))
    if found.count < criterion.least:
        why = f'{said}: {found.count} {unit} are too few, {more} are needed'
        return Finding(criterion, OPEN, why, more)
    met = found.high <= limit if criterion.at_most else found.low >= limit
    missed = found.low > limit if criterion.at_most else found.high < limit
    if missed:
        return Finding(criterion, MISSED, said)
    if met:
        why = f'{said}; but {criterion.unearned}'
        return Finding(criterion, OPEN, why) if criterion.unearned else Finding(criterion, MET, said)
    if max(found.high - found.estimate, found.estimate - found.low) <= criterion.resolution:
        why = f'{said}: a tie, known to {criterion.resolution:.3g}'
        return Finding(criterion, OPEN, why, tie=True)
    return Finding(criterion, OPEN, f'{said}: undecided, about {more} {unit} would tell', more)


def decide(criteria: Sequence[Criterion], tie: str = PENDING, same: str = '') -> Decision:
    """
    Decide.

    :param tie: image or pending: who wins where all that is open is tied.
    :param same: why the two are one encoder, of which none can win; ''.
    """
    findings = [judge(criterion) for criterion in criteria]
    if same:
        return Decision(PENDING, [same], findings)
    missed, open_ = ([f for f in findings if f.state == state] for state in (MISSED, OPEN))
    temporal = [f.criterion for f in findings if f.criterion.kind == 'temporal']
    if not any(criterion.interval and not criterion.void for criterion in temporal):
        why = 'nothing temporal was measured that could speak for either'
        return Decision(PENDING, [why, *(f.why for f in open_)], findings, _most(open_))
    if missed:
        return Decision(IMAGE, [f'missed: {f.why}' for f in missed], findings)
    if not open_:
        return Decision(VIDEO, [f'met: {f.why}' for f in findings], findings)
    if tie == IMAGE and all(f.tie for f in open_):
        return Decision(
            IMAGE, [f'{f.why}; the rule gives ties to the image encoder' for f in open_], findings
        )
    return Decision(PENDING, [f'open: {f.why}' for f in open_], findings, _most(open_))


def _most(findings: Sequence[Finding]) -> int | None:
    of = ('temporal', 'static')
    return max((f.sequences for f in findings if f.sequences and f.criterion.kind in of), default=None)


def _show(interval: Interval) -> str:
    if interval.low == interval.high == interval.estimate and interval.confidence == 1:
        return f'{interval.estimate:.3g}'
    return (
        f'{interval.estimate:.3g} [{interval.low:.3g}, {interval.high:.3g}] '
        f'at {100 * interval.confidence:g} % from {interval.count}'
    )

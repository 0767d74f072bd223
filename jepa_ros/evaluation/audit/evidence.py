# SPDX-License-Identifier: Apache-2.0
"""What stands behind a decision, as plain values for the record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jepa_ros.engine.bundle import Bundle
from jepa_ros.evaluation.audit.config import Rule, Side
from jepa_ros.evaluation.audit.decision import IMAGE, VIDEO, Decision, Finding
from jepa_ros.evaluation.probes.result import ProbeResult
from jepa_ros.evaluation.probes.settings import Settings

SIDES = (IMAGE, VIDEO)


def decided(decision: Decision) -> dict:
    """Return the decision; its criteria are told apart from it (`criterion`)."""
    return {
        'winner': decision.winner,
        'reasons': decision.reasons,
        'sequences_needed': decision.sequences,
    }


def criterion(finding: Finding) -> dict:
    """Return a criterion with what was found."""
    of = finding.criterion
    return {
        'kind': of.kind,
        'name': of.name,
        'at_most' if of.at_most else 'at_least': of.limit,
        'state': finding.state,
        'why': finding.why,
        'found': dataclasses.asdict(of.interval) if of.interval else None,
    }


def about(bundle: Bundle, side: Side) -> dict:
    """Return what was audited."""
    manifest = bundle.manifest
    return {
        'name': manifest.name,
        'bundle': side.bundle,
        'model_id': bundle.model_id,
        'family': manifest.family,
        'mode': manifest.mode,
        'weights_sha256': manifest.weights.sha256,
        'encoder_sha256': manifest.files['encoder.onnx'],
    }


def probes(rule: Rule, results: Sequence[Mapping[str, ProbeResult]]) -> dict:
    """
    Return the results by probe and side.

    :param results: of the image and of the video encoder, by probe. Scores by sequence are told only where
        the rule looks at them; of all others value and interval.
    """
    ruling: dict[str, set[str]] = {}
    for wanted in (*rule.temporal, *rule.static):
        # A metric that is none of the further ones is a group of the head's scores.
        ruling.setdefault(wanted.probe, set()).update((wanted.metric, rule.head))
    found: dict = {}
    for side, of_side in zip(SIDES, results):
        for name, result in of_side.items():
            values = result.to_dict()
            whole = ruling.get(name, set())
            for key, head in (('scores', 'attentive'), ('linear', 'linear'), ('chance', '')):
                if head not in whole:
                    values[key] = _brief(values[key])
            for key in ('controls', 'noise', 'details'):
                values[key] = {
                    kind: scores if kind in whole else _brief(scores) for kind, scores in values[key].items()
                }
            found.setdefault(name, {})[side] = values
    return found


def settings(of: Settings) -> dict:
    """Return the settings of the probes as YAML gives them back."""
    values = dataclasses.asdict(of)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _brief(scores: dict | None) -> dict | None:
    return scores and {key: scores[key] for key in ('value', 'low', 'high', 'clips')}

# SPDX-License-Identifier: Apache-2.0
"""Scores of answers, and the verdict on a task."""

import numpy as np
import pytest

pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.evaluation.probes.heads import Answers, Spec  # noqa: E402
from jepa_ros.evaluation.probes.judging import further, judge, margin, verdict  # noqa: E402
from jepa_ros.evaluation.probes.probe import ClassProbe, Samples, VectorProbe  # noqa: E402
from jepa_ros.evaluation.probes.scores import Difference  # noqa: E402
from jepa_ros.evaluation.probes.untrained import Blind, Nearest  # noqa: E402


class Classes(ClassProbe):
    labels = None


class Vectors(VectorProbe):
    labels = None

    def details(self, prediction, label, samples):
        return {'of the first': np.where(np.arange(len(label)) == 0, label[:, 0], np.nan)}


def samples(labels, groups=None, tokens=None):
    labels = np.asarray(labels)
    groups = labels if groups is None else np.asarray(groups)
    tokens = np.zeros((len(labels), 1, 1, 2)) if tokens is None else np.asarray(tokens, np.float16)
    names = tuple(str(i) for i in range(groups.max() + 1))
    one_each = np.array([f'sequence {i}' for i in range(len(labels))])
    return Samples(tokens, np.zeros((len(labels), 1), np.float32), one_each, labels, groups, names)


def test_recall_is_the_mean_over_the_classes():
    asked, probe = samples([0, 0, 0, 1]), Classes()
    answers = Answers(np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0.5, 0, 1]]))
    assert judge(probe, asked, answers).value() == 0.5 and further(probe, asked, answers) == {}
    probe.top = 2
    answers = Answers(np.array([[1.0, 2, 0], [1, 0, 0], [0, 2, 3], [0, 2, 3]]))
    assert judge(probe, asked, answers).value() == pytest.approx((2 / 3 + 1) / 2)
    assert further(probe, asked, answers)['top-1 recall'].value() == pytest.approx((1 / 3 + 0) / 2)


def test_errors_are_the_mean_over_the_groups():
    asked = samples(np.array([[0.0, 0], [1, 0], [3, 4]]), [0, 0, 1])
    answers = Answers(np.zeros((3, 2)))
    scores = judge(Vectors(), asked, answers)
    assert scores.by_group() == {'0': 0.5, '1': 5.0} and scores.value() == 2.75
    first = further(Vectors(), asked, answers)['of the first']
    assert first.clips == 1 and first.value() == 0


def test_a_margin_counts_better_as_positive():
    asked = samples(np.array([[1.0], [1.0]]), [0, 0])
    good, bad = (judge(Vectors(), asked, Answers(np.full((2, 1), x))) for x in (1.1, 3.0))
    assert margin(Vectors(), good, bad, 0.95).value == pytest.approx(1.9)


def gain(low, high):
    return Difference((low + high) / 2, low, high, 0.95, 20)


@pytest.mark.parametrize(
    'shuffled, last, expected',
    [
        (gain(0.1, 0.3), gain(0.05, 0.2), 'temporal'),
        (gain(0.1, 0.3), gain(0.0, 0.0), 'not temporal'),
        (gain(-0.02, 0.03), gain(0.05, 0.2), 'not temporal'),
        (gain(-0.3, -0.1), gain(0.05, 0.2), 'not temporal'),
        (gain(-0.02, 0.08), gain(0.05, 0.2), 'undecided'),
    ],
)
def test_a_task_is_temporal_when_it_beats_both_clips_without_order(shuffled, last, expected):
    margins = {'shuffled': shuffled, 'last': last}
    assert verdict(Classes(), margins, learned=0.4) == expected


def test_where_nothing_was_learned_nothing_is_said():
    margins = {'shuffled': gain(-0.02, 0.03), 'last': gain(-0.02, 0.03)}
    assert verdict(Classes(), margins, learned=-0.1) == 'undecided'
    same = {'shuffled': gain(0.0, 0.0), 'last': gain(0.0, 0.0)}
    assert verdict(Classes(), same, learned=0.0) == 'undecided'
    static = Classes()
    static.temporal = False
    assert verdict(static, {}, 0.4) == 'static'


def test_the_nearest_clip_answers_whatever_its_brightness():
    tokens = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]]).reshape(4, 1, 1, 2)
    labels = np.arange(4.0)[:, None]
    head = Nearest().fit(samples(labels, [0] * 4, tokens))
    answers = head.answer(samples(labels, [0] * 4, tokens[::-1] * 3))
    assert answers.values[:, 0].tolist() == [3, 2, 1, 0]


def test_what_does_not_look_gives_the_most_frequent_or_the_mean():
    assert Blind(Spec(3, True)).fit(np.array([2, 2, 0])).answer(2).values.argmax(1).tolist() == [2, 2]
    assert Blind(Spec(1, False)).fit(np.array([[1.0], [2.0]])).answer(2).values.tolist() == [[1.5], [1.5]]

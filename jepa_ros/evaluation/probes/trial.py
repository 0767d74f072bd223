# SPDX-License-Identifier: Apache-2.0
"""One probe on one encoder: its heads are chosen and fitted, then judged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from jepa_ros.evaluation.probes.features import FeatureStore
from jepa_ros.evaluation.probes.heads import Answers, FittedHead, Spec
from jepa_ros.evaluation.probes.judging import ORDERLESS, further, judge, margin, verdict
from jepa_ros.evaluation.probes.probe import ClassProbe, Probe, Samples
from jepa_ros.evaluation.probes.result import Choice, HeldOut, ProbeResult
from jepa_ros.evaluation.probes.samples import Labelled, gather, offered
from jepa_ros.evaluation.probes.settings import NOISES, Settings
from jepa_ros.evaluation.probes.untrained import Blind, Nearest

NEAREST, BLIND = 'nearest', 'chance'


class Trial:
    """
    A probe with its labels and heads.

    :param probe: what is asked.
    :param stores: features: '' of the encoder, 'raw' and 'random' of the baselines; the last may be missing.

    :ivar labels: by split, to be filled in.
    :ivar choices: by head, made by `choose`.
    """

    def __init__(self, probe: Probe, stores: dict[str, FeatureStore], settings: Settings):
        self.probe, self._stores, self._settings = probe, stores, settings
        self.labels: dict[str, Labelled] = {}
        self.choices: dict[str, Choice] = {}
        self._heads: dict[str, object] = {}
        baselines = {'raw', 'random'} - set(stores)
        self._controls = [name for name in probe.controls if name not in baselines]
        self._clips: dict[str, int] = {}
        self._seconds = 0.0

    @property
    def fits(self) -> int:
        """How many heads `choose` fits."""
        tried = 1 if self._untrained else len(self._settings.rates) * len(self._settings.decays)
        return tried * len(self.probe.heads) + len(self._controls)

    @property
    def _untrained(self) -> bool:
        return self.probe.heads == (NEAREST,)

    def answerable(self, split: str) -> bool:
        """Return whether there is something to tell apart, and some of it in a split."""
        if not self.labels['train'].tracks or not self.labels[split].tracks:
            return False
        if not isinstance(self.probe, ClassProbe):
            return True
        known = self.labels['train'].classes()
        return len(known) > 1 and not set(known).isdisjoint(self.labels[split].classes())

    def shown(self, store: str, noises=()) -> set[str]:
        """Return the ways in which the clips of a store must be shown."""
        if store:
            return set(self.probe.variants()) if store in self._controls else set()
        noisy = {f'{order}+{noise}' for order in self.probe.variants() for noise in noises}
        return {*self.probe.variants(), *noisy, *(name for name in self._controls if name in ORDERLESS)}

    def choose(self) -> Iterator[str]:
        """
        Choose rate and decay of each head on validation, then fit the controls with what the first head chose.

        :returns: an iterator that says after each fit what was fitted.
        """
        began = time.perf_counter()
        train, validation = self._samples('train'), self._samples('validation')
        self._clips = {'train': len(train), 'validation': len(validation)}
        classes = isinstance(self.probe, ClassProbe)
        outputs = len(train.group_names) if classes else train.labels.shape[1]
        self._spec = Spec(outputs, classes)
        self._heads[BLIND] = Blind(self._spec).fit(train.labels)
        for name in self.probe.heads:
            yield from self._sweep(name, train, validation)
        first = self.probe.heads[0]
        best = self.choices[first]
        for name in self._controls:
            samples = self._samples('train', name)
            self._heads[name] = self._fit(first, samples, best.rate, best.decay)
            yield f'control {name}'
        self._seconds += time.perf_counter() - began

    def _sweep(self, name: str, train: Samples, validation: Samples) -> Iterator[str]:
        settings, tried, best = self._settings, [], None
        pairs = [(None, None)] if self._untrained else list(product(settings.rates, settings.decays))
        for rate, decay in pairs:
            head = self._fit(name, train, rate, decay)
            score = judge(self.probe, validation, self._answer(head, validation)).value()
            tried.append({'rate': rate, 'decay': decay, 'score': score})
            value = score if self.probe.higher else -score
            if best is None or value > best[0]:
                best = value, head, tried[-1]
            yield name
        self._heads[name] = best[1]
        self.choices[name] = Choice(best[2]['rate'], best[2]['decay'], best[2]['score'], tuple(tried))

    def judge(self, bundle, split: str, held_out: HeldOut) -> ProbeResult:
        """Score all heads on a split."""
        began = time.perf_counter()
        probe, first, settings = self.probe, self.probe.heads[0], self._settings
        samples = self._samples(split)
        answers = self._answer(self._heads[first], samples)
        scores = judge(probe, samples, answers)
        controls = {
            name: self._scores(self._heads[name], self._samples(split, name)) for name in self._controls
        }
        noise = {
            kind: self._scores(self._heads[first], self._samples(split, f'{{}}+{kind}')) for kind in NOISES
        }
        level = settings.confidence
        margins = {name: margin(probe, scores, controls[name], level) for name in ORDERLESS if name in controls}
        learned = margin(probe, scores, controls['permuted'], level).value
        linear = 'linear' if 'linear' in probe.heads[1:] else None
        blind = self._heads[BLIND].answer(len(samples))
        self._seconds += time.perf_counter() - began
        return ProbeResult(
            probe=probe.name,
            task=probe.task,
            metric=probe.metric,
            temporal=probe.temporal,
            higher=probe.higher,
            encoder=bundle.manifest.name,
            model_id=bundle.model_id,
            mode=bundle.manifest.mode,
            offered=offered(probe, settings, samples, bool(self._stores[''].encoder.horizons)),
            choice=self.choices[first],
            held_out=held_out,
            scores=scores,
            linear_choice=self.choices[linear] if linear else None,
            linear=self._scores(self._heads[linear], samples) if linear else None,
            chance=judge(probe, samples, blind),
            controls=controls,
            noise=noise,
            details=further(probe, samples, answers),
            verdict=verdict(probe, margins, learned),
            margins=margins,
            clips={**self._clips, split: len(samples)},
            sequences={name: len({t.group for t in labels.tracks}) for name, labels in self.labels.items()},
            seconds=self._seconds,
        )

    def _samples(self, split: str, shown: str = '') -> Samples:
        """
        Gather the clips of a split.

        :param shown: '' as they are, 'permuted' with the labels of one another, 'raw' or 'random' as the baseline
            has them, or what `gather` takes.
        """
        permuted = shown == 'permuted'
        store = self._stores.get(shown, self._stores[''])
        shown = '{}' if permuted or shown in self._stores else shown
        classes = self.labels['train'].classes() if isinstance(self.probe, ClassProbe) else ()
        samples = gather(self.probe, self.labels[split], store, classes, shown)
        if not permuted:
            return samples
        # In every split: a head that takes all clips of a kind for one class would be right or wrong on all of
        # them by a single draw.
        drawn = np.random.default_rng([self._settings.seed, 2]).permutation(len(samples))
        groups = samples.groups[drawn] if isinstance(self.probe, ClassProbe) else samples.groups
        return replace(samples, labels=samples.labels[drawn], groups=groups)

    def _fit(self, name: str, samples: Samples, rate, decay):
        if name == NEAREST:
            return Nearest().fit(samples)
        head = FittedHead(self._spec, name)
        return head.fit(samples.tokens, samples.times, samples.labels, rate, decay, self._settings)

    def _answer(self, head, samples: Samples) -> Answers:
        if isinstance(head, Nearest):
            return head.answer(samples)
        return head.answer(samples.tokens, samples.times)

    def _scores(self, head, samples: Samples):
        return judge(self.probe, samples, self._answer(head, samples))

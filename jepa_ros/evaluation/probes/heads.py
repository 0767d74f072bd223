# SPDX-License-Identifier: Apache-2.0
"""Training of a head on frozen features: `nets.probe.Probe` with one attentive block, or the linear one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.nets.probe import Probe as Head
from jepa_ros.training.objectives.heads import classification, gaussian_likelihood

WARMUP = 0.1  # of the steps
CLIP = 1.0  # norm of the gradient
WIDTH = 64  # of an attention head, as in the encoders


@dataclass(frozen=True)
class Spec:
    """
    What a head answers.

    :param outputs: number of classes, or length of the vector.
    :param classes: whether it is classes.
    """

    outputs: int
    classes: bool


@dataclass(frozen=True)
class Answers:
    """What a head gave: logits float32 [M, C], or means float32 [M, P] and covariances float32 [M, P, P]."""

    values: np.ndarray
    covariances: np.ndarray | None = field(default=None, repr=False)


class FittedHead:
    """
    A head, with what was learnt of features and labels before it.

    :param spec: what it answers.
    :param pooling: 'attentive' or 'linear'.
    """

    def __init__(self, spec: Spec, pooling: str):
        self.spec, self.pooling = spec, pooling

    def fit(self, tokens, times, labels, rate: float, decay: float, settings: Settings) -> FittedHead:
        """
        Train it; the same numbers are drawn whatever the encoder.

        Features are standardised per dimension over all training tokens, as linear evaluations do with batch
        normalisation, so that no encoder gains by its scale. AdamW, warm-up, cosine decay to zero.

        :param tokens: float16 [M, T, N, D]; `times`: float32 [M, T]; `labels`: int64 [M] or float32 [M, P].
        :param rate: learning rate at its peak; `decay`: weight decay.
        """
        tokens = self._reduced(tokens)
        some = tokens[:: max(1, len(tokens) // 256)].astype(np.float32)
        self._mean = torch.from_numpy(some.mean((0, 1, 2)))
        self._std = torch.from_numpy(some.std((0, 1, 2)) + 1e-4)
        # Times count in units of the span, so that a slow camera's head learns as fast.
        self._unit = float(max(np.abs(times).max(), 1e-3))
        if self.spec.classes:
            counts = np.bincount(labels, minlength=self.spec.outputs)
            self._prior = torch.from_numpy(np.log((counts + 0.5) / len(labels)).astype(np.float32))
            target = torch.from_numpy(labels)
        else:
            self._centre, self._scale = labels.mean(0), labels.std(0) + 1e-6
            target = torch.from_numpy(((labels - self._centre) / self._scale).astype(np.float32))
        count, slices, _, dim = tokens.shape
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            heads = max(1, dim // WIDTH) if dim % max(1, dim // WIDTH) == 0 else 1
            self._net = Head(dim, slices, self.spec.outputs, self.spec.classes, self.pooling, heads, depth=1)
        features, clock = torch.from_numpy(tokens), torch.from_numpy(times)
        optimiser = torch.optim.AdamW(self._net.parameters(), lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _level(step, settings.steps))
        rng = np.random.default_rng([settings.seed, 1])
        left = np.zeros(0, np.int64)
        for _ in range(settings.steps):
            while len(left) < min(settings.batch, count):
                left = np.concatenate([left, rng.permutation(count)])
            rows, left = torch.from_numpy(left[: settings.batch]), left[settings.batch :]
            loss = self._loss(self._forward(features[rows], clock[rows]), target[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._net.parameters(), CLIP)
            optimiser.step()
            schedule.step()
        self._net.eval()
        return self

    @torch.no_grad()
    def answer(self, tokens, times, batch: int = 256) -> Answers:
        """Return the answers for tokens float16 [M, T, N, D] and times float32 [M, T]."""
        tokens = self._reduced(tokens)
        values, covariances = [], []
        for first in range(0, len(tokens), batch):
            part = slice(first, first + batch)
            out = self._forward(torch.from_numpy(tokens[part]), torch.from_numpy(times[part]))
            if self.spec.classes:
                values.append(out.numpy())
            else:
                values.append(out[0].numpy() * self._scale + self._centre)
                covariances.append(out[1].numpy() * self._scale[:, None] * self._scale)
        values = np.concatenate(values).astype(np.float32)
        return Answers(values, np.concatenate(covariances) if covariances else None)

    def _reduced(self, tokens):
        """The linear head sees means over a slice's tokens only: they are made once."""
        if self.pooling == 'linear' and tokens.shape[2] > 1:
            return np.concatenate(
                [
                    part.astype(np.float32).mean(2, keepdims=True).astype(np.float16)
                    for part in np.array_split(tokens, max(1, len(tokens) // 256))
                ]
            )
        return tokens

    def _forward(self, tokens, times):
        return self._net((tokens.float() - self._mean) / self._std, times / self._unit)

    def _loss(self, out, target):
        if self.spec.classes:
            return classification(out + self._prior, target)
        return gaussian_likelihood(*out, target).mean()


def _level(step: int, steps: int) -> float:
    warm = max(1, round(WARMUP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))

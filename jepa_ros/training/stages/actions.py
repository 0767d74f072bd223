# SPDX-License-Identifier: Apache-2.0
"""
The action-conditioned forecaster on latents of an encoder that stands still.

The robot's state comes from a recorded vector (`data.vectors`), and an action is what was commanded, or the
change of the state, as V-JEPA 2-AC has it. Clips in which either is unknown are left out.
"""

from functools import partial

import numpy as np
import torch

from jepa_ros.data import actions
from jepa_ros.errors import JepaError
from jepa_ros.skill import SkillTable
from jepa_ros.training import objectives
from jepa_ros.training.clips import generator
from jepa_ros.training.config import DIFFERENCES
from jepa_ros.training.stages import bank, splits
from jepa_ros.training.stages.stage import Stage


def moves(config, clip):
    """
    States and actions at the slices of a clip.

    :returns: float32 [T, P + A]: the state at a slice, and the action from there to the next slice (of the
        last one: NaN); NaN where unknown. A command counts as its mean over the frames of the next slice.
    :raises JepaError: for a vector of another length than configured.
    """
    of, tubelet, slices = config.action_forecaster, config.encoder.tubelet, config.data.slices
    found = np.full((slices, of.states + of.actions), np.nan, np.float32)
    vectors = {
        name: _vector(clip, name, length)
        for name, length in ((of.state, of.states), (of.action, of.actions))
        if name not in DIFFERENCES
    }
    if vectors[of.state] is None:
        return found
    states = found[:, : of.states] = vectors[of.state][tubelet - 1 :: tubelet]
    if of.action in DIFFERENCES:
        found[:-1, of.states :] = getattr(actions, of.action)(states)
    elif vectors[of.action] is not None:
        found[:-1, of.states :] = vectors[of.action].reshape(slices, tubelet, -1).mean(1)[1:]
    return found


def _vector(clip, name, length):
    values = clip.vectors.get(name)
    if values is not None and values.shape[1] != length:
        raise JepaError(
            f'{clip.name}: the vector {name} has {values.shape[1]} elements, expected {length} '
            '(action_forecaster.states, actions)'
        )
    return values


class Actions(Stage):
    """V-JEPA 2-AC's training, see `objectives.action_forecast`."""

    name = 'actions'

    def __init__(self, config, model, clips, place):
        super().__init__(config, model, clips, place)
        self.modules, self.frozen = [model.action_forecaster], [model.target]
        self.bank, self._splits = None, None

    def prepare(self, step, progress, stop):
        """
        Encode the bank.

        :raises JepaError: when no clip of it has states and actions.
        """
        found = bank.encode(self, progress, stop, partial(moves, self.config))
        if stop.is_set():
            return
        latents, times, states, acts = self._known(*found)
        if not len(latents):
            of = self.config.action_forecaster
            raise JepaError(
                f'no clip of data.train has the state {of.state!r} and the action {of.action!r} throughout: '
                'expected bags with these topics, see data.vectors'
            )
        self.bank = latents, times, states, acts
        if step == 0:
            self.model.action_forecaster.standardise(acts.flatten(0, 1), states.flatten(0, 1))

    def _known(self, latents, times, found):
        """Clips of which everything is known: latents, times, states [C, T, P], actions [C, T - 1, A]."""
        of = self.config.action_forecaster
        states, acts = found.split((of.states, of.actions), -1)
        acts = acts[:, :-1]
        known = ~(states.isnan().any(-1).any(-1) | acts.isnan().any(-1).any(-1))
        return latents[known], times[known], states[known], acts[known]

    def batch(self, step):
        """:returns: the arguments of `loss`."""
        rng = generator(self.config.seed, self.name, step)
        rows = rng.integers(len(self.bank[0]), size=self.values.batch)
        rows = torch.from_numpy(rows)[self.place.rows(self.values.batch)]
        newest = int(rng.integers(self.config.action_forecaster.context - 1, self.bank[0].shape[1] - 1))
        return *(of[rows].float() for of in self.bank), newest

    def loss(self, latents, times, states, acts, newest):
        """
        :param latents: float32 [B, T, N, D]; `times`: float32 [B, T]; `states`: float32 [B, T, P]; `acts`:
            [B, T - 1, A].
        :param newest: index of the newest context slice; all after it are forecast.
        """
        return objectives.action_forecast(
            self.model.action_forecaster, latents, times, acts, states, newest, self.values.rollout
        )

    @torch.no_grad()
    def validate(self):
        """Loss, and the skill of whole rollouts per horizon; of splits that have states and actions."""
        if self._splits is None:
            self._splits = {split: list(self._encoded(clips)) for split, clips in self.clips.splits().items()}
        return {split: self._figures(encoded) for split, encoded in self._splits.items() if encoded}

    def _encoded(self, clips):
        for encoded in splits.encode(self, clips, bank.latents_of, partial(moves, self.config)):
            known = self._known(*encoded)
            if len(known[0]):
                yield known

    def _figures(self, encoded):
        forecaster, context = self.model.action_forecaster, self.config.action_forecaster.context
        table = SkillTable(self.config.forecaster.horizons, self.model.latent_mean.cpu())
        losses, weights = [], []
        for batch in encoded:
            latents, times, states, acts = (of.to(self.place.device) for of in batch)
            losses.append(float(self.loss(latents, times, states, acts, context - 1)[0]))
            weights.append(len(latents))
            at = times - times[:, context - 1, None]
            futures = forecaster(
                latents[:, :context],
                at[:, :context],
                acts[:, context - 1 :],
                states[:, context - 1 : -1],
                at[:, context:],
            )
            table.add(
                at[:, context:].cpu(), futures.float().cpu(), batch[0][:, context - 1], batch[0][:, context:]
            )
        return {
            'loss': float(np.average(losses, weights=weights)),
            **splits.spread(of[0] for of in encoded),
            **table.figures(),
        }

    def score(self, figures):
        return figures.get('skill_shrunk_mean')

# SPDX-License-Identifier: Apache-2.0
"""
The forecaster on latents of an encoder that stands still, and the readout on the forecaster's futures.

A bank of clips is encoded once by the target encoder; every step draws from it.
"""

import numpy as np
import torch

from jepa_ros.skill import SkillTable
from jepa_ros.training import objectives
from jepa_ros.training.clips import generator
from jepa_ros.training.stages import bank, splits
from jepa_ros.training.stages.readings import Readings
from jepa_ros.training.stages.stage import Stage

UNSEEN_WEIGHT = 0.25  # of a drawn label in the readout's loss: it teaches modesty, and takes few examples
HORIZONS_PER_STEP = 3  # slices a step asks the forecaster for; more of them cost time and vary little


class Heads(Stage):
    """Forecaster and, where the configuration names one, readout."""

    name = 'heads'

    def __init__(self, config, model, clips, place):
        super().__init__(config, model, clips, place)
        self.modules = [module for module in (model.forecaster, model.readout) if module is not None]
        self.frozen, self.bank, self._splits = [model.target], None, None

    def prepare(self, step, progress, stop):
        """Encode the bank; a forecaster that knows of no trend starts from the least-squares forecast."""
        self.bank, forecaster = bank.encode(self, progress, stop), self.model.forecaster
        if step == 0 and not forecaster.trend.any() and not stop.is_set():
            objectives.start_from_least_squares(forecaster, *self.bank[:2])

    def batch(self, step):
        """
        Rows of the bank, and which slices are forecast from which.

        Where there is nothing to see the label is drawn anew from the whole image, so that the readout learns
        to say so with a covariance as wide as the image.

        :returns: the arguments of `loss`.
        """
        latents, times, labels = self.bank
        rng = generator(self.config.seed, self.name, step)
        slices, context = latents.shape[1], self.config.forecaster.context
        # Only the first slices of a bidirectional encoder's bank come from one window, see `bank.latents_of`.
        newest = int(rng.integers(context - 1, slices - 1)) if self.config.encoder.window else context - 1
        later = newest + 1 + rng.permutation(slices - 1 - newest)[:HORIZONS_PER_STEP]
        rows = torch.from_numpy(self._bank_rows(step)[self.place.rows(self.values.batch)])
        anywhere = np.stack(
            [
                generator(self.config.seed, self.name, step, index).random((slices, 2), np.float32)
                for index in self.place.rows(self.values.batch)
            ]
        )
        point, attributes = labels[rows].split((2, labels.shape[-1] - 2), -1)
        seen = ~point.isnan().any(-1)
        point = torch.where(seen[..., None], point, torch.from_numpy(anywhere))
        attributes = torch.where(seen[..., None], attributes, torch.nan)
        return (
            latents[rows].float(),
            times[rows],
            torch.cat((point, attributes), -1),
            seen,
            newest,
            later.tolist(),
        )

    def _bank_rows(self, step):
        """Which clips of the bank a step takes, int64 [batch]."""
        return generator(self.config.seed, 'rows', step).integers(self.values.clips, size=self.values.batch)

    def sources(self, step):
        return self.clips.files('bank', 0, self._bank_rows(step))

    def loss(self, latents, times, labels, seen, newest, later):
        """
        :param latents: float32 [B, T, N, D]; `times`: float32 [B, T].
        :param labels: float32 [B, T, 2 + A]; `seen`: bool [B, T], False where the point was drawn.
        :param newest: index of the newest context slice; `later`: indices of the slices to forecast.
        """
        model = self.model
        loss, futures, dt = objectives.forecast(
            model.forecaster, latents, times, self.config.forecaster.context, newest, later
        )
        figures = {'forecast': loss.detach()}
        if model.readout is not None:
            # The readout learns in full, and hands the forecaster so much of its gradient. It reads what came as well:
            # so it learns where a handle is, and not to make up for futures that move too little.
            heard = futures.detach() + self.values.readout * (futures - futures.detach())
            read = torch.cat((heard, latents[:, later])).flatten(0, 1)
            target, known = labels[:, later].flatten(0, 1), seen[:, later].flatten()
            likelihood = objectives.readout(model.readout, read, dt.repeat(2, 1).flatten(), target.repeat(2, 1))
            of_futures, of_latents = likelihood.chunk(2)
            figures['readout'] = of_futures.detach()[known].mean()
            loss = loss + ((of_futures + of_latents) * torch.where(known, 1.0, UNSEEN_WEIGHT)).mean()
        return loss, figures

    @torch.no_grad()
    def validate(self):
        """
        Skill of the forecaster per horizon, the spread of the latents (which stand still with the encoder),
        and what the readout says of the futures, once its covariance is calibrated on the validation clips.
        """
        if self._splits is None:
            self._splits = {
                split: splits.encode(self, clips, bank.latents_of, self.clips.labels)
                for split, clips in self.clips.splits().items()
            }
        figures, readings = {}, {}
        for split, encoded in self._splits.items():
            figures[split], readings[split] = self._figures(encoded)
        if self.model.readout is not None:
            self.model.readout.calibration.copy_(readings['validation'].calibration())
            for split, found in readings.items():
                figures[split] |= found.figures(self.model.readout.calibration)
        return figures

    def _figures(self, encoded):
        """:param encoded: as `splits.encode` gives it. :returns: dict of figures, `Readings` of the futures."""
        context, readout = self.config.forecaster.context, self.model.readout
        table, losses = SkillTable(self.config.forecaster.horizons, self.model.latent_mean.cpu()), []
        readings = Readings()
        for latents, times, labels in encoded:
            loss, futures, dt = objectives.forecast(
                self.model.forecaster,
                latents.to(self.place.device),
                times.to(self.place.device),
                context,
                context - 1,
                list(range(context, times.shape[1])),
            )
            losses.append(float(loss))
            table.add(dt.cpu(), futures.float().cpu(), latents[:, context - 1], latents[:, context:])
            if readout is not None:
                label = labels[:, context:].flatten(0, 1)
                readings.add(readout, futures.float().flatten(0, 1), dt.flatten(), label)
        figures = {
            'forecast': float(np.average(losses, weights=[len(latents) for latents, *_ in encoded])),
            **splits.spread(part for part, *_ in encoded),
            **table.figures(),
        }
        return figures, readings

    def score(self, figures):
        """
        Of a readout how small its calibrated ellipse is, which says what the forecaster is worth too, and which a
        few labels that no one could have foretold do not decide, as they do the likelihood; else the skill.
        """
        if 'readout_std' in figures:
            return -figures['readout_std']
        return figures['skill_shrunk_mean']

# SPDX-License-Identifier: Apache-2.0
"""Masked latent prediction: the encoder and the predictor learn, the target encoder follows."""

from dataclasses import dataclass

import torch

from jepa_ros.nets.masks import MultiBlock, Tubes, draw_masks
from jepa_ros.nets.vit import normalise_output
from jepa_ros.training import model as models
from jepa_ros.training import objectives
from jepa_ros.training.clips import Clips, generator
from jepa_ros.training.config import Config
from jepa_ros.training.stages import splits
from jepa_ros.training.stages.readings import Readings
from jepa_ros.training.stages.stage import Stage


@dataclass
class MaskedClips:
    """
    Makes the batch of a step: a callable of its own, so that it travels to the processes that decode.

    :param rows: this process's share of the batch, indices of clips; `labelled`: that of the labelled clips.
    """

    config: Config
    clips: Clips
    grid: tuple[int, int]
    rows: range
    labelled: range = range(0)

    def __call__(self, step):
        """
        :returns: frames uint8 [B, F, H, W, 3] and times float32 [B, T] (s), the same of the labelled clips (None where
            there are none besides the batch), labels float32 [B, T, 2 + A] (NaN: none) of these, or else of the
            batch, the step, and for each mask, as `masks` gives them, the context's and the targets' ids.
        """
        frames, times, labels = self.clips.draw('pretraining', step, self.rows)
        rows = slice(self.rows.start, self.rows.stop)
        ids = self.masks('pretraining', step, self.config.pretraining.batch)
        labelled = None, None, labels
        if self.config.pretraining.labelled:
            labelled = self.clips.draw('labelled', step, self.labelled, seen=True)
        return frames, times, *labelled, step, *(of[rows] for of in ids)

    def masks(self, name, step, count):
        """
        Masks of a whole batch, of equal size.

        :returns: for each mask of a clip, ids int64 [B, I, M] and [B, I, K, Q] of I separately masked parts
            of it: the clip itself (V-JEPA), or each of its frames (I-JEPA).
        """
        slices, parts = (
            (1, self.config.data.slices)
            if self.config.pretraining.objective == 'ijepa'
            else (self.config.data.slices, 1)
        )
        rng, *rngs = (
            generator(self.config.seed, f'{name} masks', step, index)
            for index in (None, *range(count * parts))
        )
        return [
            of.reshape(count, parts, *of.shape[1:])
            for recipe in self._recipes(rng)
            for of in draw_masks(recipe, rng, rngs, self.grid, slices)
        ]

    def _recipes(self, rng):
        of = self.config.masks
        if self.config.pretraining.objective == 'ijepa':
            return [
                MultiBlock(
                    of.target_blocks, tuple(of.target_scale), tuple(of.context_scale), min_keep=of.min_keep
                )
            ]
        both = Tubes(of.short_blocks, of.short_scale), Tubes(of.long_blocks, of.long_scale)
        return both if of.both else [both[int(rng.random() >= 0.5)]]


class Pretraining(Stage):
    """
    I-JEPA's or V-JEPA's pretraining, see `objectives.masked`; on wish forecaster and readout learn along, and
    teach the encoder what they need.
    """

    name, decodes = 'pretraining', True
    advice = 'lower pretraining.rate or raise pretraining.ema'

    def __init__(self, config, model, clips, place):
        super().__init__(config, model, clips, place)
        self.modules, self.frozen = [model.encoder, model.predictor], [model.target]
        if self.values.forecast:
            self.modules.append(model.forecaster)
        if self.values.readout:
            self.modules.append(model.readout)
        self.batch = MaskedClips(
            config,
            clips,
            model.encoder_config.grid,
            place.rows(self.values.batch),
            place.rows(self.values.labelled),
        )

    def sources(self, step):
        files = self.clips.files('pretraining', step, range(self.values.batch))
        labelled = self.clips.files('labelled', step, range(self.values.labelled), seen=True)
        return sorted({*files, *labelled})

    def loss(self, frames, times, labelled, labelled_times, labels, step, *ids):
        """
        :param frames: uint8 [B, F, H, W, 3]; `times`: float32 [B, T], seconds; `labelled`, `labelled_times`: of the
            clips that the readout alone learns from, None where it learns from the others.
        :param labels: float32 [B, T, 2 + A], NaN where there is none.
        :param step: 0-based update, None in validation; `ids`: as `MaskedClips.masks` gives them.
        """
        ids = [of.flatten(0, 1) for of in ids]
        masks, v = list(zip(ids[::2], ids[1::2])), models.normalise(frames)
        objective = self._ijepa if self.values.objective == 'ijepa' else self._vjepa
        loss, targets = objective(v, times, step, masks)
        figures = {}
        if step is None or not (self.values.forecast or self.values.readout):
            return loss, figures
        figures['masked'] = loss.detach()
        if self.values.forecast:
            forecast = self._forecast(v, times, step, targets)
            figures['forecast'] = forecast.detach()
            loss = loss + self.values.forecast * forecast
        if self.values.readout:
            if labelled is not None:
                v, times = models.normalise(labelled), labelled_times
            readout, known = self._readout(v, times, labels)
            figures['readout'] = readout.detach() if known else readout.new_tensor(torch.nan)
            loss = loss + self.values.readout * readout
        return loss, figures

    def _ijepa(self, v, times, _step, masks):
        """Every frame is an image of its own. :returns: loss, and the targets float [B, T * N, D]."""
        model, ((context_ids, target_ids),) = self.model, masks
        x, at = v.transpose(1, 2).flatten(0, 1)[:, :, None], times.reshape(-1, 1)
        targets = objectives.encode_targets(model.target, x, at)
        loss = objectives.i_jepa(
            model.encoder, model.predictor, x, at, context_ids, target_ids, targets, self.values.norm
        )
        return loss, targets.unflatten(0, times.shape).flatten(1, 2)

    def _vjepa(self, v, times, step, masks):
        """:returns: loss, and the targets float [B, T * N, D]."""
        model, values = self.model, self.values
        targets = objectives.encode_targets(model.target, v, times)
        context = (
            objectives.context_weight(step, values.context_loss, *values.context_loss_rise)
            if values.context_loss and step is not None
            else None
        )
        loss = objectives.v_jepa(
            model.encoder,
            model.predictor,
            v,
            times,
            masks,
            targets,
            values.norm,
            context,
            model.encoder_config.grid,
        )
        return loss, targets

    def _forecast(self, v, times, step, targets):
        model, rng, slices = self.model, generator(self.config.seed, 'joint', step), times.shape[1]
        newest = int(rng.integers(model.forecaster.context - 1, slices - 1))
        later = list(range(newest + 1, slices))
        return objectives.joint_forecast(model.encoder, model.forecaster, v, times, newest, later, targets)

    def _readout(self, v, times, labels):
        """Of the labelled slices, each from its own latents and those before it; and whether there are any."""
        found = self._read(v, times, labels)
        known = found is not None
        if not known:  # every process of a run must take part, with a gradient of zero
            anywhere = torch.full_like(labels[:1], torch.nan)
            anywhere[..., :2] = 0.5
            found = self._read(v[:1], times[:1], anywhere)
        latents, label = found
        loss = objectives.readout(self.model.readout, latents, label.new_zeros(len(label)), label)
        return float(known) * loss.mean(), known

    def _read(self, v, times, labels):
        """Latents float [M, N, D] and labels float [M, 2 + A] of the labelled slices; None without any."""
        slices, seen = times.shape[1], ~labels[..., :2].isnan().any(-1)
        clips = seen.any(1)
        if not clips.any():
            return None
        latents = normalise_output(self.model.encoder(v[clips], times[clips])).unflatten(1, (slices, -1))
        return latents[seen[clips]], labels[seen]

    def after_update(self, step):
        return self.move_target(step)

    @torch.no_grad()
    def validate(self):
        """Masked loss under masks that stay the same, and the spread of the newest slice's target latents."""
        # As in training, where the forecaster's loss may be added.
        name = 'masked' if self.values.forecast or self.values.readout else 'loss'
        return {
            split: {
                name: self._masked_loss(clips),
                **self._readout_figures(clips),
                **splits.spread(latents for latents, *_ in splits.encode(self, clips)),
            }
            for split, clips in self.clips.splits().items()
        }

    def _masked_loss(self, clips):
        total = 0.0
        for number, chunk in enumerate(splits.chunks(self, clips)):
            ids = map(torch.from_numpy, self.batch.masks('validation', number, len(chunk[0])))
            chunk = [tensor.to(self.place.device) for tensor in (*chunk, *ids)]
            shared = len(chunk[0]) // self.place.world * self.place.world
            # The few clips that the processes do not divide are everybody's.
            for rows, count in (
                (self.place.rows(shared), shared),
                (range(shared, len(chunk[0])), len(chunk[0]) - shared),
            ):
                if rows:
                    with self.place.autocast(self.config.bf16):
                        frames, times, *ids = (tensor[rows.start : rows.stop] for tensor in chunk)
                        loss, _ = self.loss(frames, times, None, None, None, None, *ids)
                    total += self.place.mean(loss.float()).item() * count
        return total / len(clips)

    def _readout_figures(self, clips):
        """What the readout says of the slices as they are, not of futures."""
        if not self.values.readout:
            return {}
        readings = Readings()
        for chunk in splits.chunks(self, clips, self.clips.labels):
            frames, times, labels = (part.to(self.place.device) for part in chunk)
            found = self._read(models.normalise(frames), times, labels)
            if found is not None:
                latents, label = found
                readings.add(self.model.readout, latents, label.new_zeros(len(label)), label)
        return readings.figures(torch.zeros(2))

# SPDX-License-Identifier: Apache-2.0
"""
The loop, in two stages. First the encoder is pretrained as V-JEPA does. Then it stands still: a bank of clips is encoded
once by the target encoder, and the forecaster learns on those latents, and the readout on the forecaster's futures.

Every step draws its clips and masks from (seed, step) alone, so a resumed run sees what the uninterrupted one sees.
"""

import contextlib
import json
import logging
import math
import queue
import signal
import threading
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jepa_ros.data.clips import Augment, ClipSampler
from jepa_ros.data.sequences import assert_disjoint, load_sequences
from jepa_ros.errors import JepaError
from jepa_ros.nets.masks import tube_masks
from jepa_ros.skill import SkillTable
from jepa_ros.training import config as configuration
from jepa_ros.training import model as models
from jepa_ros.training import objectives, watch

logger = logging.getLogger(__name__)

UNSEEN_WEIGHT = 0.25  # of a drawn label in the readout's loss: it teaches modesty, and takes few examples
HORIZONS_PER_STEP = 3  # slices a step asks the forecaster for; more of them cost time and vary little
CACHE_MARGIN = 1.25  # cached frames are this much larger than the encoder's, so that crops keep their detail


class Trainer:
    """
    One run in one folder.

    :param config: `config.Config`.
    :param out: folder for checkpoints (`last.pt`, `best.pt`), TensorBoard events and `metrics.jsonl`.
    :param roots: folders in which relative patterns of the configuration are looked up.
    :param cache: folder for decoded frames.
    """

    def __init__(self, config, out, roots=('.',), cache='.cache'):
        self.config, self.out = config, Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.samplers, self.weights, self.validation = self._open_data(roots, Path(cache))
        self.model = models.Model(config)
        self.optimiser = torch.optim.AdamW(self._groups(), betas=(0.9, 0.95))
        self.step, self.history, self.best = 0, [], -math.inf
        self._frozen_latents = []

    def resume(self):
        """
        Continue from `last.pt`, if there is one.

        :raises JepaError: when the folder's run had another configuration.
        """
        path = self.out / 'last.pt'
        if not path.exists():
            return
        config, model, state = models.load(path)
        if configuration.to_dict(config) != configuration.to_dict(self.config):
            changed = _differences(configuration.to_dict(config), configuration.to_dict(self.config))
            raise JepaError(f'{self.out} holds a run with another configuration ({"; ".join(changed)}): '
                            'choose another --out or restore the configuration')
        self.model.load_state_dict(model.state_dict())
        self.optimiser.load_state_dict(state['optimiser'])
        self.step, self.history, self.best = state['step'], state['history'], state['best']

    @property
    def steps(self):
        """Steps of both stages."""
        return self.config.pretraining.steps + self.config.heads.steps

    def run(self):
        """
        Train to the end, or until Ctrl-C, which saves.

        :returns: True when the run is complete.
        :raises JepaError: when training collapses or diverges.
        """
        from torch.utils.tensorboard import SummaryWriter

        stop = threading.Event()
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   TextColumn('{task.fields[figures]}'))
        with _interruptible(stop), SummaryWriter(self.out, purge_step=self.step) as board, \
                Progress(*columns) as progress:
            for stage in (self._pretraining, self._heads):
                for figures in stage(progress, stop):
                    watch.check(figures['loss'], {})
                    self.step += 1
                    last = self.step in (self.config.pretraining.steps, self.steps)
                    if self.step % 20 == 0 or last:
                        for name, value in figures.items():
                            board.add_scalar(f'train/{name}', value, self.step)
                    if self.step % self.config.validate_every == 0 or last:
                        self._validate(board, progress)
                    if self.step % self.config.save_every == 0 or last or stop.is_set():
                        self.save('last.pt')
                if stop.is_set():
                    progress.console.print(f'stopped at step {self.step}; the same command goes on from there')
                    return False
        return True

    def save(self, name):
        """Write a checkpoint of the run into its folder."""
        models.save(self.out / name, self.model, self.optimiser, self.config, self.step, self.history, self.best)

    def _pretraining(self, progress, stop):
        """The first stage: yields the figures of every step until its end or `stop`."""
        total = self.config.pretraining.steps
        if self.step >= total:
            return
        task = progress.add_task('encoder', total=total, completed=self.step, figures='')
        with contextlib.closing(_Prefetch(self.masked_batch, self.step, total)) as batches:
            for batch in batches:
                figures = self.pretraining_step(*batch)
                yield figures
                progress.update(task, completed=self.step, figures=f'loss {figures["loss"]:.3f}')
                if stop.is_set():
                    return

    def _heads(self, progress, stop):
        """The second stage, likewise."""
        if self.step >= self.steps or stop.is_set():
            return
        bank = self._encode_bank(progress, stop)
        first = self.config.pretraining.steps
        if self.step == first and not stop.is_set():
            objectives.start_from_least_squares(self.model.forecaster, *bank[:2])
        task = progress.add_task('heads', total=self.config.heads.steps, completed=self.step - first, figures='')
        while self.step < self.steps and not stop.is_set():
            figures = self.heads_step(*self.bank_batch(self.step, *bank))
            yield figures
            progress.update(task, completed=self.step - first, figures=f'loss {figures["forecast"]:.4f}')

    def masked_batch(self, step):
        """
        The clips and masks of one pretraining step, from its number alone.

        :returns: the arguments of `pretraining_step`.
        """
        values, masks = self.config, self.config.masks
        rng = np.random.default_rng([values.seed, step])
        frames, times, _ = self._clips(rng, values.pretraining.batch)
        blocks, scale = (masks.short_blocks, masks.short_scale) if rng.random() < 0.5 \
            else (masks.long_blocks, masks.long_scale)
        ids = tube_masks(rng, len(frames), self.model.encoder_config.grid, values.data.slices, blocks, scale)
        return (frames, times, *map(torch.from_numpy, ids))

    def pretraining_step(self, frames, times, context_ids, target_ids):
        """
        One step of the first stage.

        :param frames: uint8 [B, F, H, W, 3]; `times`: float32 [B, T], seconds.
        :param context_ids: int64 [B, M]; `target_ids`: int64 [B, Q].
        :returns: dict of the loss and the rate.
        """
        values, model = self.config.pretraining, self.model
        frames = models.normalise(frames)
        with self._autocast():
            targets = objectives.encode_targets(model.target, frames, times)
            loss = objectives.masked_prediction(model.encoder, model.predictor, frames, times, context_ids,
                                                target_ids, targets)
        rate = self._update(loss, self.step, values, (model.encoder, model.predictor))
        start, end = values.ema
        model.update_target(start + (end - start) * self.step / values.steps)
        return {'loss': loss.item(), 'rate': rate}

    def bank_batch(self, step, latents, times, labels):
        """
        What the heads see in one step, from its number alone.

        Where there is nothing to see the label is drawn anew from the whole image, so that the readout learns to say
        so with a covariance as wide as the image.

        :param latents: float16 [C, T, N, D], times: float32 [C, T], labels: float32 [C, T, 2], the bank.
        :returns: the arguments of `heads_step`.
        """
        values = self.config
        rng = np.random.default_rng([values.seed, step])
        rows = torch.from_numpy(rng.integers(len(latents), size=values.heads.batch))
        newest = int(rng.integers(values.forecaster.context - 1, values.data.slices - 1))
        later = newest + 1 + rng.permutation(values.data.slices - 1 - newest)[:HORIZONS_PER_STEP]
        chosen, anywhere = labels[rows], torch.from_numpy(rng.random((len(rows), values.data.slices, 2), np.float32))
        seen = ~chosen.isnan().any(-1)
        return (latents[rows].float(), times[rows], torch.where(seen[..., None], chosen, anywhere), seen, newest,
                later.tolist())

    def heads_step(self, latents, times, labels, seen, newest, later):
        """
        One step of the second stage.

        :param latents: float32 [B, T, N, D]; `times`: float32 [B, T].
        :param labels: float32 [B, T, 2]; `seen`: bool [B, T], False where the label was drawn.
        :param newest: index of the newest context slice; `later`: indices of the slices to forecast.
        :returns: dict of the losses and the rate.
        """
        values, model = self.config.heads, self.model
        with self._autocast():
            loss, futures, dt = objectives.forecast(model.forecaster, latents, times,
                                                    self.config.forecaster.context, newest, later)
        figures, modules = {'forecast': loss.item()}, [model.forecaster]
        if model.readout is not None:  # in float32: a likelihood divides by small variances
            point, covariance = model.readout(futures.detach().float().flatten(0, 1), dt.flatten())
            likelihood = objectives.point_likelihood(point, covariance, labels[:, later].flatten(0, 1))
            known = seen[:, later].flatten()
            figures['readout'] = likelihood[known].mean().item() if known.any() else math.nan
            likelihood = (likelihood * torch.where(known, 1.0, UNSEEN_WEIGHT)).mean()
            loss, modules = loss + likelihood, [*modules, model.readout]
        step = self.step - self.config.pretraining.steps
        rate = self._update(loss, step, values, modules)
        return {'loss': loss.item(), **figures, 'rate': rate}

    def _update(self, loss, step, values, modules):
        """One step of the optimiser on some modules; each one's gradient is clipped by itself. Returns the rate."""
        rate = _schedule(step, values.warmup, values.steps) * values.rate
        for group in self.optimiser.param_groups:
            group['lr'] = rate
            group['weight_decay'] = values.weight_decay if group['decays'] else 0.0
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for module in modules:
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip)
        self.optimiser.step()
        return rate

    def _autocast(self):
        return torch.autocast('cpu', torch.bfloat16, enabled=self.config.bf16)

    @torch.no_grad()
    def _encode_bank(self, progress, stop):
        """
        Latents of `heads.clips` clips by the target encoder, and their mean.

        :returns: latents float16 [C, T, N, D], times float32 [C, T], labels float32 [C, T, 2].
        """
        values, model = self.config, self.model
        count, batch, n = values.heads.clips, values.pretraining.batch, model.encoder_config.tokens
        latents = torch.empty(count, values.data.slices, n, model.encoder.width, dtype=torch.float16)
        times, labels = torch.empty(count, values.data.slices), torch.empty(count, values.data.slices, 2)

        def clips(number):
            # Seeds that no step has: steps use [seed, step].
            return self._clips(np.random.default_rng([values.seed, number, 1]), batch)

        starts = range(0, count, batch)
        task = progress.add_task('latents for the heads', total=len(starts), figures='')
        with contextlib.closing(_Prefetch(clips, 0, len(starts))) as batches:
            for start, (frames, at, points) in zip(progress.track(starts, task_id=task), batches):
                if stop.is_set():
                    break
                rows = slice(start, min(start + batch, count))
                keep = rows.stop - rows.start
                with self._autocast():
                    targets = objectives.encode_targets(model.target, models.normalise(frames), at)
                latents[rows] = targets.unflatten(1, (at.shape[1], -1))[:keep]
                times[rows], labels[rows] = at[:keep], points[:keep]
        model.latent_mean.copy_(latents.flatten(0, 2)[::7].float().mean(0))  # one in seven tells the mean as well
        return latents, times, labels

    def _clips(self, rng, count):
        """Random clips: frames uint8 [B, F, H, W, 3], times float32 [B, T] (s), labels float32 [B, T, 2]."""
        values = self.config
        sources = rng.choice(len(self.samplers), size=count, p=self.weights)
        clips = [self.samplers[source].sample(rng) for source in sources]
        times = np.stack([clip.times[values.encoder.tubelet - 1::values.encoder.tubelet] for clip in clips])
        frames = _light(rng, np.stack([clip.images for clip in clips]), values.data.light)
        return torch.from_numpy(frames), torch.from_numpy(times).float(), self._labels(clips)

    def _labels(self, clips):
        """Image points at the slices: float32 [B, T, 2], NaN where there is none."""
        values = self.config
        name, tubelet = values.readout.name, values.encoder.tubelet
        labels = np.full((len(clips), values.data.slices, 2), np.nan, np.float32)
        for row, clip in zip(labels, clips):
            if name in clip.points:
                xy, state = clip.points[name]
                xy, state = xy[tubelet - 1::tubelet], state[tubelet - 1::tubelet]
                row[state > 0] = xy[state > 0]
        return torch.from_numpy(labels)

    @torch.no_grad()
    def _validate(self, board, progress):
        values, model = self.config, self.model
        context = values.forecaster.context
        forecasting = self.step > values.pretraining.steps
        table = SkillTable(values.forecaster.horizons, model.latent_mean)
        encoded = self._validation_latents()
        sample = [latents[:, -1].flatten(0, 1) for latents, _ in encoded]
        if forecasting:
            for latents, times in encoded:
                _, futures, dt = objectives.forecast(model.forecaster, latents, times, context, context - 1,
                                                     list(range(context, times.shape[1])))
                table.add(dt, futures, latents[:, context - 1], latents[:, context:])
        figures = {**watch.spread(torch.cat(sample)[:8192]), **(table.figures() if forecasting else {})}
        for name, value in figures.items():
            board.add_scalar(f'validation/{name}', value, self.step)
        self.history.append({'step': self.step, **figures})
        with open(self.out / 'metrics.jsonl', 'a', encoding='utf-8') as log:
            log.write(json.dumps(self.history[-1]) + '\n')
        progress.console.print(f'step {self.step}: ' + '  '.join(f'{k} {v:.3f}' for k, v in figures.items()))
        watch.check(None, figures)
        if forecasting and figures['skill_shrunk_mean'] > self.best:
            self.best = figures['skill_shrunk_mean']
            self.save('best.pt')

    def _validation_latents(self):
        """Pairs of latents float32 [B, T, N, D] and times float32 [B, T]; kept once the encoder stands still."""
        if self._frozen_latents:
            return self._frozen_latents
        values, encoded = self.config, []
        for clips in _chunks(self.validation, values.pretraining.batch):
            frames = models.normalise(torch.from_numpy(np.stack([c.images for c in clips])))
            times = np.stack([c.times[values.encoder.tubelet - 1::values.encoder.tubelet] for c in clips])
            times = torch.from_numpy(times).float()
            latents = objectives.encode_targets(self.model.target, frames, times)
            encoded.append((latents.unflatten(1, (times.shape[1], -1)), times))
        if self.step >= values.pretraining.steps:
            self._frozen_latents = encoded
        return encoded

    def _groups(self):
        model = self.model
        modules = [m for m in (model.encoder, model.predictor, model.forecaster, model.readout) if m is not None]
        parameters = [p for module in modules for p in module.parameters()]
        return [{'params': [p for p in parameters if p.ndim > 1], 'decays': True},
                {'params': [p for p in parameters if p.ndim < 2], 'decays': False}]

    def _open_data(self, roots, cache):
        data = self.config.data
        assert_disjoint(train=expand(data.train, roots), validation=expand(data.validation, roots),
                        held_out=expand(data.held_out, roots))
        size = tuple(self.config.encoder.image_size)
        margin = tuple(round(side * CACHE_MARGIN) for side in size)
        common = {'size': size, 'frames': data.slices * self.config.encoder.tubelet,
                  'frame_period': data.frame_period}

        def sampler(patterns, **extra):
            return ClipSampler(load_sequences(patterns, margin, cache, labels=data.labels), **common, **extra)

        # One sampler for each entry of data.train, so that a few minutes of real video are not lost among hours of others.
        augment = Augment(scale=tuple(data.crop), flip=data.flip)
        samplers, weights = [], []
        for index, pattern in enumerate(expand(data.train, roots)):
            try:
                one = sampler([pattern], jitter=data.jitter, drop=data.drop, stretch=tuple(data.stretch), augment=augment)
            except JepaError as error:
                logger.warning('left out of training: %s', error)
                continue
            samplers.append(one)
            weights.append(data.weights[index] if data.weights else len(one))
        if not sum(weights):
            raise JepaError('data.train holds no recording that can be read and is long enough for a clip '
                            f'({common["frames"] * data.frame_period:.2f} s)')
        clips = list(sampler(expand(data.validation, roots)).clips(data.validation_stride))
        if not clips:
            raise JepaError('data.validation holds no clip long enough for data.slices '
                            f'({common["frames"] * data.frame_period:.2f} s of frames)')
        return samplers, np.array(weights) / sum(weights), clips


def expand(patterns, roots):
    """
    Relative patterns looked up in the roots.

    :returns: list of absolute or root-joined patterns, one for the first root in which each finds something.
    :raises JepaError: for a pattern that finds nothing anywhere.
    """
    found = []
    for pattern in patterns:
        hits = [str(Path(root) / pattern) for root in roots
                if Path(pattern).is_absolute() or any(Path(root).glob(pattern)) or (Path(root) / pattern).exists()]
        if not hits:
            raise JepaError(f'no file matches {pattern} in {", ".join(map(str, roots))}: name the folder that holds '
                            'it with --data')
        found.append(hits[0])
    return found


class _Prefetch:
    """Makes the batches of coming steps in a thread, a few ahead, in order."""

    def __init__(self, make, first, end):
        self._queue, self._closed = queue.Queue(maxsize=3), threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make, first, end), daemon=True)
        self._thread.start()

    def _work(self, make, first, end):
        try:
            for step in range(first, end):
                self._put(make(step))
                if self._closed.is_set():
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item):
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=0.2)

    def __iter__(self):
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self):
        self._closed.set()
        self._thread.join()


@contextlib.contextmanager
def _interruptible(stop):
    """Ctrl-C asks for a stop after the step; a second one is the ordinary kind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def ask(_signal, _frame):
        stop.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _schedule(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _light(rng, images, strength):
    """Brightness, contrast and colour gain, one draw per clip. uint8 [B, F, H, W, 3] in and out."""
    if not strength:
        return images
    shape = (len(images), 1, 1, 1)
    gain = (1 + strength * rng.uniform(-1, 1, (*shape, 1))) * (1 + 0.3 * strength * rng.uniform(-1, 1, (*shape, 3)))
    shift = 255 * 0.3 * strength * rng.uniform(-1, 1, (*shape, 1))
    return np.clip(images * gain.astype(np.float32) + shift.astype(np.float32), 0, 255).astype(np.uint8)


def _chunks(items, size):
    return (items[start:start + size] for start in range(0, len(items), size))


def _differences(old, new, prefix=''):
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f'{prefix}{key}.')
        elif before != after:
            lines.append(f'{prefix}{key} was {before!r}, is {after!r}')
    return lines

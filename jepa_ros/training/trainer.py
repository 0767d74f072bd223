# SPDX-License-Identifier: Apache-2.0
"""
The loop: pretrain an encoder as V-JEPA does, and with it the forecaster and the readout that a robot runs.

Every step draws its clips and masks from (seed, step) alone, so a resumed run sees what the uninterrupted one sees.
The forecaster reads the target encoder's latents of the clip (computed for the pretraining loss anyway), the readout
the forecaster's futures; neither sends a gradient to the encoder. After `encoder_steps` the encoder stands still and
the heads settle on what will be exported.
"""

import contextlib
import json
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
        self.sampler, self.validation = self._open_data(roots, Path(cache))
        self.model = models.Model(config)
        self.optimiser = torch.optim.AdamW(self._groups(), lr=config.optimiser.rate, betas=(0.9, 0.95))
        self.step, self.history, self.best = 0, [], -math.inf

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

    def run(self):
        """
        Train to the end, or until Ctrl-C, which saves.

        :returns: True when the run is complete.
        :raises JepaError: when training collapses or diverges.
        """
        from torch.utils.tensorboard import SummaryWriter

        total, stop = self.config.optimiser.steps, threading.Event()
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   TextColumn('{task.fields[figures]}'))
        with _interruptible(stop), contextlib.closing(_Prefetch(self.batch, self.step, total)) as batches, \
                SummaryWriter(self.out, purge_step=self.step) as board, Progress(*columns) as progress:
            task = progress.add_task(self.config.name, total=total, completed=self.step, figures='')
            for batch in batches:
                figures = self.train_step(*batch)
                watch.check(figures['loss'], {})
                self.step += 1
                if self.step % 20 == 0 or self.step == total:
                    self._record(board, figures)
                    progress.update(task, figures=f'loss {figures["loss"]:.3f}')
                if self.step % self.config.validate_every == 0 or self.step == total:
                    self._validate(board, progress)
                if self.step % self.config.save_every == 0 or self.step == total or stop.is_set():
                    self.save('last.pt')
                progress.update(task, completed=self.step)
                if stop.is_set():
                    progress.console.print(f'stopped at step {self.step}; saved to {self.out / "last.pt"}')
                    return False
        return True

    def save(self, name):
        """Write a checkpoint of the run into its folder."""
        models.save(self.out / name, self.model, self.optimiser, self.config, self.step, self.history, self.best)

    def batch(self, step):
        """
        The clips and masks of one step, from its number alone.

        :returns: the arguments of `train_step`: frames uint8 [B, F, H, W, 3], times float32 [B, T], context and target
            ids, labels float32 [B, T, 2], the forecaster's newest context slice, the slices to forecast.
        """
        values = self.config
        rng = np.random.default_rng([values.seed, step])
        clips = [self.sampler.sample(rng) for _ in range(values.optimiser.batch)]
        tubelet = values.encoder.tubelet
        times = np.stack([clip.times[tubelet - 1::tubelet] for clip in clips])
        masks = values.masks
        blocks, scale = (masks.short_blocks, masks.short_scale) if rng.random() < 0.5 \
            else (masks.long_blocks, masks.long_scale)
        context_ids, target_ids = tube_masks(rng, len(clips), self.model.encoder_config.grid,
                                             values.data.slices, blocks, scale)
        frames = _light(rng, np.stack([clip.images for clip in clips]), values.data.light)
        labels = self._labels(rng, clips)
        newest = int(rng.integers(values.forecaster.context - 1, values.data.slices - 1))
        later = newest + 1 + rng.permutation(values.data.slices - 1 - newest)[:HORIZONS_PER_STEP]
        return (torch.from_numpy(frames), torch.from_numpy(times).float(), torch.from_numpy(context_ids),
                torch.from_numpy(target_ids), labels, newest, later.tolist())

    def train_step(self, frames, times, context_ids, target_ids, labels, newest, later):
        """
        One step.

        :param newest: index of the forecaster's newest context slice; `later`: indices of the slices to forecast.
        :returns: dict of the losses and the rate.
        """
        values, model = self.config.optimiser, self.model
        rate = _schedule(self.step, values.warmup, values.steps) * values.rate
        for group in self.optimiser.param_groups:
            group['lr'] = rate
        pretraining = self.step < values.encoder_steps
        frames = models.normalise(frames)
        with torch.autocast('cpu', torch.bfloat16, enabled=values.bf16):
            targets = objectives.encode_targets(model.target, frames, times)
            latents = targets.unflatten(1, (times.shape[1], -1))
            loss, futures, dt = objectives.forecast(
                model.forecaster, latents, times, self.config.forecaster.context, newest, later)
            figures = {'forecast': loss.item(), 'rate': rate}
            if pretraining:
                masked = objectives.masked_prediction(model.encoder, model.predictor, frames, times, context_ids,
                                                      target_ids, targets)
                figures['masked'] = masked.item()
                loss = loss + masked
        if model.readout is not None:
            point, label = self._readout_loss(futures.detach().float(), dt, labels[:, later])
            figures['readout'] = label.item()
            loss = loss + point
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g['params']], values.clip)
        self.optimiser.step()
        if pretraining:
            start, end = values.ema
            model.update_target(start + (end - start) * self.step / values.encoder_steps)
        model.latent_mean.lerp_(latents.mean((0, 1, 2)), max(0.01, 1 / (self.step + 1)))
        return {'loss': loss.item(), **figures}

    def _readout_loss(self, futures, dt, labels):
        futures, dt, labels = futures.flatten(0, 1), dt.flatten(), labels.flatten(0, 1)
        point, covariance = self.model.readout(futures, dt)
        loss = objectives.point_likelihood(point, covariance, labels).mean()
        return loss, loss.detach()

    def _labels(self, rng, clips):
        """Image points at the slices: float32 [B, T, 2]. Where there is nothing to see the label is drawn from the
        whole image, so that the readout learns to say so with a covariance as wide as the image."""
        values = self.config
        name, tubelet = values.readout.name, values.encoder.tubelet
        labels = rng.random((len(clips), values.data.slices, 2), np.float32)
        for row, clip in zip(labels, clips):
            if name in clip.points:
                xy, state = clip.points[name]
                xy, state = xy[tubelet - 1::tubelet], state[tubelet - 1::tubelet]
                row[state > 0] = xy[state > 0]
        return torch.from_numpy(labels)

    @torch.no_grad()
    def _validate(self, board, progress):
        values, model = self.config, self.model
        model.eval()
        tubelet, context = values.encoder.tubelet, values.forecaster.context
        table = SkillTable(values.forecaster.horizons, model.latent_mean)
        sample = []
        for clips in _chunks(self.validation, values.optimiser.batch):
            frames = models.normalise(torch.from_numpy(np.stack([c.images for c in clips])))
            times = torch.from_numpy(np.stack([c.times[tubelet - 1::tubelet] for c in clips])).float()
            latents = objectives.encode_targets(model.target, frames, times).unflatten(1, (times.shape[1], -1))
            sample.append(latents[:, -1].flatten(0, 1))
            _, futures, dt = objectives.forecast(model.forecaster, latents, times, context, context - 1,
                                                 list(range(context, times.shape[1])))
            table.add(dt, futures, latents[:, context - 1], latents[:, context:])
        model.train()
        figures = {**watch.spread(torch.cat(sample)[:8192]), **table.figures()}
        for name, value in figures.items():
            board.add_scalar(f'validation/{name}', value, self.step)
        self.history.append({'step': self.step, **figures})
        with open(self.out / 'metrics.jsonl', 'a', encoding='utf-8') as log:
            log.write(json.dumps(self.history[-1]) + '\n')
        progress.console.print(f'step {self.step}: ' + '  '.join(f'{k} {v:.3f}' for k, v in figures.items()))
        watch.check(None, figures)
        score = figures['skill_shrunk_mean']
        if self.step >= values.optimiser.encoder_steps and score > self.best:
            self.best = score
            self.save('best.pt')

    def _record(self, board, figures):
        for name, value in figures.items():
            board.add_scalar(f'train/{name}', value, self.step)

    def _groups(self):
        modules = [self.model.encoder, self.model.predictor, self.model.forecaster, self.model.readout]
        parameters = [p for module in modules if module is not None for p in module.parameters()]
        return [{'params': [p for p in parameters if p.ndim > 1],
                 'weight_decay': self.config.optimiser.weight_decay},
                {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0}]

    def _open_data(self, roots, cache):
        data = self.config.data
        assert_disjoint(train=expand(data.train, roots), validation=expand(data.validation, roots),
                        held_out=expand(data.held_out, roots))
        size = tuple(self.config.encoder.image_size)
        margin = tuple(round(side * CACHE_MARGIN) for side in size)
        common = {'size': size, 'frames': data.slices * self.config.encoder.tubelet,
                  'frame_period': data.frame_period}
        samplers = []
        for patterns, extra in ((data.train, {'jitter': data.jitter, 'drop': data.drop,
                                              'stretch': tuple(data.stretch),
                                              'augment': Augment(scale=tuple(data.crop), flip=data.flip)}),
                                (data.validation, {})):
            sequences = load_sequences(expand(patterns, roots), margin, cache, labels=data.labels)
            samplers.append(ClipSampler(sequences, **common, **extra))
        clips = list(samplers[1].clips(data.validation_stride))
        if not clips:
            raise JepaError('data.validation holds no clip long enough for data.slices '
                            f'({common["frames"] * data.frame_period:.2f} s of frames)')
        return samplers[0], clips


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

# SPDX-License-Identifier: Apache-2.0
"""
The loop. It knows nothing of objectives: it runs stages (`training.stages`) one after the other, step by
step, and keeps what a run needs to be watched, stopped and resumed.

Every step's batch follows from (seed, stage, step, clip index) alone, so a resumed run sees what the
uninterrupted one sees.
"""

import contextlib
import json
import math
import signal
import threading
import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jepa_ros.data.loader import ClipLoader
from jepa_ros.errors import JepaError
from jepa_ros.training import config as configuration
from jepa_ros.training import model as models
from jepa_ros.training import parallel, stages, start, watch
from jepa_ros.training.clips import Clips
from jepa_ros.training.update import Update

METRICS = 'metrics.jsonl'


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
        self.place = parallel.Place(config.device, config.parallel)
        self.out.mkdir(parents=True, exist_ok=True)
        with self.place.leader_first():
            self.clips = Clips(config, roots, Path(cache), progress=self.place.leader)
        self.model = models.Model(config).to(self.place.device)
        self.stages = stages.build(config, self.model, self.clips, self.place)
        self.step, self.history, self.best = 0, [], -math.inf
        self.update = None  # of the stage that runs
        self._losses, self._means = watch.Losses(config.most_skipped), Means()
        self._resumed = {}  # what the interrupted stage takes up again
        self._ready = set()

    @property
    def steps(self):
        """Steps of all stages."""
        return sum(stage.values.steps for stage in self.stages)

    def resume(self):
        """
        Continue from `last.pt`; where there is none, begin with the weights that `init_from` names.

        :raises JepaError: when the folder's run had another configuration, or `init_from` another encoder.
        """
        path = self.out / 'last.pt'
        if not path.exists():
            if self.config.readout.attributes:
                self.model.readout.attributes.scale_to(*self.clips.attribute_scale())
            if self.config.init_from:
                start.start_from(self.model, self.config)
            if self.place.leader:
                self._forget_metrics_after(0)  # of a run that ended before it could be kept
            return
        config, model, state = models.load(path)
        changed = configuration.differences(config, self.config)
        if changed:
            raise JepaError(
                f'{self.out} holds a run with another configuration ({"; ".join(changed)}): '
                'choose another --out or restore the configuration'
            )
        if 'watch' not in state:
            raise JepaError(
                f'{path} was written by an earlier version and cannot be resumed: export it, or start '
                f'another run from its weights with --init-from {path}'
            )
        self.model.load_state_dict(model.state_dict())
        self.step, self.history, self.best = state['step'], state['history'], state['best']
        self._resumed = state
        if self.place.leader:
            self._forget_metrics_after(self.step)

    def run(self):
        """
        Train to the end, or until Ctrl-C or SIGTERM, which save.

        :returns: True when the run is complete.
        :raises JepaError: when training collapses or diverges, or a checkpoint cannot be written.
        """
        stop, first = threading.Event(), 0
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[figures]}'),
        )
        with (
            _interruptible(stop),
            self._board() as board,
            Progress(*columns, disable=not self.place.leader) as progress,
        ):
            for stage in self.stages:
                end = first + stage.values.steps
                if self.step < end:
                    self._train(stage, first, board, progress, stop)
                if self.step < end or (self.step < self.steps and self.place.any(stop.is_set())):
                    self._say(progress, f'stopped at step {self.step}; the same command goes on from there')
                    return False
                first = end
        if self.best == -math.inf:  # no stage judged its checkpoints: the last one is the best there is
            self.save('best.pt')
        return True

    def _train(self, stage, first, board, progress, stop):
        """
        Run a stage to its end, or until `stop`.

        :param first: steps of all stages before it.
        """
        values, config, begin = stage.values, self.config, self.step - first
        if not progress.console.is_terminal:  # which would show the bars
            self._say(progress, f'{stage.name}: begins at step {begin} of {values.steps}')
        self.update = self.begin(stage, begin, progress, stop)
        if self.place.any(stop.is_set()):
            return
        task = progress.add_task(stage.name, total=values.steps, completed=begin, figures='')
        workers = config.data.workers if stage.decodes else 0
        with ClipLoader(stage.batch, begin, values.steps, workers) as batches:
            for step, batch in enumerate(batches, begin):
                figures = self.update(step, batch)
                if self._losses.see(self.step, figures, lambda step=step: stage.sources(step)):
                    self._means.add(figures)
                self.step += 1
                last, stopped = step + 1 == values.steps, self.place.any(stop.is_set())
                if self.step % config.log_every == 0 or last:
                    self._report(
                        board,
                        stage,
                        'train',
                        self._means.take(batches.waited, values.batch) | {'skipped': self._losses.skipped},
                    )
                if self.step % config.validate_every == 0 or last:
                    self._validate(stage, board, progress)
                if self.step % config.save_every == 0 or last or stopped:
                    self.save('last.pt')
                progress.update(
                    task,
                    completed=step + 1,
                    figures=f'loss {figures["loss"]:.3f}, waiting for data {self._means.waiting:.1%}',
                )
                if stopped:
                    return
        self._say(
            progress,
            f'{stage.name}: {self._means.overall(batches.waited):.1%} of the time was spent waiting for '
            f'data, {self._losses.skipped} steps were skipped',
        )

    def begin(self, stage, step, progress, stop):
        """
        Get a stage ready.

        :param step: 0, or where in the stage a resumed run goes on.
        :returns: `update.Update`.
        """
        for module in stage.frozen:
            self._make_ready(module)
        stage.prepare(step, progress, stop)
        for module in stage.modules:  # after `prepare`, which may write their weights
            self._make_ready(module, trained=True)
        update = Update(stage, self.place, self.config)
        self._losses, self._means = watch.Losses(self.config.most_skipped), Means()
        if step and self._resumed:
            update.load(self._resumed['optimiser'])
            self._losses.load(self._resumed['watch'])
            self._means.load(self._resumed['means'])
        elif not step:
            self.best = -math.inf  # scores of two stages do not compare
        self._resumed = {}
        return update

    def _make_ready(self, module, trained=False):
        """Compile and shard a module, once, as the configuration asks."""
        if module in self._ready:
            return
        self._ready.add(module)
        if self.config.recompute and trained:
            parallel.recompute(module)
        if self.config.compile:
            for block in parallel.blocks_of(
                module
            ):  # alike: compiled once; masks change the number of tokens
                block.compile(dynamic=True)
        self.place.shard(module)

    def save(self, name):
        """
        Write a checkpoint of the run into its folder; every process must call it, and the leader writes.
        """
        state = {
            'config': configuration.to_dict(self.config),
            'model': {key: self.place.collect(value) for key, value in self.model.state_dict().items()},
            'optimiser': self.update.state() if self.update else {},
            'step': self.step,
            'history': self.history,
            'best': self.best,
            'watch': self._losses.state(),
            'means': self._means.state(),
        }
        problem = None
        if self.place.leader:
            try:
                models.save(self.out / name, state)
            except JepaError as error:
                problem = error
        if self.place.any(problem is not None):
            raise problem or JepaError('the first process could not write the checkpoint')

    def _validate(self, stage, board, progress):
        figures = stage.validate()
        for split, found in figures.items():
            self._report(board, stage, split, found)
        judged = figures.get('validation', {})
        self.history.append({'step': self.step, **judged})
        self._say(progress, f'step {self.step}: ' + '  '.join(f'{k} {v:.3f}' for k, v in judged.items()))
        watch.check(judged, stage.advice)
        score = stage.score(judged)
        if score is not None and score > self.best:
            self.best = score
            self.save('best.pt')

    def _board(self):
        """TensorBoard's writer in the leader; nothing elsewhere."""
        if not self.place.leader:
            return contextlib.nullcontext()
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.out, purge_step=self.step)

    def _report(self, board, stage, split, figures):
        """
        Write figures to TensorBoard and `metrics.jsonl`.

        :raises JepaError: when the disk does not take them.
        """
        if not self.place.leader:
            return
        line = {'step': self.step, 'stage': stage.name, 'split': split, **figures}
        try:
            for name, value in figures.items():
                board.add_scalar(f'{split}/{name}', value, self.step)
            with open(self.out / METRICS, 'a', encoding='utf-8') as log:
                log.write(json.dumps(line) + '\n')
        except OSError as error:
            raise JepaError(f'cannot write the log of the run in {self.out}: {error}') from error

    def _forget_metrics_after(self, step):
        """Leave out of the log what an interrupted process wrote after its last checkpoint."""
        path = self.out / METRICS
        if path.exists():
            lines = [
                line for line in path.read_text(encoding='utf-8').splitlines(True) if line.endswith('\n')
            ]
            partial = path.with_suffix('.partial')
            partial.write_text(
                ''.join(line for line in lines if json.loads(line)['step'] <= step), encoding='utf-8'
            )
            partial.replace(path)

    def _say(self, progress, text):
        if self.place.leader:
            progress.console.print(text)


class Means:
    """
    Means of a stage's figures between two lines of the log, and the share of the time spent waiting for data.
    """

    def __init__(self):
        self._sums, self._counts = {}, {}
        self.waiting = 0.0
        self._began = self._since = time.perf_counter()
        self._waited = 0.0

    def add(self, figures):
        """:param figures: of a step; those that are NaN do not count."""
        for name, value in figures.items():
            if not math.isnan(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, waited, clips):
        """
        :param waited: seconds the loop has waited for data so far; `clips`: in a step.
        :returns: the means since the last call, with `clips_per_second` and `waiting` (share of the time).
        """
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        self.waiting = (waited - self._waited) / elapsed
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        means |= {'clips_per_second': self._counts.get('loss', 0) * clips / elapsed, 'waiting': self.waiting}
        self._sums, self._counts, self._since, self._waited = {}, {}, now, waited
        return means

    def overall(self, waited):
        """Share of the time since the stage began that was spent waiting for data."""
        return waited / max(time.perf_counter() - self._began, 1e-9)

    def state(self):
        """Plain values, for a checkpoint."""
        return {'sums': dict(self._sums), 'counts': dict(self._counts)}

    def load(self, state):
        """:param state: as `state` gave it."""
        self._sums, self._counts = dict(state['sums']), dict(state['counts'])


@contextlib.contextmanager
def _interruptible(stop):
    """Ctrl-C and SIGTERM ask for a stop after the step; a second one is the ordinary kind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore():
        for number, handler in previous.items():
            signal.signal(number, handler)

    def ask(_signal, _frame):
        stop.set()
        restore()

    for number in previous:
        signal.signal(number, ask)
    try:
        yield
    finally:
        restore()

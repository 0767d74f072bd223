# SPDX-License-Identifier: Apache-2.0
"""Many episodes: in several processes, each kept when it is done, so that a run that was cut off goes on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jepa_ros import host
from jepa_ros.control.picking import PickSettings
from jepa_ros.errors import JepaError
from jepa_ros.evaluation import page
from jepa_ros.evaluation.rollout_contenders import Contender, Forecasting, HoldLast, Kalman, Oracle
from jepa_ros.evaluation.rollout_episode import Episode
from jepa_ros.evaluation.rollout_perception import Perception
from jepa_ros.evaluation.rollout_scene import Scene

#: Name of each contender to which bundle it looks through, and how.
CONTENDERS = {
    'vjepa': ('vjepa', Forecasting),
    'ijepa': ('ijepa', Forecasting),
    'kalman': ('ijepa', Kalman),
    'hold': ('ijepa', HoldLast),
    'oracle': (None, Oracle),
}
FORMAT = 3  # of what is kept; another is not gone on with
#: Whose code decides how an episode goes, and what is kept of it.
DECIDES = (
    'control/*.py',
    'sim/*.py',
    *(f'evaluation/rollout_{name}.py' for name in ('contenders', 'episode', 'errors', 'kalman', 'perception', 'scene')),
)


@lru_cache(maxsize=1)
def code() -> str:
    """Return a hash of the law, the scenes and the contenders: episodes of two of them are not one run."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for pattern in DECIDES:
        for path in sorted(package.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class RolloutError(JepaError):
    """Rollouts cannot be run as asked."""


@dataclass(frozen=True)
class Plan:
    """
    What all episodes of a run have in common.

    :param bundles: 'vjepa', 'ijepa' to the path of a bundle; those that are needed.
    :param models: the same to the hash of the bundle.
    :param latencies: name of a contender to s from a frame to its path.
    :param backend: as for `open_session`.
    :param threads: of the backend.
    :param given: the latency that was asked for, s; None: they were measured.
    """

    bundles: dict[str, str]
    models: dict[str, int]
    latencies: dict[str, float]
    backend: str = 'auto'
    threads: int = 1
    given: float | None = None

    def conditions(self) -> dict:
        """Return what must be the same for all that is kept in one folder, besides models and latencies."""
        latency = 'measured' if self.given is None else f'{self.given} s'
        return {'latency': latency, 'backend': self.backend, 'processor': host.describe()['processor'], 'code': code()}

    def contender(self, name: str) -> Contender:
        """Return a contender; those that look through the same bundle share it."""
        bundle, kind = CONTENDERS[name]
        height = PickSettings().track.handle_height
        if bundle is None:
            return kind(self.latencies[name], height)
        perception = _perception(self.bundles[bundle], self.backend, self.threads)
        return kind(perception, self.latencies[name], height)


class Store:
    """
    The folder of a run: `plan.json`, and one file per episode.

    :param folder: made if it is not there.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def plan(self) -> dict | None:
        """Return what an earlier run wrote down, None where there was none."""
        return _read(self._folder / 'plan.json')

    def begin(self, plan: Plan) -> None:
        """
        Write down the plan, or add to that of an earlier run.

        :raises RolloutError: what is kept was run otherwise.
        """
        conditions = plan.conditions()
        old = self.plan() or {
            'format': FORMAT, 'conditions': conditions, 'host': host.describe(), 'models': {}, 'latencies': {}
        }
        if old['format'] != FORMAT:
            raise RolloutError(
                f'expected in {self._folder} episodes of this version, found those of another: choose another --out, '
                'or --again'
            )
        for name, value in conditions.items():
            if old['conditions'][name] != value:
                raise RolloutError(
                    f"expected in {self._folder} episodes with this {name}, '{value}', found "
                    f"'{old['conditions'][name]}': choose another --out, or --again"
                )
        new = dict(old)
        for key, value in (('models', plan.models), ('latencies', plan.latencies)):
            new[key] = {**value, **old[key]}
            changed = sorted(name for name in value if new[key][name] != value[name])
            if changed:
                raise RolloutError(
                    f'expected in {self._folder} episodes with these {key}, found others '
                    f'({", ".join(changed)}): choose another --out, or --again'
                )
        page.write(self._folder / 'plan.json', json.dumps(new, indent=1) + '\n')

    def path(self, contender: str, seed: int) -> Path:
        """Return where an episode is kept."""
        return self._folder / 'episodes' / contender / f'{seed:05d}.json'

    def load(self, contender: str, seed: int) -> dict | None:
        """Return a finished episode, or None."""
        return _read(self.path(contender, seed))

    def save(self, contender: str, episode: dict) -> None:
        """Keep a finished episode."""
        page.write(self.path(contender, episode['seed']), json.dumps(episode, separators=(',', ':')) + '\n')

    def clear(self) -> None:
        """Forget all that is kept."""
        for path in [*self._folder.glob('episodes/*/*.json'), self._folder / 'plan.json']:
            path.unlink(missing_ok=True)


def run_all(
    plan: Plan, wanted: Iterable[tuple[str, int]], store: Store, jobs: int = 1
) -> Iterator[tuple[str, int]]:
    """
    Run episodes and keep each.

    :param wanted: contender and seed of each.
    :param jobs: processes.
    :returns: an iterator that yields each pair when it is done; closing it ends the episodes under way.
    :raises RolloutError: a process died.
    """
    if jobs == 1:
        for name, seed in wanted:
            store.save(name, run_one(plan, name, seed))
            yield name, seed
        return
    # spawned, because neither OpenGL nor a backend's threads outlive a fork
    context = multiprocessing.get_context('spawn')
    stop, left = context.Event(), iter(wanted)
    with ProcessPoolExecutor(jobs, context, _begin_process, (stop,)) as pool:
        try:
            running: dict = {}
            while True:
                while len(running) < jobs and (following := next(left, None)) is not None:
                    running[pool.submit(_run_in_process, plan, *following)] = following
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    name, seed = running.pop(done)
                    store.save(name, done.result())
                    yield name, seed
        except BrokenProcessPool as error:
            raise RolloutError(
                'expected every process to live, found one killed: is there enough memory?'
            ) from error
        finally:
            stop.set()


def run_one(plan: Plan, name: str, seed: int, stop: Callable[[], bool] = lambda: False) -> dict:
    """Run one episode; returns it as `Episode.run` does, with the contender's name and latency."""
    contender = plan.contender(name)
    episode = Episode(Scene(seed), contender, PickSettings(), stop).run()
    return {'contender': name, 'latency': contender.latency, **episode}


_stop = None


def _begin_process(stop) -> None:
    """Prepare a process of the pool: Ctrl-C is for the process that asks, which sets `stop`."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_in_process(plan: Plan, name: str, seed: int) -> dict:
    return run_one(plan, name, seed, _stop.is_set)


@lru_cache(maxsize=2)
def _perception(bundle: str, backend: str, threads: int) -> Perception:
    return Perception(bundle, backend, threads)


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RolloutError(f'expected {path} as a run left it, found: {error}') from error

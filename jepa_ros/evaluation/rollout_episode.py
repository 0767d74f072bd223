# SPDX-License-Identifier: Apache-2.0
"""One bin, one contender: the cell, the contender and the controller's law in lockstep."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jepa_ros.control.picking import Picker, PickSettings, PickState, Tool
from jepa_ros.errors import JepaError
from jepa_ros.evaluation.rollout_contenders import Contender, Opinion, calibration
from jepa_ros.evaluation.rollout_errors import Moment, errors
from jepa_ros.evaluation.rollout_scene import FPS, Cover, Scene
from jepa_ros.evaluation.rollout_strip import Strip
from jepa_ros.sim.cell import SERVO_RATE, ConveyorCell
from jepa_ros.sim.hall import START_TIME
from jepa_ros.sim.truth import EVENTS

TICKS = 3  # of the servo per step of the controller, which so runs at 40 Hz
MODEL = 1  # the hash that paths carry here: there is but one source of them
PATIENCE = 15.0  # s beyond those that the belt needs, for stops and reversals
LENGTH = 1.7  # m of belt that a bin rides at most
LATELY = 2.0  # s for which a grasp counts as disturbed
BELT_JUMP = 0.01  # m/s between frames from which on the belt has changed its speed
DISTURBANCES = tuple(e for e in EVENTS if e in ('started', 'stopped', 'reversed', 'nudged', 'turned'))
AT_WORK = (PickState.TRACKING, PickState.LOWERING, PickState.CLOSING)


class StoppedError(JepaError):
    """An episode was ended from outside."""


@dataclass
class _Log:
    """What happened, with times in s after the first frame."""

    states: set[str]  # of the bin
    closings: list[float]
    lifted: bool = False
    phase: PickState = PickState.DISABLED
    worked: bool = False
    reason: str = ''


class Episode:
    """
    One bin, until it is taken or lost.

    :param scene: what a seed is.
    :param contender: who tells where the handle will be; its latency is what its paths are late by.
    :param settings: of the controller; base and home are those of the seed's cell.
    :param stop: asked at every frame whether to end.
    """

    def __init__(
        self,
        scene: Scene,
        contender: Contender,
        settings: PickSettings,
        stop: Callable[[], bool] = lambda: False,
    ):
        self._scene, self._contender, self._settings, self._stop = scene, contender, settings, stop
        self._limit = LENGTH / scene.speed + PATIENCE

    def run(self) -> dict:
        """
        Run it.

        :returns: what happened, as JSON takes it: see docs/rollout.md.
        :raises StoppedError: `stop` said so.
        """
        self._contender.reset()
        self._moments: list[Moment] = []
        self._opinions: list[tuple[Opinion, tuple]] = []
        self._coming: deque[tuple[int, Opinion]] = deque()
        self._log = _Log(set(), [])
        self._strip = Strip()
        self._cover = Cover(self._scene)
        with self._scene.open() as cell:
            self._bin = cell.bin
            station, settings = cell.station, self._settings
            picker = Picker(
                replace(
                    settings,
                    arm=replace(settings.arm, base=(station.x, station.y)),
                    home=tuple(cell.home),
                ),
                TICKS / SERVO_RATE,
                MODEL,
            )
            picker.calibration = calibration(cell)
            picker.enabled = True
            outcome = self._frame(cell)
            while outcome is None:
                self._control(cell, picker)
                for _ in range(TICKS):
                    if cell.tick():
                        outcome = outcome or self._frame(cell)
            return self._result(cell, outcome)

    def _frame(self, cell: ConveyorCell) -> str | None:
        """Look at a new frame; returns the outcome when it is decided."""
        if self._stop():
            raise StoppedError('the episode was ended from outside')
        truth, elapsed = cell.truth(), cell.time - START_TIME
        before = self._moments[-1].belt if self._moments else cell.belt_speed
        disturbed = any(event in DISTURBANCES for event in truth.events)
        self._moments.append(
            Moment(
                cell.stamp_ns,
                truth.handle.position,
                float(np.arctan2(truth.handle.rotation[1, 0], truth.handle.rotation[0, 0])),
                truth.xy,
                truth.visible,
                truth.contact == 'none',
                cell.belt_speed,
                disturbed or abs(cell.belt_speed - before) > BELT_JUMP,
            )
        )
        if cell.bin is self._bin:
            self._log.states.add(truth.state)
        if cell.taken:
            return 'picked'
        if cell.bin is not self._bin or 'left' in truth.events:
            return 'lost'
        if elapsed > self._limit:
            return 'late'
        self._cover.step(cell)
        opinion = self._contender.see(cell)
        if opinion is not None:
            self._coming.append((opinion.path.stamp_ns + round(self._contender.latency * 1e9), opinion))
        self._strip.see(cell.stamp_ns, self._contender.picture, truth.xy, opinion)
        return None

    def _control(self, cell: ConveyorCell, picker: Picker) -> None:
        """Let the controller take what has arrived by now, and do what it says."""
        now, news = round(cell.now * 1e9), None
        while self._coming and self._coming[0][0] <= now:
            _, news = self._coming.popleft()
            stamp = news.path.stamp_ns
            picker.futures.offer(news.path, stamp, MODEL, now, now)
            picker.latents.offer(news.surprise, stamp, MODEL, now, now)
        tool = cell.tool
        command = picker.step(now, now, Tool(tool.position, tool.rotation), cell.opening)
        if command.twist is not None:
            cell.command(command.twist, 'world')
        if command.gripper:
            cell.grip(command.gripper[0])
        if news is not None:
            self._opinions.append((news, command.path))
        self._note(cell, command)

    def _note(self, cell, command) -> None:
        log = self._log
        if command.state is PickState.CLOSING and log.phase is not PickState.CLOSING:
            log.closings.append(cell.now - START_TIME)
        log.worked |= command.state in AT_WORK
        log.reason = command.reason or log.reason
        log.phase = command.state

    def _result(self, cell, outcome: str) -> dict:
        log, moments = self._log, self._moments
        elapsed = cell.time - START_TIME
        seen = next((m for m in moments if m.xy is not None), moments[0])
        grasp = log.closings[-1] if log.closings else None
        around = self._before(grasp, 1.0)
        lately = self._before(grasp if grasp is not None else elapsed, LATELY)
        return {
            'seed': self._scene.seed,
            'speed': round(self._scene.speed, 4),
            'covered': self._cover.sent,
            'outcome': outcome,
            'why': '' if outcome == 'picked' else self._why(),
            'reason': '' if outcome == 'picked' else log.reason,
            'seconds': round((moments[-1].stamp_ns - seen.stamp_ns) / 1e9, 3)
            if outcome == 'picked'
            else None,
            'length': round(elapsed, 3),
            'attempts': len(log.closings),
            'grasp': None if grasp is None else round(grasp, 3),
            'hidden': None if grasp is None else round(sum(not m.visible for m in around) / FPS, 3),
            'disturbed': any(m.disturbed for m in lately),
            'paths': len(self._opinions),
            'errors': errors(self._opinions, moments, calibration(cell)),
            'strip': self._strip.choose(
                None if grasp is None else round((START_TIME + grasp) * 1e9), outcome
            ),
        }

    def _before(self, until: float | None, seconds: float) -> list[Moment]:
        """Return the frames of the last seconds until a time."""
        if until is None:
            return []
        last = (START_TIME + until) * 1e9 + 1
        return [m for m in self._moments if last - seconds * 1e9 < m.stamp_ns <= last]

    def _why(self) -> str:
        """Name the phase that failed."""
        log = self._log
        if not log.worked:
            return 'never confident'
        if not log.closings:
            return 'never closed'
        if 'held' in log.states:
            return 'dropped'
        return 'slipped' if 'touched' in log.states else 'missed'

# SPDX-License-Identifier: Apache-2.0
"""
The task of taking bins off a belt by their handles: all that is this task's own.

:class:`Picker` is driven like :class:`~jepa_ros.control.follower.Follower`, by a node or in lockstep::

    picker = Picker(PickSettings(), period=0.05, model=bundle.model_id)
    picker.calibration = Calibration(size, matrix, position, rotation)
    picker.enabled = True
    picker.futures.offer(path, path.stamp_ns, model, now_ns, steady_ns)   # a PredictedPath, whenever one comes
    picker.latents.offer(surprise, stamp_ns, model, now_ns, steady_ns)    # where max_surprise is above 0
    command = picker.step(now_ns, steady_ns, Tool(position, rotation), opening)

Poses, twists and places are in one frame, that of camera and tool: `base_link` on a robot, or `world`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from jepa_ros.angles import wrapped
from jepa_ros.control.calibration import Calibration
from jepa_ros.control.intercept import Arm, HandleState, HandleTrack, Intercept, TrackSettings, intercept
from jepa_ros.control.path import PredictedPath, PredictionError
from jepa_ros.control.watchdog import RefusedError, Watchdog, WatchdogSettings
from jepa_ros.errors import JepaError


class PickState(Enum):
    """What the picker is doing."""

    DISABLED = 'disabled'
    STOPPED = 'stopped'  # in doubt about what it acts on: zeros
    WAITING = 'waiting'  # at home, for a handle that will come into reach
    APPROACHING = 'approaching'  # to hover where the handle can be met
    TRACKING = 'tracking'  # hovering over the handle, at its speed
    LOWERING = 'lowering'
    CLOSING = 'closing'
    LIFTING = 'lifting'
    HOLDING = 'holding'
    CARRYING = 'carrying'  # to where bins are put down
    PLACING = 'placing'
    RELEASING = 'releasing'
    RETREATING = 'retreating'  # up, after an attempt that failed or a bin put down


@dataclass(frozen=True)
class PickSettings:
    """
    What the task is tuned with.

    :param track: belt, handles, and how futures are weighed.
    :param arm: limits of speed and place.
    :param watchdog: how old what it acts on may be.
    :param horizon: the delay from command to motion, s; the age of the futures is added, as it is.
    :param gain: share of the distance that is closed per second, 1/s.
    :param max_turn: limit of the turning speed, rad/s.
    :param max_error: largest standard deviation of the handle's place that is acted on, m.
    :param max_surprise: as for the follower; 0 does not watch it.
    :param patience: for how long an attempt goes on in doubt before it is given up, s.
    :param home: where the tool waits, m.
    :param hover: how far above the handle the tool waits for it, m.
    :param depth: how far below the axis of the bar it closes, m: the middle of the pads, so that the height may be
        wrong either way.
    :param touch: how far above the axis of the bar the tool is when its fingers stand on the bar, m.
    :param lift: how far a bin is lifted, m.
    :param hold: for how long it is held there, s.
    :param place: where bins are put down, m; empty: they are held for good.
    :param gripper_open: command that opens the gripper, one number per joint.
    :param gripper_closed: command that closes it.
    :param closing_time: for how long it is closed before the bin is lifted, s.
    :param min_opening: opening below which the closed gripper holds nothing, in the unit of the joints.
    """

    track: TrackSettings = field(default_factory=TrackSettings)
    arm: Arm = field(default_factory=Arm)
    watchdog: WatchdogSettings = field(default_factory=lambda: WatchdogSettings(0.2, 0.17, 0.05))
    horizon: float = 0.03
    gain: float = 5.0
    max_turn: float = 2.0
    max_error: float = 0.13
    max_surprise: float = 1.0
    patience: float = 0.3
    home: tuple[float, float, float] = (0.60, -0.04, 1.10)
    hover: float = 0.13
    depth: float = 0.02
    touch: float = 0.024
    lift: float = 0.17
    hold: float = 1.3
    place: tuple[float, ...] = ()
    gripper_open: tuple[float, ...] = (0.045,)
    gripper_closed: tuple[float, ...] = (0.0,)
    closing_time: float = 0.45
    min_opening: float = 0.006


@dataclass(frozen=True)
class Tool:
    """
    Where the tool is.

    :param position: float64 [3], between the finger tips, m.
    :param rotation: float64 [3, 3], its axes as columns: z out of the hand, y the way in which fingers close.
    :param stamp_ns: when it was there; 0: now.
    """

    position: np.ndarray
    rotation: np.ndarray
    stamp_ns: int = 0


@dataclass(frozen=True)
class PickCommand:
    """
    What is to be sent after one step.

    :param state: what it is doing.
    :param reason: why it does not go on, or why the last attempt was given up; empty while all is well.
    :param twist: float64 [6], velocity of the tool, linear (m/s) and angular (rad/s), along the axes of the
        frame; None: send nothing.
    :param gripper: one number per joint; empty: send nothing, it keeps what it holds.
    :param path: when (ns) and where the handle is expected, one per horizon; empty while nothing is known. The same
        object until the next futures come.
    :param intercept: where and when it can be met first; None: not within the horizons.
    """

    state: PickState
    reason: str
    twist: np.ndarray | None
    gripper: tuple[float, ...] = ()
    path: tuple[tuple[int, HandleState], ...] = ()
    intercept: Intercept | None = None


#: In these the gripper has the bin, or is about to have it: what the camera sees is of no more use.
COMMITTED = (
    PickState.CLOSING,
    PickState.LIFTING,
    PickState.HOLDING,
    PickState.CARRYING,
    PickState.PLACING,
    PickState.RELEASING,
)
ATTEMPT = (PickState.TRACKING, PickState.LOWERING, PickState.CLOSING)
AHEAD = 0.06  # m before the workspace from which on a handle is followed
NEAR = 0.012  # m, besides the doubt: so near is over the handle, or at it
FAR = 0.04  # m beside it: too far to go on lowering
CLEAR = 0.06  # m above the bar: the fingers are off it
AGAIN = 0.15  # m beside the handle: so near, a further attempt begins from there
TURNED = 0.08  # rad
SUNK = 0.005  # m: a tool that does not come down by more within `patience` has met something
FELT = 0.003  # m, standard deviation of a height at which the fingers met the bar
NEWS = 0.012  # m: a bar that is so much higher or lower than it seemed is elsewhere, on the ray on which it is seen
MISSED = 0.01  # m below the tips: where a bar is looked for that was not between fingers that closed
#: m towards the camera, the way the fingers close, from where the handle seems to be: where attempts look for it in turn.
SEARCH = (0.0, 0.04, -0.04)
SEARCHED = 0.03  # m: so near to where the bar was not it is not looked for again
JAMMED = 0.95  # of the open gripper: one that closes no further stands on something
VERTICAL = 0.35  # m/s at most, towards the handle and away from it


class Picker:
    """
    Takes bins by their handles, as long as there is no doubt about where those will be.

    It starts disabled. Disabled, it commands nothing but still says what it expects. In doubt about its
    inputs (stale, of another model, not finite, not calibrated, a scene that surprises the model) it commands
    explicit zeros at every step, leaves the gripper as it is, and goes on from rest when the doubt is gone.
    Surprise does not stop fingers that are down: they wait over the handle and go up, or have it and go on.
    An attempt that was interrupted for longer than ``patience``, or whose handle became too uncertain for so
    long, is given up: it rises and tries again.

    :param settings: how it is tuned; may be replaced between steps.
    :param period: time between two steps in s.
    :param model: hash of the only model that it acts on.

    Attributes: ``futures``, ``latents``, ``tools``: watchdogs to which messages are offered; ``calibration``: of
    the camera, or None, and then ``uncalibrated`` is the reason; ``track``: what is known of the handle.
    """

    def __init__(self, settings: PickSettings, period: float, model: int):
        self.futures: Watchdog[PredictedPath] = Watchdog('futures', settings.watchdog, model)
        self.latents: Watchdog[float] = Watchdog('latents', settings.watchdog, model)
        self.tools: Watchdog[Tool] = Watchdog('poses of the tool', settings.watchdog, 0)
        self.calibration: Calibration | None = None
        self.uncalibrated = 'no calibration of the camera has arrived yet'
        self.track = HandleTrack(settings.track)
        self._period = period
        self._enabled, self._twist = False, np.zeros(6)
        self._go(PickState.WAITING)
        self._why = self._fault = self._interruption = ''
        self._doubtful = self._halted = 0.0  # s
        self._taken: PredictedPath | None = None  # the last path that was put into the track
        self._path: tuple[tuple[int, HandleState], ...] = ()  # the handle at its horizons
        self._yaw: float | None = None
        self._hand = 0.0  # of the hand to the arm, rad, while it carries a bin
        self._spot: np.ndarray | None = None
        self._riding, self._height = np.zeros(3), 0.0  # of the bin in the gripper: velocity, tool above bottom
        self._shut = 0.0  # z of the tips as they close, m
        self._lowest, self._resisted = np.inf, 0.0  # of a tool that is lowered: z, m; for how long it met something, s
        self._searched: list[tuple[int, np.ndarray]] = []  # when (ns) and where the bar was not, m
        self._offset = 0.0  # m towards the camera from where the handle seems to be: where this attempt looks
        self.settings = settings

    @property
    def settings(self) -> PickSettings:
        """How it is tuned."""
        return self._settings

    @settings.setter
    def settings(self, settings: PickSettings) -> None:
        self._settings = settings
        self.track.settings = settings.track
        for watchdog in (self.futures, self.latents, self.tools):
            watchdog.settings = settings.watchdog

    @property
    def enabled(self) -> bool:
        """Whether it may command motion. Disabled, it forgets its attempt, but not that it holds a bin."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if enabled == self._enabled:
            return
        self._enabled = enabled
        self._twist = np.zeros(6)
        holds = self._state in COMMITTED and self._state not in (PickState.CLOSING, PickState.RELEASING)
        # up first: its fingers may be down beside a bar
        self._go(PickState.HOLDING if holds else PickState.RETREATING)
        self._spot = None
        self._why = ''

    def step(
        self, now_ns: int, steady_ns: int, tool: Tool | None = None, opening: float | None = None
    ) -> PickCommand:
        """
        Decide what to send now; called once per period.

        :param now_ns: now in ns on the clock that stamps are made with.
        :param steady_ns: now in ns on a steady clock.
        :param tool: where the tool is; None: no news since the last step.
        :param opening: of the gripper, in the unit of its command; None: nobody knows.
        """
        aim_ns = now_ns + round(self.settings.horizon * 1e9)
        handle, path, meet, surprise, reason = None, (), None, 0.0, ''
        try:
            self._look(now_ns, steady_ns, tool)
            surprise = self._surprise(now_ns, steady_ns)
            handle = self.track.at(aim_ns)
            path = self._path
            meet = self._intercept(aim_ns)
        except PredictionError as error:
            # Once the fingers close, the handle is no longer where the belt would have carried it.
            doubt = reason = str(error)
            if self._state in COMMITTED:
                reason = ''
        except JepaError as error:
            reason = str(error)
        if not self._enabled:
            return PickCommand(PickState.DISABLED, reason or 'disabled', None, (), path, meet)
        surprised = surprise > self.settings.max_surprise > 0
        if not reason and surprised and self._state not in (*COMMITTED, PickState.LOWERING, PickState.RETREATING):
            reason = self._surprised(surprise)
        if reason:
            self._twist = np.zeros(6)
            self._halted += self._period
            self._interruption = reason
            return PickCommand(PickState.STOPPED, reason, self._twist, (), path, meet)
        self._resume()
        if handle is not None:
            doubt = self._surprised(surprise) if surprised else self._uncertain(handle)
            handle = self._looked_for(handle, now_ns)
            self._handle, self._error = handle, handle.position - self._tool.position
        self._doubtful = self._doubtful + self._period if doubt else 0.0
        self._meet, self._doubt, self._opening = meet, doubt, opening
        state = self._state
        wanted = getattr(self, f'_{state.value}')()
        self._since = self._since + self._period if self._state is state else 0.0
        self._twist = self._limit(wanted)
        gripper = self.settings.gripper_closed if self._closed else self.settings.gripper_open
        return PickCommand(self._state, doubt or self._why, self._twist, gripper, path, meet)

    # What it knows.

    def _look(self, now_ns: int, steady_ns: int, tool: Tool | None) -> None:
        """Take what is new and refuse what must not be acted on."""
        path = self.futures.check(now_ns, steady_ns)
        if self.calibration is None:
            raise RefusedError(self.uncalibrated)
        if path is not self._taken:
            if self._taken is not None and path.stamp_ns < self._taken.stamp_ns:
                self.track.reset()  # the clock was set back
            self._taken, self._fault = path, ''
            try:
                self.track.add(path, self.calibration)
                instants = self.track.instants_ns
                self._path = tuple(zip(instants, self.track.states(instants)))
            except JepaError as error:
                self._fault = str(error)
        if self._fault:
            raise RefusedError(self._fault)
        if tool is not None:
            if not (np.isfinite(tool.position).all() and np.isfinite(tool.rotation).all()):
                self.tools.clear('the pose of the tool is not finite')
            else:
                self.tools.offer(tool, tool.stamp_ns or now_ns, 0, now_ns, steady_ns)
        held = self.tools.check(now_ns, steady_ns)
        self._tip = held.position[2]
        # Where it will be when a command sent now begins to move it.
        lead = self.tools.age(now_ns) + self.settings.horizon
        self._tool = replace(held, position=held.position + self._twist[:3] * lead)

    def _surprise(self, now_ns: int, steady_ns: int) -> float:
        if self.settings.max_surprise <= 0:
            return 0.0
        surprise = self.latents.check(now_ns, steady_ns)
        # NaN: perception had no forecast for exactly this instant, which says nothing against this one.
        return surprise if np.isfinite(surprise) else 0.0

    def _surprised(self, surprise: float) -> str:
        allowed = self.settings.max_surprise
        return f'the scene surprises the model: {surprise:.2f}, {allowed:g} allowed'

    def _uncertain(self, handle: HandleState) -> str:
        allowed = self.settings.max_error
        if handle.deviation <= allowed:
            return ''
        return (
            'the place of the handle is uncertain: its standard deviation is '
            f'{handle.deviation:.3f} m, {allowed:g} m allowed'
        )

    def _intercept(self, aim_ns: int) -> Intercept | None:
        arm = self.settings.arm

        def allowed(place: np.ndarray) -> bool:
            return arm.workspace[0] <= self._along(place) <= arm.workspace[1] and arm.reaches(place)

        found = intercept(self.track, self._tool.position, aim_ns, arm, allowed)
        return None if found is None or self._uncertain(found.handle) else found

    def _along(self, place: np.ndarray) -> float:
        return float(place @ self._forward)

    def _coming(self) -> str:
        """Return why the handle cannot be taken, or nothing."""
        last = self.settings.arm.workspace[1]
        along, speed = self._along(self._handle.position), self._along(self._handle.velocity)
        if along + max(speed, 0.0) * self.settings.closing_time > last:
            return 'the handle has passed'
        return self._beyond_reach()

    def _beyond_reach(self) -> str:
        """Return whether the arm reaches to where it would meet the handle, or follow it: why not, or nothing."""
        missing = max(self.settings.arm.workspace[0] - self._along(self._handle.position), 0.0)
        if not self.settings.arm.reaches(self._handle.position + missing * self._forward):
            return 'the handle is out of reach'
        return ''

    def _gone_back(self) -> str:
        """Return whether a handle that was followed went back out of the workspace: that it did, or nothing."""
        back = self._along(self._handle.position) < self.settings.arm.workspace[0] - 2 * AHEAD
        return 'the handle went back out of the workspace' if back else ''

    @property
    def _forward(self) -> np.ndarray:
        """The way the belt carries bins, float64 [3]."""
        yaw = self.settings.track.belt_yaw
        return np.array([np.cos(yaw), np.sin(yaw), 0.0])

    def _empty(self) -> bool:
        return self._opening is not None and self._opening < self.settings.min_opening

    # The states: each returns the twist that is wanted, and may go on to another.

    def _waiting(self) -> np.ndarray:
        self._searched.clear()
        if not (self._doubt or self._coming()):
            return self._go(PickState.APPROACHING)
        self._face(self.settings.home)
        return self._towards(self.settings.home)

    def _approaching(self) -> np.ndarray:
        """Hover over the handle, or where it will come into the workspace."""
        if self._doubt_lasts() or self._coming():
            return self._go(PickState.WAITING)
        self._align()
        first = self.settings.arm.workspace[0]
        missing = first - self._along(self._handle.position)
        if missing < AHEAD:
            return self._go(PickState.TRACKING)
        return self._towards(self._handle.position + missing * self._forward + (0, 0, self.settings.hover))

    def _tracking(self) -> np.ndarray:
        """Hover over the handle and match its speed."""
        if self._doubt_lasts():
            return self._give_up(self._doubt)
        if left := self._coming() or self._gone_back():
            return self._give_up(left)
        self._align()
        beside, hover = self._beside, (0, 0, self.settings.hover)
        if beside < self._near and abs(self._turn_left()) < TURNED and not self._doubt:
            self._why = ''
            return self._go(PickState.LOWERING)
        if beside > 0.1 and self._meet is not None:  # not behind it, but to where it will be
            return self._towards(self._meet.handle.position + hover)
        return self._towards(self._handle.position + hover, self._handle.velocity)

    def _lowering(self) -> np.ndarray:
        if self._doubt_lasts():
            return self._give_up(self._doubt)
        if left := self._beyond_reach() or self._gone_back():  # one that passes may still be taken
            return self._give_up(left)
        if self._beside > FAR + self._near:
            if self._error[2] > -CLEAR:  # fingers that are down already would drive sideways into the bin
                return self._give_up('the handle went elsewhere')
            return self._go(PickState.TRACKING)
        deep = (0, 0, -self.settings.depth)
        if self._beside < self._near and abs(self._error[2] + deep[2]) < NEAR and not self._doubt:
            self._ride()
            return self._go(PickState.CLOSING)
        twist = self._towards(self._handle.position + deep, self._handle.velocity)
        # in doubt it stays over the handle, but comes no nearer
        twist[2] = np.clip(twist[2], 0.0 if self._doubt else -VERTICAL, VERTICAL)
        if self._resists(twist[2] < -self.settings.gain * NEAR):
            return self._stands_on_it()
        return twist

    def _resists(self, told: bool) -> bool:
        """Whether the tool has stayed where it is for too long for one that is told to come down."""
        height = self._tool.position[2]
        if self._since == 0.0 or height < self._lowest - SUNK:
            self._lowest, self._resisted = height, 0.0
        elif told:
            self._resisted += self._period
        return self._resisted > self.settings.patience

    def _closing(self) -> np.ndarray:
        self._shut = self._tip
        if self._empty():
            self._nothing_between()
            return self._give_up('the fingers closed on nothing')
        if self._since > self.settings.closing_time:
            if self._opening is not None and self._opening > JAMMED * np.mean(self.settings.gripper_open):
                return self._stands_on_it()
            self._spot = self._tool.position + (0, 0, self.settings.lift)
            return self._go(PickState.LIFTING)
        if not self._doubt:
            self._ride()
        return self._twist_of(self._riding)

    def _lifting(self) -> np.ndarray:
        """Go up, and stop moving along only on the way."""
        if self._empty():
            self._nothing_between()
            return self._give_up('the bin slipped out of the fingers')
        left = self._spot[2] - self._tool.position[2]
        if left < 0.01:
            self._spot = self._tool.position
            return self._go(PickState.HOLDING)
        along = self._riding * np.clip((left - 0.08) / 0.06, 0, 1)
        return self._twist_of((along[0], along[1], np.clip(self.settings.gain * left, 0.05, 0.3)))

    def _holding(self) -> np.ndarray:
        if self._empty():
            return self._give_up('the bin slipped out of the fingers')
        if self._spot is None:
            self._spot = self._tool.position
        if self.settings.place and self._since > self.settings.hold:
            return self._go(PickState.CARRYING)
        return self._towards(self._spot)

    def _carrying(self) -> np.ndarray:
        """Swing about the base to where bins are put down, with the hand keeping its side towards the base."""
        if self._empty():
            return self._give_up('the bin slipped out of the fingers')
        base = np.array(self.settings.arm.base)
        now, goal = self._tool.position[:2] - base, np.array(self.settings.place[:2]) - base
        pan = self._pan(self._tool.position)
        left = wrapped(self._pan(self.settings.place) - pan)
        out = float(np.hypot(*goal) - np.hypot(*now))
        if abs(left) < 0.03 and abs(out) < 0.02:
            return self._go(PickState.PLACING)
        if self._since == 0.0:
            self._hand = self._tool_yaw - pan
        distance = np.hypot(*now)
        fastest = min(1.0, 0.8 * self.settings.max_turn, 0.8 * self.settings.arm.max_speed / distance)
        turn = float(np.clip(3.0 * left, -fastest, fastest))
        flat = 2.0 * np.clip(out, -0.15, 0.15) * now / distance + turn * np.array([-now[1], now[0]])
        self._yaw = pan + self._hand
        twist = self._twist_of((*flat, self.settings.gain * (self._spot[2] - self._tool.position[2])))
        twist[5] += turn
        return twist

    def _placing(self) -> np.ndarray:
        """Down to where bins stand, or until this one does."""
        above = self._tool.position[2] - self._height - self.settings.place[2]
        if above < 0.004 or self._resists(True):
            return self._go(PickState.RELEASING)
        return self._twist_of((0.0, 0.0, -np.clip(2.0 * above, 0.03, 0.25)))

    def _releasing(self) -> np.ndarray:
        if self._since > 0.4:
            return self._go(PickState.RETREATING)
        return self._twist_of(np.zeros(3))

    def _retreating(self) -> np.ndarray:
        """Up: along with a handle that can still be taken, else to where no bin is in the way."""
        track = self.settings.track
        again = self._beside < AGAIN and not (self._doubt or self._coming() or self._gone_back())
        clear = track.belt_height + track.handle_height + self.settings.hover
        if self._tool.position[2] > (self._handle.position[2] + CLEAR if again else clear):
            return self._go(PickState.APPROACHING if again else PickState.WAITING)
        return self._twist_of((0.0, 0.0, VERTICAL) + (self._handle.velocity if again else np.zeros(3)))

    # What they share.

    def _go(self, state: PickState) -> np.ndarray:
        self._state, self._since = state, 0.0
        self._closed = state in COMMITTED and state is not PickState.RELEASING
        return self._twist.copy()

    def _give_up(self, reason: str) -> np.ndarray:
        self._why = f'given up: {reason}'
        return self._go(PickState.RETREATING)

    def _resume(self) -> None:
        if self._halted > self.settings.patience and self._state in ATTEMPT:
            if self._state is not PickState.CLOSING:
                self._give_up(self._interruption)
        self._halted = 0.0

    def _doubt_lasts(self) -> bool:
        return self._doubtful > self.settings.patience

    def _stands_on_it(self) -> np.ndarray:
        """
        Learn from fingers that met something, the bar as a rule, and begin again.

        They tell how high it is. Where it seemed to be as high, or cannot be, it is somewhere beside.
        """
        felt = self._tip - self.settings.touch
        known = abs(felt - self._handle.position[2]) <= NEWS
        if not self.track.feel(felt - self.settings.track.belt_height, FELT) or known:
            self._not_here()
        return self._give_up('something is in the way of the fingers')

    def _nothing_between(self) -> None:
        """Learn from fingers that closed on nothing, or hardly: the bar is lower, or where that was tried, beside."""
        lower = self._shut - MISSED - self.settings.track.belt_height
        if self.track.felt or not self.track.feel(lower, FELT):
            self._not_here()

    def _not_here(self) -> None:
        """Remember where the bar is not."""
        self._searched.append((self._now_ns, self._tool.position))

    def _looked_for(self, handle: HandleState, now_ns: int) -> HandleState:
        """Return the handle where this attempt looks for it: not where it was not, which the belt carries along."""
        self._now_ns = now_ns
        across = np.array([-np.sin(handle.yaw), np.cos(handle.yaw), 0.0])
        across *= np.sign(across @ (self.calibration.position - handle.position)) or 1.0
        if self._state is not PickState.LOWERING and self._state not in COMMITTED:
            gone = [
                across @ (handle.position - place - (now_ns - then_ns) / 1e9 * handle.velocity)
                for then_ns, place in self._searched
            ]
            left = [offset for offset in SEARCH if all(abs(offset + way) > SEARCHED for way in gone)]
            if not left:  # everywhere: once more
                self._searched.clear()
            self._offset = (left or SEARCH)[0]
        return replace(handle, position=handle.position + self._offset * across)

    @property
    def _beside(self) -> float:
        return float(np.hypot(*self._error[:2]))

    @property
    def _near(self) -> float:
        # Nearer than what is known of the place there is no being.
        return NEAR + 0.3 * min(self._handle.deviation, self.settings.max_error)

    def _ride(self) -> None:
        self._riding = self._handle.velocity
        self._height = self._handle.position[2] - self.settings.depth - self.settings.track.belt_height

    def _align(self) -> None:
        """Want the fingers to close across the bar: of the two ways the nearer one that the wrist has."""
        pan = self._pan(self._handle.position)
        hand = wrapped(self._tool_yaw - pan)
        turned = hand + wrapped(self._handle.yaw - pan - hand, np.pi)
        if abs(turned) > self.settings.arm.wrist:
            turned -= np.copysign(np.pi, turned)
        self._yaw = pan + turned

    def _face(self, place) -> None:
        """Want the hand's yaw as it is, within a right angle of how the arm points there."""
        pan = self._pan(place)
        self._yaw = pan + float(np.clip(wrapped(self._tool_yaw - pan), -np.pi / 2, np.pi / 2))

    def _pan(self, place) -> float:
        base = self.settings.arm.base
        return float(np.arctan2(place[1] - base[1], place[0] - base[0]))

    @property
    def _tool_yaw(self) -> float:
        return float(np.arctan2(self._tool.rotation[1, 0], self._tool.rotation[0, 0]))

    def _turn_left(self) -> float:
        return wrapped((self._tool_yaw if self._yaw is None else self._yaw) - self._tool_yaw)

    def _towards(self, place, velocity=(0.0, 0.0, 0.0)) -> np.ndarray:
        """Close the distance to a place that moves with a velocity."""
        return self._twist_of(self.settings.gain * (np.asarray(place) - self._tool.position) + velocity)

    def _twist_of(self, linear) -> np.ndarray:
        """Add the turn that keeps the hand pointing down and the yaw as wanted."""
        gain = self.settings.gain
        level = gain * np.cross(self._tool.rotation[:, 2], (0.0, 0.0, -1.0))
        return np.array([*linear, level[0], level[1], gain * self._turn_left()])

    def _limit(self, wanted: np.ndarray) -> np.ndarray:
        """Limit speed and slew; turning gets up to speed in the time in which moving does."""
        settings, arm = self.settings, self.settings.arm
        ramp = arm.max_acceleration / arm.max_speed * self._period
        parts = []
        for part, most in ((slice(0, 3), arm.max_speed), (slice(3, 6), settings.max_turn)):
            change = _shortened(_shortened(wanted[part], most) - self._twist[part], most * ramp)
            parts.append(self._twist[part] + change)
        return np.concatenate(parts)


def _shortened(vector: np.ndarray, length: float) -> np.ndarray:
    """Shorten a vector to a length; its direction stays."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)

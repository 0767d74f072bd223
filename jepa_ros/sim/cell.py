# SPDX-License-Identifier: Apache-2.0
"""The picking cell: the conveyor hall with a manipulator in it, real contacts, and what is true about it.

Belt, bins, textures, lights, pillar and fixed camera are those of `ConveyorScene` for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jepa_ros.sim import interventions as events
from jepa_ros.sim.arm import FINGERS, HOME_HEIGHT, JOINTS, REACH, manipulator, station
from jepa_ros.sim.belt import SPEEDS
from jepa_ros.sim.hall import MAX_TIMESTEP, START_TIME, VISIBLE_SHARE, Hall, SimError
from jepa_ros.sim.interventions import BeltDrive, Intervention, Schedule
from jepa_ros.sim.props import AWAY, LOAD_HALF, LOAD_LINE, props
from jepa_ros.sim.servo import CartesianServo
from jepa_ros.sim.truth import CameraModel, Pose, Truth
from jepa_ros.sim.world import BELT_TOP, GRIP_SAMPLES, Bin, Fixture, build, element

SERVO_RATE = 120.0  # Hz, at least
COMMAND_TIMEOUT = 0.2  # s after which the arm stops by itself
LIFTED = 0.05  # m above the belt from which on a bin in the gripper is held
HELD = 1.0  # s after which it is taken
CLEARED = 1.5  # s after which a taken bin that is let go is carried off
TIPPED = 0.8  # cosine of the tilt
CAMERAS = {'fixed': 'camera', 'arm': 'arm_camera', 'overview': 'overview'}
FRAMES = ('world', 'base_link', 'tool0', 'camera_optical_frame')


class ConveyorCell(Hall):
    """A manipulator beside the belt, commanded by a Cartesian velocity; bins come one after another.

    Everything follows from the seed and the commands: the same ones give the same states on the same machine,
    whether pictures are drawn or not. Times are simulated, from START_TIME on.

    :param seed: see `seeds` for which range is for what.
    :param size: height and width of the picture, px.
    :param fps: camera frames per second.
    :param fine: shadows and antialiasing, about seven times slower to render.
    :param camera: 'fixed'; 'arm': in the hand; 'overview': from where all can be seen.
    :param speed: of the belt, m/s; None: drawn from the seed.
    :param bins: how many are on the belt at most.
    :param interventions: what happens to belt and bins; 'seed': drawn from the seed.
    :param passing: whether hanging loads pass in front of the camera now and then.
    :raises SimError: when MuJoCo is missing, or an argument is not as described.

    Attributes: `taken`: number of bins taken so far. `ticks`: periods of the servo so far. `policy`: None, or
    what commands the cell: `step()` calls its `step()` first, and its `action` names what it does.
    """

    policy = None

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (240, 320),
        fps: float = 30.0,
        fine: bool = False,
        *,
        camera: str = 'fixed',
        speed: float | None = None,
        bins: int = 1,
        interventions: str | Iterable[Intervention] = (),
        passing: bool = False,
    ):
        if camera not in CAMERAS or not 1 <= bins <= 3:
            raise SimError(
                f'expected camera {", ".join(CAMERAS)} and 1 to 3 bins, found {camera!r} and {bins}'
            )
        if isinstance(interventions, str) and interventions != 'seed':
            raise SimError(f"expected interventions or 'seed', found {interventions!r}")
        self._ticks_per_frame = int(np.ceil(SERVO_RATE / fps))
        self._tick = 1 / fps / self._ticks_per_frame
        self._substeps = int(np.ceil(self._tick / MAX_TIMESTEP))
        rng = np.random.default_rng([seed, 5])
        self.station = station(rng)
        arm, things = manipulator(rng, self.station), props(rng)
        fixture = Fixture([*arm.worldbody, *things.worldbody, _overview()], arm.actuator, arm.equality)
        super().__init__(seed, size, fps, build(seed, self._tick / self._substeps, fine, fixture))
        self._camera = self._model.camera(CAMERAS[camera]).id
        if camera == 'overview':
            self._model.vis.map.shadowclip = 2.0  # it sees further than the shadows of the others reach
        self._rng = np.random.default_rng([seed, 2])
        draw = np.random.default_rng([seed, 4])
        self._belt = BeltDrive(draw.uniform(*SPEEDS) if speed is None else float(speed))
        self._data.joint('belt').qvel[0] = self._belt.speed
        self._most, self._gap, self._gaps = bins, 0.0, draw
        self._passes = np.random.default_rng([seed, 7])
        drawn = events.drawn(np.random.default_rng([seed, 6]))
        loads = events.passing(np.random.default_rng([seed, 9])) if passing else ()
        self._schedule = Schedule(drawn if interventions == 'seed' else interventions, loads)
        self._load: _Load | None = None
        self._servo = CartesianServo(self._mujoco, self._model, self._data)
        self._twist, self._frame_of_twist, self._commanded = np.zeros(6), 'world', -np.inf
        self.ticks = self.taken = 0
        self._contacts = _Contacts(self._model, self._bins)
        self._on_belt: list[Bin] = []
        self._gone: dict[str, float] = {}  # taken bins, and for how long each has been let go
        self._held = dict.fromkeys((bin_.name for bin_ in self._bins), 0.0)
        self._contact, self._belt_state, self._down = 'none', self._belt.state, set()
        self._events, self._reported = [], []
        self._servo.place(self.station.joints(self.home))
        self._admit()
        self._mujoco.mj_forward(self._model, self._data)

    # Commands.

    def command(self, twist: np.ndarray, frame: str = 'base_link') -> None:
        """Tell the arm how to move; it stops by itself COMMAND_TIMEOUT s after the last word.

        :param twist: [6], velocity of tool0, linear (m/s) and angular (rad/s), along the axes of a frame.
        :param frame: one of FRAMES.
        :raises SimError: for anything else, and for numbers that are not finite.
        """
        twist = np.asarray(twist, float)
        if frame not in FRAMES or twist.shape != (6,) or not np.isfinite(twist).all():
            raise SimError(f'expected six finite numbers in {", ".join(FRAMES)}, found {twist} in {frame!r}')
        self._twist, self._frame_of_twist, self._commanded = twist.copy(), frame, self.now

    def grip(self, travel: float) -> None:
        """Tell the gripper how far from closed each finger is to be, 0 to `arm.OPEN` m.

        :raises SimError: when that is not finite.
        """
        if not np.isfinite(travel):
            raise SimError(f'expected a finite travel of the fingers, found {travel}')
        self._servo.grip(travel)

    def intervene(self, kind: str, value: float = 0.0) -> bool:
        """Let something happen now; returns whether it does: a load is under way at most, and what is held is not nudged.

        :param kind, value: see `interventions.KINDS`.
        :raises SimError: for another kind.
        """
        Intervention(0.0, kind, value)  # checks
        belt = self._belt
        if kind in ('start', 'speed', 'reverse', 'stop'):
            wanted = {
                'start': value or belt.cruise,
                'speed': value,
                'reverse': -abs(value or 0.1),
                'stop': 0.0,
            }[kind]
            if kind == 'speed':
                belt.cruise = value
            belt.wanted = float(wanted)
            return True
        if kind == 'pass':
            return self._let_pass(max(value or 1.0, 0.3))
        free = self.bin in self._on_belt and not self._contacts.touched(self.bin)
        if free:
            joint = self._data.joint(self.bin.name)
            joint.qvel[0 if kind == 'nudge' else 5] += value
            self._events.append('nudged' if kind == 'nudge' else 'turned')
        return free

    # Time.

    @property
    def now(self) -> float:
        """Simulated time, s: that of the frame, and between frames that of the servo."""
        return START_TIME + self.ticks * self._tick

    def step(self) -> None:
        """Advance to the next camera frame, as the policy commands where there is one."""
        if self.policy is not None:
            self.policy.step()
        while not self.tick():
            pass

    def tick(self) -> bool:
        """Advance by one period of the servo, 1 / SERVO_RATE s or a little less.

        :returns: whether there is a new camera frame.
        """
        data, dt = self._data, self._model.opt.timestep
        self._servo.plan(self._world_twist(), self._tick)
        for _ in range(self._substeps):
            data.ctrl[0] = self._belt.step(dt)
            self._servo.drive(dt)
            self._mujoco.mj_step(self._model, data)
        self.ticks += 1
        self._contacts.look(data)
        self._watch_grip()
        if self.ticks % self._ticks_per_frame:
            return False
        self._frame += 1
        self._wrap_belt()
        self._replace_bins()
        for intervention in self._schedule.due(self.time - START_TIME):
            self.intervene(intervention.kind, intervention.value)
        self._move_load()
        self._after_frame()
        self._mujoco.mj_forward(self._model, data)
        self._choose_bin()
        self._note_changes()
        return True

    # The arm.

    @property
    def tool(self) -> Pose:
        """Pose of tool0 in the world."""
        return Pose(self._servo.position, self._servo.rotation)

    @property
    def base(self) -> Pose:
        """Pose of base_link in the world, which is parked."""
        site = self._data.site('base_link')
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    @property
    def home(self) -> np.ndarray:
        """Where tool0 waits, float64 [3], m."""
        return np.array([self.station.x - 0.20, -0.04, HOME_HEIGHT])

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the arm's joints and the fingers."""
        return (*JOINTS, *FINGERS)

    @property
    def joint_positions(self) -> np.ndarray:
        """float64 [8] in the order of `joint_names`, rad and m."""
        return np.concatenate([self._servo.joints, self._servo.fingers])

    @property
    def joint_velocities(self) -> np.ndarray:
        """float64 [8], rad/s and m/s."""
        fingers = [self._data.joint(name).qvel[0] for name in FINGERS]
        return np.concatenate([self._servo.joint_velocities, fingers])

    @property
    def twist(self) -> np.ndarray:
        """The twist in force, float64 [6], along the world's axes; zero when the last one is too old."""
        return self._world_twist()

    @property
    def opening(self) -> float:
        """Travel of the fingers from closed, m; `arm.OPEN` at most."""
        return float(self._servo.fingers.mean())

    def reaches(self, point: np.ndarray) -> bool:
        """Return whether the hand, pointing down, works there (world, m)."""
        return REACH[0] < np.hypot(point[0] - self.station.x, point[1] - self.station.y) < REACH[1]

    # What is true.

    def handle_pose(self, bin_: Bin | None = None) -> Pose:
        """Return the pose of a bin's handle in the world: x along the bar, z up from the bin."""
        bin_ = bin_ or self.bin
        body = self._data.body(bin_.name)
        rotation = body.xmat.reshape(3, 3)
        x = bin_.grip[-1] - bin_.grip[0]
        x = x / np.linalg.norm(x)
        axes = np.stack([x, np.cross((0, 0, 1), x), (0, 0, 1)], axis=1)
        return Pose(body.xpos + rotation @ bin_.grip[GRIP_SAMPLES // 2], rotation @ axes)

    def handle_velocity(self, bin_: Bin | None = None) -> np.ndarray:
        """Return the velocity of a bin's handle in the world, float64 [3], m/s."""
        bin_ = bin_ or self.bin
        qvel = self._data.joint(bin_.name).qvel
        rotation = self._data.body(bin_.name).xmat.reshape(3, 3)
        return qvel[:3] + rotation @ np.cross(qvel[3:], bin_.grip[GRIP_SAMPLES // 2])

    def bin_pose(self, bin_: Bin | None = None) -> Pose:
        """Return the pose of a bin: the middle of its bottom, z up."""
        body = self._data.body((bin_ or self.bin).name)
        return Pose(body.xpos.copy(), body.xmat.reshape(3, 3).copy())

    def was_taken(self, bin_: Bin) -> bool:
        """Return whether a bin has been lifted and held for HELD s, and not yet been carried off."""
        return bin_.name in self._gone

    def camera(self) -> CameraModel:
        """Return the camera as it is now."""
        camera = self._data.cam(self._camera)
        axes = camera.xmat.reshape(3, 3) * (1, -1, -1)  # MuJoCo's cameras look along -z, with y up
        return CameraModel(*self.size, self.camera_matrix(), camera.xpos.copy(), axes)

    def truth(self) -> Truth:
        """Return what is true at the current frame."""
        camera, pose = self.camera(), self.handle_pose()
        xy = camera.to_image(pose.position)
        visibility = 0.0 if xy is None else float(self._seen(self._grip_points()))
        in_camera = Pose(camera.to_camera(pose.position), camera.rotation.T @ pose.rotation)
        seen = sorted(
            (self.bin_pose(b).position[0], b.shape, b.colour) for b in self._bins if self._in_view(b)
        )
        return Truth(
            self.stamp_ns,
            pose,
            self.handle_velocity(),
            in_camera,
            xy,
            visibility,
            visibility >= VISIBLE_SHARE,
            tuple((shape, colour) for _, shape, colour in seen),
            (self.bin.shape, self.bin.colour),
            self._state(xy is not None),
            self._belt.state,
            self._contact,
            tuple(self._reported),
            self._violation(),
        )

    def depth(self) -> np.ndarray:
        """Return the distance along the camera's axis at every pixel, float32 [H, W], m.

        :raises SimError: when there is no renderer here.
        """
        renderer = self._renderer
        renderer.enable_depth_rendering()
        try:
            return self.render()
        finally:
            renderer.disable_depth_rendering()

    def snapshot(self) -> np.ndarray:
        """Return where everything is, float64 [n]: what `show` needs to draw this frame again."""
        return np.concatenate([self._data.qpos, self._data.mocap_pos.ravel()])

    def show(self, snapshot: np.ndarray) -> None:
        """Put everything where it was in a cell of the same seed, to be drawn; the physics do not go on from it.

        :param snapshot: as of `snapshot`.
        :raises SimError: it is of another cell.
        """
        data, snapshot = self._data, np.asarray(snapshot, float)
        if snapshot.shape != (data.qpos.size + data.mocap_pos.size,):
            raise SimError(
                f'expected a snapshot of {data.qpos.size + data.mocap_pos.size} numbers, found {snapshot.shape}'
            )
        data.qpos[:] = snapshot[: data.qpos.size]
        data.mocap_pos[:] = snapshot[data.qpos.size :].reshape(-1, 3)
        self._mujoco.mj_forward(self._model, data)

    # Inside.

    def _park(self, bin_: Bin) -> None:
        # afloat, so that no contacts are computed for it
        self._model.body_gravcomp[self._model.body(bin_.name).id] = 1
        self._put(bin_, (self._bins.index(bin_) - 1.5, 3.0, 0.5), 0.0, 0.0)

    def _enter(self, bin_: Bin, x: float, rng: np.random.Generator) -> None:
        self._model.body_gravcomp[self._model.body(bin_.name).id] = 0
        super()._enter(bin_, x, rng)

    def _after_frame(self) -> None:
        """For a subclass that stages something."""

    def _violation(self) -> str:
        return ''

    def _world_twist(self) -> np.ndarray:
        if self.now - self._commanded > COMMAND_TIMEOUT + 1e-9:
            return np.zeros(6)
        frame = self._frame_of_twist
        if frame == 'world':
            return self._twist
        axes = {
            'base_link': lambda: self._data.site('base_link').xmat.reshape(3, 3),
            'tool0': lambda: self._servo.rotation,
            'camera_optical_frame': lambda: self.camera().rotation,
        }[frame]()
        return np.concatenate([axes @ self._twist[:3], axes @ self._twist[3:]])

    def _watch_grip(self) -> None:
        for bin_ in self._bins:
            name = bin_.name
            lifted = self._data.body(name).xpos[2] > BELT_TOP + LIFTED and not self._contacts.rests(bin_)
            held = lifted and self._contacts.gripped(bin_)
            self._held[name] = self._held[name] + self._tick if held else 0.0
            if self._held[name] >= HELD and name not in self._gone:
                self._gone[name] = 0.0
                self.taken += 1
                self._events.append('taken')
            if name in self._gone:
                self._gone[name] = 0.0 if self._contacts.touched(bin_) else self._gone[name] + self._tick

    def _replace_bins(self) -> None:
        self._on_belt = [bin_ for bin_ in self._on_belt if bin_.name not in self._gone]
        for bin_ in list(self._on_belt):
            x, _, z = self._data.body(bin_.name).xpos
            outside = not self._ends[0] - 0.05 < x < self._ends[1] + 0.05
            if (outside or z < BELT_TOP - 0.1) and not self._contacts.touched(bin_):
                self._park(bin_)
                self._on_belt.remove(bin_)
                self._events.append('left')
        for bin_ in self._bins:
            if self._gone.get(bin_.name, 0.0) > CLEARED:
                del self._gone[bin_.name]
                self._park(bin_)
        self._admit()

    def _admit(self) -> None:
        """Let the next bin in, where there is room for it."""
        last = self._on_belt[-1] if self._on_belt else None
        room = last is None or self._data.body(last.name).xpos[0] - self._ends[0] > self._gap
        if len(self._on_belt) >= self._most or not room:
            return
        first = 0 if last is None and self.ticks == 0 else self._bins.index(last or self.bin) + 1
        for i in range(len(self._bins)):
            bin_ = self._bins[(first + i) % len(self._bins)]
            if bin_ not in self._on_belt and bin_.name not in self._gone:
                self._enter(bin_, self._ends[0], self._rng)
                self._on_belt.append(bin_)
                self._gap = self._gaps.uniform(0.5, 0.9)
                self._events.append('entered')
                return

    def _choose_bin(self) -> None:
        """Choose the oldest bin on the belt, or the one just taken while it alone is in the picture."""
        first = self._on_belt[0] if self._on_belt else self.bin
        if first is not self.bin and self.bin.name in self._gone:
            camera = self.camera()
            if camera.to_image(self.handle_pose(first).position) is None:
                if camera.to_image(self.handle_pose().position) is not None:
                    return
        self.bin = first

    def _note_changes(self) -> None:
        touched = any(self._contacts.touched(bin_) for bin_ in self._bins)
        self._contact = 'none' if not touched else 'onset' if self._contact == 'none' else 'contact'
        if self._contact == 'onset':
            self._events.append('contact')
        names = {'running': 'started', 'stopped': 'stopped', 'reversed': 'reversed'}
        if self._belt.state != self._belt_state:
            self._belt_state = self._belt.state
            self._events.append(names[self._belt_state])
        for bin_ in self._on_belt:
            tipped = self._tipped(bin_)
            if tipped and bin_.name not in self._down:
                self._events.append('tipped')
            (self._down.add if tipped else self._down.discard)(bin_.name)
        self._reported, self._events = self._events, []

    def _tipped(self, bin_: Bin) -> bool:
        return self._data.body(bin_.name).xmat[8] < TIPPED

    def _state(self, in_picture: bool) -> str:
        bin_ = self.bin
        if bin_.name in self._gone:
            return 'taken'
        if self._held[bin_.name] > 0:
            return 'held'
        if self._tipped(bin_):
            return 'tipped'
        if self._contacts.touched(bin_):
            return 'touched'
        return 'riding' if in_picture else 'absent'

    def _in_view(self, bin_: Bin) -> bool:
        """Return whether any of some points of a bin can be seen."""
        if bin_ not in self._on_belt and bin_.name not in self._gone:
            return False
        pose, camera = self.bin_pose(bin_), self.camera()
        r, h = bin_.radius * 0.65, bin_.grip[0, 2]
        points = [*bin_.grip, *(np.array([x, y, h / 3]) for x in (-r, 0, r) for y in (-r, 0, r))]
        hit = np.zeros(1, np.int32)
        for point in points:
            place = pose.position + pose.rotation @ point
            if camera.to_image(place) is not None:
                eye = camera.position
                self._mujoco.mj_ray(self._model, self._data, eye, place - eye, None, True, -1, hit)
                if self._contacts.owner(int(hit[0])) is bin_:
                    return True
        return False

    def _move_prop(self, name: str, position) -> None:
        self._data.mocap_pos[self._model.body(name).mocapid[0]] = position

    def _let_pass(self, seconds: float) -> bool:
        """Send a load off that covers the handle in some seconds, where no other is under way; returns whether it is."""
        if self._load is not None:
            return False
        camera = self._model.camera('camera').id
        eye = self._data.cam(camera).xpos
        handle = self.handle_pose().position + self.handle_velocity() * seconds
        sight = np.array([np.clip(handle[0], -0.5, 0.5), *handle[1:]]) - eye
        sight *= (LOAD_LINE - eye[1]) / sight[1]  # as far as the rail
        height, width = self.size
        view = np.tan(np.radians(self._model.cam_fovy[camera]) / 2) * width / height
        side = self._passes.choice([-1, 1])
        aside = side * (1.3 * view * np.linalg.norm(sight) + LOAD_HALF)
        self._load = _Load(self.time, eye[0] + aside, 2 * abs(aside), (sight[0] - aside) / seconds, eye[2] + sight[2])
        return True

    def _move_load(self) -> None:
        load = self._load
        if load is None:
            return
        moved = load.speed * (self.time - load.when)
        if abs(moved) > load.way:
            self._load = None
            self._move_prop('load', AWAY)
        else:
            self._move_prop('load', (load.start + moved, LOAD_LINE, load.height))


@dataclass(frozen=True)
class _Load:
    """A hanging load that passes: when and at which x (m) it set off, how far (m) and fast (m/s) it goes, its z (m)."""

    when: float
    start: float
    way: float
    speed: float
    height: float


def _overview() -> str:
    """A camera that sees belt, manipulator and rack, past pillar and column."""
    eye, target = np.array([0.30, -2.75, 2.05]), np.array([0.42, -0.20, 0.70])
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross((0, 0, 1), back)
    right /= np.linalg.norm(right)
    return element('camera', name='overview', pos=eye, xyaxes=(*right, *np.cross(back, right)), fovy=40)


class _Contacts:
    """Which bins the manipulator touches, from the contacts of the last physics step."""

    def __init__(self, model, bins: list[Bin]):
        self._bins = bins
        names = [bin_.name for bin_ in bins]
        roots = [model.body(model.body_rootid[body]).name for body in model.geom_bodyid]
        bodies = [model.body(body).name for body in model.geom_bodyid]
        self._bin_of = np.array([names.index(name) if name in names else -1 for name in bodies])
        part = {FINGERS[0]: 2, FINGERS[1]: 3}
        self._part_of = np.array([part.get(b, 1) if r == 'base_link' else 0 for b, r in zip(bodies, roots)])
        self._touching: set[tuple[int, int]] = set()

    def look(self, data) -> None:
        """Take the contacts of the last step."""
        first, second = data.contact.geom.T
        both = np.concatenate([np.stack([first, second]), np.stack([second, first])], axis=1)
        bins, others = self._bin_of[both[0]], both[1]
        of_bins = (bins >= 0) & (self._bin_of[others] != bins)
        self._touching = set(zip(bins[of_bins].tolist(), self._part_of[others[of_bins]].tolist()))

    def owner(self, geom: int) -> Bin | None:
        """Return the bin that a geom belongs to."""
        index = self._bin_of[geom] if geom >= 0 else -1
        return self._bins[index] if index >= 0 else None

    def touched(self, bin_: Bin) -> bool:
        """Whether any part of the manipulator touches a bin."""
        return any((self._bins.index(bin_), part) in self._touching for part in (1, 2, 3))

    def gripped(self, bin_: Bin) -> bool:
        """Whether both fingers touch a bin."""
        return all((self._bins.index(bin_), part) in self._touching for part in (2, 3))

    def rests(self, bin_: Bin) -> bool:
        """Whether a bin touches anything else than the manipulator."""
        return (self._bins.index(bin_), 0) in self._touching

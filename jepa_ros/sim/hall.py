# SPDX-License-Identifier: Apache-2.0
"""What every scene of the conveyor hall has: physics, a camera, and the handle's place in its picture."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import numpy as np

from jepa_ros.errors import JepaError
from jepa_ros.sim.world import BELT_PERIOD, BELT_TOP, GRIP_SAMPLES, Bin, World

MAX_TIMESTEP = 0.002  # s
START_TIME = 1.0  # s: a zero stamp means "no stamp" in ROS
VISIBLE_SHARE = 0.4  # of the grip bar


class SimError(JepaError):
    """The simulator cannot run here, or cannot do what was asked."""


def import_mujoco():
    """Import MuJoCo with an offscreen renderer.

    :raises SimError: naming what to install.
    """
    if sys.platform == 'linux':
        os.environ.setdefault('MUJOCO_GL', 'egl')
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise SimError(f"the simulator needs MuJoCo: pip install 'jepa_ros[sim]' ({error})") from error
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # its GL loader raises any of these
        raise _no_renderer(error) from error
    return mujoco


def _no_renderer(error: BaseException) -> SimError:
    backend = os.environ.get('MUJOCO_GL', '')
    return SimError(
        f'MuJoCo found no OpenGL for MUJOCO_GL={backend}: expected the Debian packages libegl1 and '
        f'libgl1-mesa-dri (or libosmesa6, with MUJOCO_GL=osmesa), found: {error}'
    )


@dataclass(frozen=True)
class Handle:
    """Where the handle of the bin in view is in the picture.

    :param xy: float64 [2], 0..1 of the image from its upper left corner.
    :param visible: False while something is in front of most of the grip bar.
    """

    xy: np.ndarray
    visible: bool


class Hall:
    """The physics and the camera of one world.

    The renderer is made when the first picture is asked for, in the thread that asks, and is that thread's:
    physics alone needs no OpenGL. Use it in a `with` statement, or call `close`.

    :param seed: that the world was built from.
    :param size: height and width of the picture, px.
    :param fps: camera frames per second.
    :param world: see `world.build`.
    :raises SimError: when MuJoCo is missing.

    Attribute `bin`: the bin whose handle is asked for.
    """

    bin: Bin

    def __init__(self, seed: int, size: tuple[int, int], fps: float, world: World):
        mujoco = self._mujoco = import_mujoco()
        self.seed, self.size, self.fps = seed, tuple(size), fps
        self._model = mujoco.MjModel.from_xml_string(world.xml, world.assets)
        self._data = mujoco.MjData(self._model)
        self._opened = None
        self._bins = world.bins
        self._camera = self._model.camera('camera').id
        self._frame = 0
        for bin_ in self._bins:
            self._park(bin_)
        self.bin = self._bins[0]
        mujoco.mj_forward(self._model, self._data)
        self._ends = self._edge(-1), self._edge(+1)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Free the renderer."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def time(self) -> float:
        """Time of the current frame, s, above zero."""
        return START_TIME + self._frame / self.fps

    @property
    def stamp_ns(self) -> int:
        """Stamp of the current frame."""
        return round(self.time * 1e9)

    @property
    def belt_speed(self) -> float:
        """m/s, positive downstream, which is to the right in the picture."""
        return float(self._data.joint('belt').qvel[0])

    def render(self) -> np.ndarray:
        """Return the camera picture of the current frame, RGB uint8 [H, W, 3].

        :raises SimError: when there is no renderer here.
        """
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def handle(self) -> Handle | None:
        """Return where the handle is, or None while it is outside the picture."""
        points = self._grip_points()
        xy = self._project(points[GRIP_SAMPLES // 2])
        if not np.all((xy >= 0) & (xy < 1)):
            return None
        return Handle(xy, self._seen(points) >= VISIBLE_SHARE)

    def camera_matrix(self) -> np.ndarray:
        """Return the pinhole matrix K, float64 [3, 3], px."""
        height, width = self.size
        focal = height / 2 / np.tan(np.radians(self._model.cam_fovy[self._camera]) / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])

    def window(self):
        """Open MuJoCo's window on this world; `sync()` brings it up to date, `close()` closes it.

        :raises SimError: where there is no screen.
        """
        screens = 'DISPLAY', 'WAYLAND_DISPLAY'
        if sys.platform == 'linux' and not any(os.environ.get(name) for name in screens):
            raise SimError(
                f'the window needs a screen: expected {" or ".join(screens)} to be set, found neither'
            )
        from mujoco import viewer

        return viewer.launch_passive(self._model, self._data, show_left_ui=False, show_right_ui=False)

    @property
    def _renderer(self):
        if self._opened is None:
            try:
                self._opened = self._mujoco.Renderer(self._model, *self.size)
            except Exception as error:  # depending on the backend: RuntimeError, AttributeError, a GL error
                raise _no_renderer(error) from error
        return self._opened

    def _grip_points(self) -> np.ndarray:
        body = self._data.body(self.bin.name)
        return body.xpos + self.bin.grip @ body.xmat.reshape(3, 3).T

    def _project(self, point: np.ndarray) -> np.ndarray:
        """Return the place of a world point in the picture, 0..1."""
        camera = self._data.cam(self._camera)
        x, y, z = camera.xmat.reshape(3, 3).T @ (point - camera.xpos)
        u, v, w = self.camera_matrix() @ (x, -y, -z)  # MuJoCo's cameras look along -z, with y up
        return np.array([u, v]) / w / self.size[::-1]

    def _seen(self, points: np.ndarray) -> float:
        """Return the share of points whose line of sight meets the grip bar first."""
        grip = self._model.geom(f'{self.bin.name}_grip').id
        eye = self._data.cam(self._camera).xpos
        hit = np.zeros(1, np.int32)
        seen = 0
        for point in points:
            self._mujoco.mj_ray(self._model, self._data, eye, point - eye, None, True, -1, hit)
            seen += hit[0] == grip
        return seen / len(points)

    def _edge(self, direction: int) -> float:
        """Return the x at which a bin is just out of the picture, upstream (-1) or downstream (+1)."""
        radius = max(bin_.radius for bin_ in self._bins)
        x = 0.0
        while (
            abs(x) < 1.5
            and 0 <= self._project(np.array([x - direction * radius, 0.1, BELT_TOP + 0.1]))[0] <= 1
        ):
            x += direction * 0.01
        return x

    def _wrap_belt(self) -> None:
        """Set the belt back by whole periods of its picture, so that it never comes to an end."""
        belt = self._data.joint('belt')
        belt.qpos[0] = (belt.qpos[0] + BELT_PERIOD / 2) % BELT_PERIOD - BELT_PERIOD / 2

    def _enter(self, bin_: Bin, x: float, rng: np.random.Generator) -> None:
        """Put a bin on the belt, in random orientation, moving with it."""
        yaw = rng.uniform(-0.6, 0.6) + np.pi * rng.integers(2)
        y = rng.uniform(-0.05, 0.05)
        self._put(bin_, (x, y, BELT_TOP + 0.001), yaw, self.belt_speed)

    def _park(self, bin_: Bin) -> None:
        """Put a bin aside, behind the wall."""
        self._put(bin_, (self._bins.index(bin_) - 1.5, 3.0, 0.01), 0.0, 0.0)

    def _put(self, bin_: Bin, position: tuple[float, float, float], yaw: float, speed: float) -> None:
        joint = self._data.joint(bin_.name)
        joint.qpos[:] = (*position, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        joint.qvel[:] = (speed, 0, 0, 0, 0, 0)

# SPDX-License-Identifier: Apache-2.0
"""perception_node: a camera topic becomes latents and predicted latents, on time."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import deque

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from jepa_ros.clip import ClipWindow, Frames, Verdict
from jepa_ros.engine.bundle import Bundle
from jepa_ros.engine.session import EncoderSession, open_session
from jepa_ros.images import ImageError, decode_compressed, decode_raw
from jepa_ros.latents import Futures, Latents, pool
from jepa_ros.nodes import lifecycle
from jepa_ros.nodes.camera import Camera
from jepa_ros.nodes.diagnostics import Durations, Health, Rate
from jepa_ros.nodes.messages import (
    ImageReader,
    find_cv_bridge,
    futures_message,
    image_message,
    latents_message,
    to_ns,
)
from jepa_ros.nodes.parameters import ParameterSpec
from jepa_ros.nodes.view import View

PARAMETERS = (
    ParameterSpec('image_topic', 'camera/image_raw', 'Topic of the camera.', live=False),
    ParameterSpec('image_transport', 'auto', 'Type of the topic: sensor_msgs/Image (raw) or CompressedImage '
                  '(compressed); auto asks the ROS graph.',
                  choices=('auto', 'raw', 'compressed'), live=False),
    ParameterSpec('bundle', 'promoted', 'Engine bundle: a directory, the name of one that ships, or promoted: '
                  'the winner of an audit, conveyor_vjepa until there is one.',
                  live=False),
    ParameterSpec('backend', 'auto', 'What runs the graphs; auto picks the best that is installed.',
                  live=False),
    ParameterSpec('threads', 0, 'CPU threads of the backend; 0: all cores.', '', 0, 256, live=False),
    ParameterSpec('horizons', [], 'Times after the newest frame to predict for; empty: those of the bundle.',
                  's', 0.0, 60.0),
    ParameterSpec('publish', 'dense',
                  'Tokens published: all (dense), means of blocks (grid) or one mean (pooled).',
                  choices=('pooled', 'grid', 'dense')),
    ParameterSpec('surprise', True, 'Compare every slice with its forecast; costs one run of the forecaster.',
                  live=False),
    ParameterSpec('max_future', 0.5, 'How far a stamp may lie in the future.', 's', 0.0, 3600.0, live=False),
    ParameterSpec('view_rate', 5.0, 'Pictures per second on ~/view while someone listens.', 'Hz', 0.1, 60.0),
)

STALE = 5.0  # s; images older than this on arrival have the stamps of another clock

#: Reliable matches readers of both kinds; only the newest is kept for a reader that is slow.
OUTPUT_QOS = QoSProfile(depth=1)
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class PerceptionNode(lifecycle.ManagedNode):
    """
    Subscribes to a camera and publishes ~/latents, ~/futures, ~/model, ~/view and /diagnostics.

    Two threads: the executor's offers each frame to the window and decodes those that are wanted; one worker
    takes the newest complete set, encodes it, and publishes. Nothing waits in a queue between them.
    """

    def __init__(self, **kwargs):
        self._session: EncoderSession | None = None
        self._camera: Camera | None = None
        self._window: ClipWindow | None = None
        self._worker: threading.Thread | None = None
        self._outputs: list = []
        super().__init__('perception', PARAMETERS, **kwargs)

    # Transitions

    def configure(self) -> None:
        bundle = Bundle.load(self.parameters['bundle'])
        self._session = open_session(bundle, surprise=self.parameters['surprise'],
                                     backend=self.parameters['backend'], threads=self.parameters['threads'])
        self._manifest = bundle.manifest
        self.check_parameters({'horizons': self.parameters['horizons']})
        self._latents_out = self._make_output(PointCloud2, '~/latents')
        self._futures_out = None
        if bundle.manifest.forecaster:
            self._futures_out = self._make_output(PointCloud2, '~/futures')
        self._view_out = self._make_output(Image, '~/view')
        self._make_output(String, '~/model', LATCHED_QOS).publish(
            String(data=json.dumps({**bundle.manifest.to_dict(), 'model': bundle.model_id})))
        self.get_logger().info(
            f"bundle '{bundle.manifest.name}' ({bundle.manifest.mode}) on {self._session.description}")

    def activate(self) -> None:
        self._read = ImageReader(find_cv_bridge())
        self._meters = _Meters()
        self._view = View(self._manifest.grid)
        self._view_due = 0.0
        self._frame_id = ''
        self._recent: deque[Image | CompressedImage] = deque(maxlen=4)
        self._image_fault: ImageError | None = None
        self._step_fault: str | None = None
        self._view_fault: str | None = None
        self._before: dict[str, int] = {}
        self._ahead = self._behind = 0.0
        self._window = ClipWindow(self._session.request, max_future=self.parameters['max_future'])
        self._worker = threading.Thread(target=self._work, name='encoder', daemon=True)
        self._worker.start()
        self._camera = Camera(self, self.parameters['image_topic'], self.parameters['image_transport'],
                              self._on_image)

    def deactivate(self) -> None:
        if self._camera is not None:
            self._camera.close()
        if self._window is not None:
            self._window.close()
        if self._worker is not None:
            self._worker.join()
        self._camera = self._window = self._worker = None
        if self._session is not None:
            self._session.reset()

    def cleanup(self) -> None:
        while self._outputs:
            self.destroy_publisher(self._outputs.pop())
        self._session = None

    def check_parameters(self, new: dict) -> None:
        if new.get('horizons') and self._session is not None:
            self._session.check_horizons(np.array(new['horizons'], np.float32))

    def _make_output(self, kind, topic: str, qos: QoSProfile = OUTPUT_QOS):
        publisher = self.create_publisher(kind, topic, qos)
        self._outputs.append(publisher)
        return publisher

    # The executor's thread

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp, now = to_ns(message.header.stamp), self.now_ns()
        self._ahead, self._behind = max(self._ahead, (stamp - now) / 1e9), (now - stamp) / 1e9
        if self._window.offer(stamp, now) is not Verdict.TAKE:
            return
        began = time.perf_counter()
        try:
            image, geometry = self._read(message, self._manifest.image_size)
        except ImageError as error:
            self._image_fault = error
            return
        self._meters.decode.add(time.perf_counter() - began)
        self._frame_id = message.header.frame_id
        self._recent.append(message)
        self._window.push(stamp, image, geometry)

    # The worker's thread

    def _work(self) -> None:
        window = self._window
        while (frames := window.take()) is not None:
            if frames.reset:
                self.get_logger().warning(f'history cleared: {frames.reset}')
            try:
                self._step(frames)
            except Exception as error:  # whatever the backend raises must not end the stream
                self._step_fault = f'{type(error).__name__}: {error}'
                with contextlib.suppress(Exception):  # of a GPU that is lost this fails too, and so will every step
                    self._session.reset()

    def _step(self, frames: Frames) -> None:
        # found now: by the time it is drawn, newer ones may have pushed it out
        message = self._message_of(frames) if self._view_out.get_subscription_count() else None
        began = time.perf_counter()
        latents = self._session.step(frames)
        encoded = time.perf_counter()
        self._meters.encode.add(encoded - began)
        self._meters.steps.tick()
        if np.isfinite(latents.surprise).any():
            self._meters.surprise = float(np.nanmean(latents.surprise))
        publishing = 0.0
        if self._latents_out.get_subscription_count():
            self._send_cloud(latents)
            publishing += time.perf_counter() - encoded
        futures = None
        if self._futures_out is not None and self._futures_out.get_subscription_count():
            began = time.perf_counter()
            futures = self._forecast()
            predicted = time.perf_counter()
            self._meters.forecast.add(predicted - began)
            if futures is not None:
                self._send_cloud(futures)
                publishing += time.perf_counter() - predicted
        if publishing:
            self._meters.publish.add(publishing)
        if message is not None and time.monotonic() >= self._view_due:
            self._view_due = time.monotonic() + 1 / self.parameters['view_rate']
            try:
                self._send_view(message, frames, latents, futures)
            except Exception as error:  # a picture for people must not cost the stream
                self._view_fault = f'{type(error).__name__}: {error}'

    def _message_of(self, frames: Frames) -> Image | CompressedImage | None:
        newest = int(frames.stamps_ns[-1])
        return next((m for m in tuple(self._recent) if to_ns(m.header.stamp) == newest), None)

    def _forecast(self) -> Futures | None:
        horizons = self.parameters['horizons']
        return self._session.forecast(np.array(horizons, np.float32) if horizons else None)

    def _send_cloud(self, values: Latents | Futures) -> None:
        pooled = pool(values, self.parameters['publish'], self._manifest.grid)
        if isinstance(values, Latents):
            publisher, age, rate = self._latents_out, self._meters.latents_age, self._meters.latents
            message = latents_message(pooled, self._frame_id)
        else:
            publisher, age, rate = self._futures_out, self._meters.futures_age, self._meters.futures
            message = futures_message(pooled, self._frame_id)
        age.add((self.now_ns() - values.stamp_ns) / 1e9)
        rate.tick()
        publisher.publish(message)

    def _send_view(self, message, frames: Frames, latents: Latents, futures: Futures | None) -> None:
        began = time.perf_counter()
        if futures is None and self._futures_out is not None:
            futures = self._forecast()
        if futures is not None and (futures.tokens.shape[-1] != latents.tokens.shape[-1]
                                    or self._manifest.future_space != 'latents'):
            futures = None  # of another space: no colours in common
        if isinstance(message, CompressedImage):
            image = decode_compressed(message.data, message.format)
        else:
            image = decode_raw(message.encoding, message.height, message.width, message.step,
                               bool(message.is_bigendian), message.data)
        picture = self._view.draw(image, frames.geometry, latents, futures)
        self._view_out.publish(image_message(picture, latents.stamp_ns, self._frame_id))
        self._meters.view.add(time.perf_counter() - began)

    # Diagnostics

    def health(self) -> Health:
        health = Health()
        if self._session is None:
            return health
        health.values = {'bundle': self._manifest.name, 'backend': self._session.description}
        if self._camera is None:
            return health
        self._camera.check(health)
        counts, resets = self._window.counts, self._window.resets
        health.values.update(self._meters.values())
        health.values.update({f'frames_{name}': n for name, n in counts.items()})
        health.values.update({f'resets_{name}': n for name, n in resets.items()})
        now = {**counts, 'jump': resets['jump'], 'gap': resets['gap']}
        news = {name: n - self._before.get(name, 0) for name, n in now.items()}
        self._before = now
        self._explain(health, news)
        self._ahead = self._behind = 0.0
        self._image_fault = self._step_fault = self._view_fault = None
        return health

    def _explain(self, health: Health, news: dict[str, int]) -> None:
        """Turn what has happened since the last report into sentences that say what to do."""
        simulated = self.get_clock().ros_time_is_active
        if simulated and self.now_ns() == 0:
            health.warn('use_sim_time is true but nothing publishes /clock: start the player or set '
                        'use_sim_time to false')
        elif news['future']:
            health.warn(f"{news['future']} images were dropped because their stamps lie up to "
                        f'{self._ahead:.3g} s in the future (max_future is '
                        f"{self.parameters['max_future']:g} s): "
                        + ('publish /clock before the images' if simulated else
                           'synchronise the clocks, or set use_sim_time to true for a recording with its own '
                           'stamps'))
        elif self._behind > STALE:
            health.warn(f'the stamps of the images are {self._behind:.3g} s old: synchronise the clocks, or '
                        'set use_sim_time to true and publish /clock for a recording with its own stamps')
        if news['zero']:
            health.warn(f"{news['zero']} images were dropped because their header has no stamp: make the "
                        "camera's driver set it")
        if news['jump']:
            health.warn('the clock of the images jumped back: the history was cleared')
        if news['gap']:
            health.warn(f"no images, or none that could be used, for longer than the encoder remembers: the history was "
                        f"cleared {news['gap']} times")
        if self._image_fault is not None:
            health.warn(f'images cannot be decoded: {self._image_fault}')
        if self._step_fault is not None:
            health.error(f'the encoder failed: {self._step_fault}')
        if self._view_fault is not None:
            health.warn(f'the view cannot be drawn: {self._view_fault}')
        period, wanted = self._camera.loss.period(), self._manifest.frame_period
        if period is not None and period > 1.25 * wanted:
            health.warn(f'the camera sends an image every {period:.3g} s but the bundle asks for one every '
                        f'{wanted:.3g} s: raise its frame rate or use a bundle with a longer frame period')
        if news['overrun']:
            median = self._meters.encode.percentile(50)
            slow = ('the first step of the encoder has not ended' if math.isnan(median) else
                    f'a step of the encoder takes {1e3 * median:.0f} ms')
            health.warn(f"{news['overrun']} images were skipped because {slow} and there are "
                        f'{1e3 * self._manifest.slice_period:.0f} ms for it: use a smaller bundle, another '
                        'backend, more threads, or publish less')


class _Meters:
    """All that is measured while the node is active."""

    def __init__(self):
        self.steps, self.latents, self.futures = Rate(), Rate(), Rate()
        self.decode, self.encode, self.forecast, self.publish, self.view = (Durations() for _ in range(5))
        self.latents_age, self.futures_age = Durations(), Durations()
        self.surprise = math.nan

    def values(self) -> dict[str, float]:
        """:return: the figures by name."""
        values = {'steps_hz': self.steps.hz(), 'latents_out_hz': self.latents.hz(),
                  'futures_out_hz': self.futures.hz(), 'surprise': self.surprise}
        for name in ('latents_age', 'futures_age', 'decode', 'encode', 'forecast', 'publish', 'view'):
            values.update(getattr(self, name).values(name))
        return values


def main(args: list[str] | None = None) -> int:
    """Run the node. :return: exit code."""
    return lifecycle.run(PerceptionNode, args)


if __name__ == '__main__':
    raise SystemExit(main())

# SPDX-License-Identifier: Apache-2.0
"""A recording through window and session, without ROS and as fast as it goes: what the node would compute."""

from collections.abc import Iterator
from dataclasses import dataclass

from jepa_ros.clip import ClipWindow, Verdict
from jepa_ros.images import ImageError, fit
from jepa_ros.latents import Futures, Latents


@dataclass(frozen=True)
class Step:
    """
    One step of the session.

    :param latents: of the newest slice
    :param futures: forecast from it; None until there is enough context
    :param reset: whether the history was cleared before this step
    """

    latents: Latents
    futures: Futures | None
    reset: bool


def run_recording(session, recording, horizons=None) -> Iterator[Step]:
    """
    Run a recording; every frame that the window asks for is used, whatever the encoder's speed.

    Frames that do not decode are passed over, as the node does.

    :param session: an `EncoderSession`, reset first.
    :param recording: a `Recording`.
    :param horizons: as for `EncoderSession.forecast`.
    """
    session.reset()
    window = ClipWindow(session.request)
    for frame in recording.frames():
        if window.offer(frame.stamp_ns) is not Verdict.TAKE:
            continue
        try:
            image, geometry = fit(frame.image(), session.manifest.image_size)
        except ImageError:
            continue
        window.push(frame.stamp_ns, image, geometry)
        if window.ready():
            frames = window.take(0)
            yield Step(session.step(frames), session.forecast(horizons), frames.reset is not None)

# SPDX-License-Identifier: Apache-2.0
"""Tells as JSON what a bundle takes in this process: BUNDLE BACKEND THREADS STEPS; Linux only."""

import json
import re
import sys
from pathlib import Path

import numpy as np


def peak_mb() -> float:
    """Return the most memory this process has had at once (MB); ru_maxrss would count its parent's."""
    return int(re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text()).group(1)) / 1e3


def main(bundle: str, backend: str, threads: str, steps: str) -> None:
    """Open a bundle, let it see noise, and print what that took."""
    from jepa_ros.clip import Frames
    from jepa_ros.engine.session import open_session
    from jepa_ros.images import Geometry

    before = peak_mb()
    session = open_session(bundle, backend=backend, threads=int(threads), surprise=False)
    height, width = session.manifest.image_size
    count, period = session.request.frames, session.manifest.frame_period
    rng = np.random.default_rng(0)
    for step in range(int(steps)):
        first = 1 + step * session.request.new_frames
        stamps = ((first + np.arange(count)) * period * 1e9).astype(np.int64)
        images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        session.step(Frames(images, stamps, Geometry(width, height, 0, 0, width, height)))
        if session.manifest.forecaster:
            session.forecast()
    print(json.dumps({'mb': peak_mb() - before}))


if __name__ == '__main__':
    main(*sys.argv[1:])

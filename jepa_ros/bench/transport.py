# SPDX-License-Identifier: Apache-2.0
"""The share of a raw camera's frames that arrive whole in another process, with and without the profile."""

import os
import time

from jepa_ros.bench.graph import BenchError, module, report, without_profile
from jepa_ros.demo.processes import ProcessGroup

PATIENCE = 30.0  # s beyond the time that the frames take


def whole_share(logs, size: str, seconds: float, profile: bool, rate: float = 30.0) -> dict:
    """
    Measure one size, best effort, subscribed to as perception does.

    :param logs: directory for log files.
    :param size: 'WIDTHxHEIGHT'.
    :param profile: whether both processes have the Fast DDS profile, or none.
    """
    env = dict(os.environ) if profile else without_profile()
    frames = round(rate * seconds)
    with ProcessGroup(logs) as group:
        peer = group.start('peer', module('bench.peer'), env)
        camera = group.start('camera', module('bench.camera', '--size', size, '--rate', str(rate), '--frames',
                                              str(frames)), env)
        if camera.wait(seconds + PATIENCE) is None:
            raise BenchError(f'expected {frames} frames within {seconds + PATIENCE:g} s; {camera.obituary()}')
        sent = report(group, camera)['sent']
        time.sleep(0.5)  # what is on its way; nobody knows which frames will never come
        whole = report(group, peer)['whole']
    return {'size': size, 'profile': profile, 'sent': sent, 'whole': whole, 'share': whole / sent}

# SPDX-License-Identifier: Apache-2.0
"""
The real perception_node, with the processor time of its engine kept apart from the rest.

With one engine thread the engine computes on the thread that calls it, whose time the system counts on its
own. Prints one line of JSON at its end, that of Meter.
"""

import sys

from jepa_ros.bench.meter import Meter
from jepa_ros.clip import ClipWindow
from jepa_ros.engine.session import EncoderSession
from jepa_ros.nodes import perception_node


def main() -> int:
    """Run the node until interrupted."""
    meter, offer = Meter(), ClipWindow.offer

    def counted(*args, **kwargs):
        meter.tick()
        return offer(*args, **kwargs)

    ClipWindow.offer = counted
    EncoderSession.step = meter.apart(EncoderSession.step)
    EncoderSession.forecast = meter.apart(EncoderSession.forecast)
    code = perception_node.main()
    print(meter.line(), flush=True)
    return code


if __name__ == '__main__':
    sys.exit(main())

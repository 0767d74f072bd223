# SPDX-License-Identifier: Apache-2.0
"""Receives with what perception_node receives with, for tests: prints `got INDEX` for each image, `loss SHARE` at the end."""

import sys

from jepa_ros.nodes.camera import Camera
from jepa_ros.nodes.lifecycle import ManagedNode, run


class Reader(ManagedNode):
    def __init__(self):
        super().__init__('reader')

    def activate(self):
        self.camera = Camera(self, 'camera/image_raw', 'auto', lambda m: print('got', m.header.frame_id, len(m.data)))

    def deactivate(self):
        if self.state == 'active':
            print('loss', self.camera.loss.share())


sys.exit(run(Reader))

# SPDX-License-Identifier: Apache-2.0
"""perception_node's subscription alone: prints `got INDEX BYTES` per image, `loss SHARE` at the end."""

import sys

from jepa_ros.nodes.camera import Camera
from jepa_ros.nodes.lifecycle import ManagedNode, run


class Reader(ManagedNode):
    def __init__(self):
        super().__init__('reader')

    def activate(self):
        self.camera = Camera(self, 'camera/image_raw', 'auto', self.got)

    def got(self, message):
        print('got', message.header.frame_id, len(message.data))

    def deactivate(self):
        if self.state == 'active':
            print('loss', self.camera.loss.share())


sys.exit(run(Reader))

# SPDX-License-Identifier: Apache-2.0
"""A small managed node: `managed.py BEHAVIOUR` says what it does, and has a last word when deactivated."""

import sys
import threading

from std_msgs.msg import String

from jepa_ros.engine.backends import plans
from jepa_ros.errors import JepaError
from jepa_ros.nodes.lifecycle import ManagedNode, run
from jepa_ros.nodes.parameters import ParameterSpec

BEHAVIOUR = sys.argv.pop(1)


class Managed(ManagedNode):
    must_start = BEHAVIOUR == 'must start'

    def __init__(self):
        super().__init__('managed', [ParameterSpec('speed', 1.0, 'How fast.', 'm/s', 0.0, 2.0)])
        self.words = self.create_publisher(String, '~/words', 10)

    def configure(self):
        if BEHAVIOUR in ('refuse', 'must start'):
            raise JepaError('expected a belt, found none')
        if BEHAVIOUR == 'build':
            print('building')
            plans.ending.wait()
        print('configured', self.parameters['speed'])

    def activate(self):
        print('activated')
        if BEHAVIOUR == 'talk':
            self.create_timer(0.01, lambda: self.words.get_subscription_count() and print('matched'))
        if BEHAVIOUR == 'finish':
            threading.Timer(0.1, self.finish, [3]).start()
        if BEHAVIOUR == 'crash':
            self.create_timer(0.05, lambda: 1 / 0)

    def deactivate(self):
        if self.state == 'active':
            self.words.publish(String(data='zeros'))
        print('deactivated from', self.state)

    def cleanup(self):
        print('cleaned up')


sys.exit(run(Managed))

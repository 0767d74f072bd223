# SPDX-License-Identifier: Apache-2.0
"""A tiny bundle and small recordings of something that moves."""

import pytest
from bundles import make_bundle
from recorded import camera, write_bag

from jepa_ros.evaluation.replay import Options, Subject


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """The directory of a bundle: stream mode, 32x48."""
    return make_bundle(tmp_path_factory.mktemp('bundle') / 'tiny', mode='stream', size=(32, 48))


@pytest.fixture(scope='session')
def subject(tiny):
    return Subject(tiny, Options(threads=1))


@pytest.fixture(scope='session')
def bag(tmp_path_factory):
    """A bag of one camera: forty JPEG at 30 Hz."""
    return write_bag(tmp_path_factory.mktemp('bag') / 'run', {'/camera/image_raw': camera(40)})

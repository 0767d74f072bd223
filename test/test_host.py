# SPDX-License-Identifier: Apache-2.0
"""What a figure says of its machine."""

from jepa_ros import host


def test_the_host_is_named():
    found = host.describe()
    assert found['cores'] >= 1 and found['date'].endswith('UTC')
    assert found['processor'] in host.sentence(found)

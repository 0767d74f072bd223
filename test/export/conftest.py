# SPDX-License-Identifier: Apache-2.0
"""A small run's checkpoint, and a recording for it."""

import pytest

VALUES = {
    'name': 'small',
    'data': {'slices': 6, 'labels': {'handle': '/sim/handle'}, 'frame_period': 0.05},
    'encoder': {'depth': 2, 'image_size': [32, 48], 'window': 4},
    'forecaster': {'width': 48, 'depth': 1, 'heads': 2, 'context': 3, 'horizons': [0.1, 0.2, 0.3]},
    'readout': {'name': 'handle', 'width': 24, 'depth': 1, 'heads': 2},
}
HISTORY = [{'step': 7, 'rank': 3.0, 'std': 0.9, 'skill_0.1s': 0.25, 'skill_shrunk_0.1s': 0.125}]


@pytest.fixture(scope='session')
def checkpoint():
    """
    Return a function (path, **changes of the configuration) that writes a checkpoint and returns its model.
    """
    torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed (the train extra)')
    from jepa_ros.training import config as configuration
    from jepa_ros.training import model as models

    def write(path, **changes):
        config = configuration.from_dict({**VALUES, **changes})
        model = models.Model(config)
        torch.save(
            {
                'config': configuration.to_dict(config),
                'model': model.state_dict(),
                'step': 7,
                'history': HISTORY,
            },
            path,
        )
        return model.eval()

    return write

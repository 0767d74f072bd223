# SPDX-License-Identifier: Apache-2.0
"""The action forecaster as a graph: the unrolled rollout is torch's."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
pytest.importorskip('onnx', reason='onnx is not installed (the export extra)')
onnxruntime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from jepa_ros.export import graphs  # noqa: E402
from jepa_ros.nets.action_forecaster import ActionForecaster  # noqa: E402
from jepa_ros.nets.vit import EncoderConfig, normalise_output  # noqa: E402

CONFIG = EncoderConfig(image_size=(32, 48), patch=16)


def draw(seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        'context': normalise_output(normal(3, 6, 24)),
        'times': torch.tensor([-0.2, -0.1, 0.0]),
        'actions': normal(2, 2),
        'states': normal(2, 5),
        'dt': torch.tensor([0.1, 0.25]) + 0.05 * seed,
    }


@torch.no_grad()
def test_a_rollout_over_actions_is_the_same_in_onnx_runtime(tmp_path):
    torch.manual_seed(0)
    forecaster = ActionForecaster(CONFIG, 24, 2, 5, 3, width=32, depth=1, heads=2).eval()
    torch.nn.init.normal_(forecaster.proj.weight, std=0.3)
    graph, path = graphs.ActionForecastGraph(forecaster).eval(), tmp_path / 'action_forecaster.onnx'
    graphs.write_onnx(graph, draw(0), ['futures'], path)
    session = onnxruntime.InferenceSession(str(path))
    assert [given.name for given in session.get_inputs()] == list(draw(0))
    for seed in (0, 1):
        (found,) = session.run(None, {name: value.numpy() for name, value in draw(seed).items()})
        assert found.shape == (2, 6, 24)
        assert np.abs(found - graph(*draw(seed).values()).numpy()).max() < 1e-4

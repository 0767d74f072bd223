# SPDX-License-Identifier: Apache-2.0
"""The objectives against what they must give by hand or by another way of computing it."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.nets.forecaster import Forecaster  # noqa: E402
from jepa_ros.nets.vit import EncoderConfig  # noqa: E402
from jepa_ros.training import objectives  # noqa: E402

CONFIG = EncoderConfig(image_size=(32, 48), patch=16)


def test_the_likelihood_is_that_of_a_gaussian():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 2, 2))
    covariance, offset = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(2), rng.normal(size=(5, 2))
    found = objectives.point_likelihood(torch.zeros(5, 2), *map(torch.from_numpy, (covariance, offset)))
    expected = [
        0.5 * (d @ np.linalg.inv(c) @ d + np.linalg.slogdet(c)[1]) for c, d in zip(covariance, offset)
    ]
    assert np.allclose(found, expected)


def test_the_least_squares_start_follows_a_trend_at_every_horizon():
    """Every feature moves by its own constant step, and frames do not come at even times."""
    generator = torch.Generator().manual_seed(0)
    start, step = (torch.randn(200, 1, 6, 8, generator=generator) for _ in range(2))
    times = (torch.arange(7.0) + 0.3 * torch.rand(200, 7, generator=generator)) * 0.1
    latents = start + step * times[..., None, None] * 10
    forecaster = Forecaster(CONFIG, 8, 4, width=16, depth=1, heads=2)
    objectives.start_from_least_squares(forecaster, latents, times)
    _, futures, dt = objectives.forecast(forecaster, latents, times, 4, 3, [4, 5, 6])
    assert dt.shape == (200, 3)
    persistence = (latents[:, 3:4] - latents[:, 4:]).square().mean((0, 2, 3))
    error = (futures - latents[:, 4:]).square().mean((0, 2, 3))
    assert (error < 0.1 * persistence).all()


def test_the_target_is_layer_normed_and_has_no_gradient():
    from jepa_ros.nets.vit import Encoder

    encoder = Encoder(EncoderConfig(depth=1, image_size=(32, 48), window=2))
    target = objectives.encode_targets(encoder, torch.randn(2, 3, 4, 32, 48), torch.tensor([[0.0, 0.1]] * 2))
    assert not target.requires_grad
    assert target.mean(-1).abs().max() < 1e-5 and (target.std(-1, correction=0) - 1).abs().max() < 1e-2

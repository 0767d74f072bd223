# SPDX-License-Identifier: Apache-2.0
"""
What is minimised.

Notation: f_θ the encoder, f_ξ its exponential moving average (the target encoder), g_θ the predictor, LN
LayerNorm without affine, sg stop-gradient. `masked` trains encoders, `distil` teaches small ones, `forecast`
and `actions` train what runs after an encoder, `prefix` encodes without the future, `heads` reads answers
from latents.
"""

from jepa_ros.training.objectives.actions import action_forecast
from jepa_ros.training.objectives.distil import distillation, on_grid
from jepa_ros.training.objectives.forecast import (
    forecast,
    joint_forecast,
    relative_error,
    start_from_least_squares,
)
from jepa_ros.training.objectives.heads import (
    attributes,
    classification,
    gaussian_likelihood,
    point_likelihood,
    readout,
    votes_likelihood,
    whose_cell,
)
from jepa_ros.training.objectives.masked import (
    NORMS,
    context_weight,
    context_weights,
    distance,
    encode_targets,
    i_jepa,
    v_jepa,
)
from jepa_ros.training.objectives.prefix import encode_newest, encode_prefix

__all__ = [
    'NORMS',
    'action_forecast',
    'attributes',
    'classification',
    'context_weight',
    'context_weights',
    'distance',
    'distillation',
    'encode_newest',
    'encode_prefix',
    'encode_targets',
    'forecast',
    'gaussian_likelihood',
    'i_jepa',
    'joint_forecast',
    'on_grid',
    'point_likelihood',
    'readout',
    'relative_error',
    'start_from_least_squares',
    'v_jepa',
    'votes_likelihood',
    'whose_cell',
]

# SPDX-License-Identifier: Apache-2.0
"""The configuration of a training run small enough for a test."""

VALUES = {
    'name': 'tiny_run', 'validate_every': 4, 'save_every': 3, 'log_every': 1,
    'data': {'train': ['train'], 'validation': ['validation'], 'held_out': ['held_out'], 'slices': 6,
             'frame_period': 0.05},
    'encoder': {'size': 'tiny', 'depth': 2, 'image_size': [32, 48], 'window': 4},
    'predictor': {'width': 48, 'depth': 1, 'heads': 2},
    'forecaster': {'width': 48, 'depth': 1, 'heads': 2, 'context': 3, 'horizons': [0.1, 0.2, 0.3]},
    'masks': {'short_blocks': 2, 'long_scale': 0.4},
    'bf16': False,
    'pretraining': {'steps': 4, 'batch': 4, 'warmup': 2},
    'heads': {'clips': 10, 'steps': 4, 'batch': 4, 'warmup': 2},
}

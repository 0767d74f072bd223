# SPDX-License-Identifier: Apache-2.0
"""
The networks, in torch: encoder, mask-token predictor, forecaster, readout.

Read them in this order: `sizes` (how large), `rotary` (where and when a token is), `vit` (attention, blocks
and the encoder), `predictor` (pretraining only), `forecaster` (what the robot runs after the encoder),
`readout` (futures to a point with covariance), `masks` (which tokens the predictor must fill). Besides:
`action_forecaster` (what comes if the robot does this), `probe` (a vector or a class from latents), `inflate`
(image weights for video).

Shape suffixes: B batch, F frames, T slices (tubelets), N tokens of one slice, M any number of tokens, D
width, H heads, E width of one head, S context slices, K horizons, Q query tokens.
"""

# SPDX-License-Identifier: Apache-2.0
"""The simulated conveyor: a MuJoCo scene, its camera, its ground truth, and recordings of it."""

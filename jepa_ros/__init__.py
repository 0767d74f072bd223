# SPDX-License-Identifier: Apache-2.0
"""JEPA latents and predicted latents from a camera topic, for robots that must act before they see."""

__version__ = '0.1.0'

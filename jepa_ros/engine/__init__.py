# SPDX-License-Identifier: Apache-2.0
"""Engine bundles, the backends that run their graphs, and the sessions that turn frames into latents."""

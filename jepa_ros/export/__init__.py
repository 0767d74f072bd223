# SPDX-License-Identifier: Apache-2.0
"""Checkpoint to engine bundle: graphs, parity, manifest."""

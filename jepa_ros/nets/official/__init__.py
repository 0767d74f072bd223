# SPDX-License-Identifier: Apache-2.0
"""The published I-JEPA and V-JEPA networks, which compute what their authors' code computes."""

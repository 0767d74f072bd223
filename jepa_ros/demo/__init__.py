# SPDX-License-Identifier: Apache-2.0
"""The demo: the whole graph, on a recording or in the simulated picking cell, watched, recorded and shown."""

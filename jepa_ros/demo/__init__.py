# SPDX-License-Identifier: Apache-2.0
"""The demo: the whole graph on a recording, watched, recorded, and shown in one picture."""

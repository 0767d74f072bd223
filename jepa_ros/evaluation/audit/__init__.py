# SPDX-License-Identifier: Apache-2.0
"""Which encoder should this robot run: two frozen bundles, the same evidence, a rule written before it."""

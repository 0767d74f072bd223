# SPDX-License-Identifier: Apache-2.0
"""The offline trainer: configuration, objectives, collapse watch, and the loop."""

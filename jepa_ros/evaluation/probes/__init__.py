# SPDX-License-Identifier: Apache-2.0
"""Probes on frozen encoders: `suite.run` runs them, `probe` says what one is, docs/probes.md how to add one."""

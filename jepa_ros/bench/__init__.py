# SPDX-License-Identifier: Apache-2.0
"""What the nodes and the transport cost on this machine, measured between real processes."""

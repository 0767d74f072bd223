# SPDX-License-Identifier: Apache-2.0
"""What a bundle is worth on recordings."""

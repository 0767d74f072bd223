# SPDX-License-Identifier: Apache-2.0
"""The one base class of everything a user can cause."""


class JepaError(Exception):
    """A fault of the input. Its message is one sentence: what was expected, and what was found."""

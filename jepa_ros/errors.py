# SPDX-License-Identifier: Apache-2.0
"""The one base class of everything a user can cause, and its one sentence."""


class JepaError(Exception):
    """A fault of the input. Its message is one sentence: what was expected, and what was found."""


def one_line(error) -> str:
    """
    Return the words of a library's exception or message as they fit into a sentence, without line breaks.
    """
    return ' '.join(str(error).split())

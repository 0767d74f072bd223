# SPDX-License-Identifier: Apache-2.0
"""What the tests of published networks share."""

import pytest


@pytest.fixture(params=['float32', 'float64'])
def dtype(request):
    """The default dtype of the test."""
    torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
    before = torch.get_default_dtype()
    chosen = getattr(torch, request.param)
    torch.set_default_dtype(chosen)
    yield chosen
    torch.set_default_dtype(before)

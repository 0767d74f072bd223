# SPDX-License-Identifier: Apache-2.0
"""How near a graph is to the float32 torch module it was made from."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from jepa_ros.engine.backends import open_graph
from jepa_ros.errors import JepaError
from jepa_ros.export import precision as precisions

# An export that is worse fails. The largest absolute difference for float32, where rounding is all there is;
# else the mean cosine similarity, which says whether the latents still point where they did. They are far
# looser than what good graphs reach (docs/official_models.md): they are there to catch a broken one.
LARGEST_DIFFERENCE = 1e-3
LOWEST_COSINE = {'fp16': 0.999, 'bf16': 0.995, 'int8': 0.98}


class Fidelity:
    """
    Differences over many runs.

    :ivar parity: output to the largest absolute difference.
    """

    def __init__(self):
        self.parity, self._cosines = {}, {}

    def add(self, output, expected, found):
        """
        Compare one output of one run.

        :param output: its name, `graph.output`; `expected`, `found`: float arrays [..., D] of the same shape.
        """
        expected, found = expected.astype(np.float64), found.astype(np.float64)
        # NaN is a difference too: max() alone would pass over it.
        difference = np.abs(found - expected).max() if np.isfinite(found).all() else np.inf
        self.parity[output] = max(self.parity.get(output, 0.0), float(difference))
        norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
        cosines = (expected * found).sum(-1) / np.maximum(norms, 1e-30)
        self._cosines.setdefault(output, []).append(float(cosines.mean()))

    @property
    def cosine(self):
        """Output to the mean cosine similarity of its vectors (last axis)."""
        return {output: float(np.mean(values)) for output, values in self._cosines.items()}

    def check(self, precision):
        """:raises JepaError: naming the first output that is beyond the bound of a precision."""
        for output, difference in self.parity.items():
            cosine, bound = self.cosine[output], LOWEST_COSINE.get(precision)
            if bound is None and not difference <= LARGEST_DIFFERENCE:
                raise JepaError(
                    f'the exported graph differs from torch by {difference:.2e} at {output}, '
                    f'at most {LARGEST_DIFFERENCE:.0e} was expected'
                )
            if bound is not None and not cosine >= bound:
                raise JepaError(
                    f'the {precision} graph has a cosine similarity of {cosine:.4f} to torch at {output}, '
                    f'at least {bound} was expected'
                )


@torch.no_grad()
def expected_outputs(module, arguments, outputs):
    """
    Run torch.

    :param arguments: list of arrays.
    :param outputs: names of what it returns.
    :returns: dict of name to array.
    """
    values = module(*map(torch.from_numpy, arguments))
    values = values if isinstance(values, tuple) else (values,)
    return {name: value.numpy() for name, value in zip(outputs, values)}


def open_rounded(path, precision):
    """
    Open a graph so that it computes what its precision says.

    ONNX Runtime's CPU has no bfloat16 products, and drops the rounding around float16 ones where the CPU has
    none: those graphs are run with the same rounding and float32 products (`precision.in_float32`).

    :returns: function of a dict of input name to array, that gives a dict of output name to array.
    """
    if precision not in precisions.TYPES:
        return open_graph(path, 'onnxruntime-cpu').run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        rounded = Path(folder) / 'rounded.onnx'
        precisions.save(precisions.in_float32(onnx.load(path)), rounded)
        session = onnxruntime.InferenceSession(str(rounded), options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds)))

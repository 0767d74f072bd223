# SPDX-License-Identifier: Apache-2.0
"""
Futures from a published predictor: mask tokens at the slices after a window (Assran et al. 2025, section 6,
where V-JEPA 2 anticipates actions so; facebookresearch/vjepa2, evals/action_anticipation_frozen).

The window is a clip of its own, so no token of it has seen what is to be predicted. Horizons are whole
slices.
"""

import torch
from torch import nn

from jepa_ros.errors import JepaError


class OfficialForecaster(nn.Module):
    """
    Context latents to the latents of the next H slices.

    All H slices are filled together, as the masks of the training are, so what is said of one does not depend
    on which others were asked for. Everything that says where a token is is a constant: an exported graph has
    no argsort, and its K may be dynamic.

    :param predictor: `OfficialPredictor` of a video model, built for the image size of the window.
    :param slices: S, slices of the window.
    :param horizons: H, slices to predict.
    :raises JepaError: for an image model, which knows no time, and for windows whose futures lie behind the
        positions a model with added positions has.
    """

    def __init__(self, predictor, slices, horizons):
        super().__init__()
        model, clip = predictor.model, predictor.config
        if not model.slice_period:
            raise JepaError(
                f'futures need a video model, found {model.name}: fit a forecaster with jepa train'
            )
        if slices < 1 or horizons < 1:
            raise JepaError(
                f'futures need at least one slice of context and one horizon, found {slices} and {horizons}'
            )
        if not model.rotary and slices + horizons > clip.slices:
            raise JepaError(
                f'{model.name} knows {clip.slices} slices, found a window of {slices} with {horizons} after '
                'it: take fewer frames'
            )
        self.predictor, self.slices, self.horizons = predictor, slices, horizons
        self.tokens, self.slice_period, self.out_width = clip.tokens, model.slice_period, predictor.out_width
        device = next(predictor.parameters()).device
        added, rotary = predictor.place(torch.arange((slices + horizons) * clip.tokens, device=device)[None])
        for name, constant in zip(('added', 'cos', 'sin'), (added, *(rotary or (None, None)))):
            self.register_buffer(name, constant, persistent=False)

    @property
    def seconds(self):
        """The horizons, in seconds after the window's newest slice."""
        return tuple(self.slice_period * ahead for ahead in range(1, self.horizons + 1))

    def fill(self, context):
        """
        All horizons.

        :param context: float [S, N, D], the encoder's output, not normalised once more; 4 D wide where the
            predictor reads all taps.
        :returns: float [H, N, D_out], in the space of the model's training targets.
        """
        rotary = None if self.cos is None else (self.cos, self.sin)
        x = self.predictor.fill(context.flatten(0, 1)[None], self.horizons * self.tokens, self.added, rotary)
        return self.predictor.proj(x[0, self.slices * self.tokens :]).unflatten(
            0, (self.horizons, self.tokens)
        )

    def forward(self, context, times, dt):
        """
        Predict.

        :param context: as `fill` takes it.
        :param times: float [S], seconds; only the newest counts, positions are constant.
        :param dt: float [K], seconds after it; the nearest horizon of `seconds` answers.
        :returns: float [K, N, D_out].
        """
        ahead = torch.round(dt / self.slice_period).long().clamp(1, self.horizons)
        return self.fill(context).index_select(0, ahead - 1)

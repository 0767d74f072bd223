# SPDX-License-Identifier: Apache-2.0
"""
The published predictors: mask tokens filled from context, and the action-conditioned one of V-JEPA 2-AC.

Both are narrow transformers of the blocks in `jepa_ros.nets.vit`. What they give lives in the space of the
training targets: the encoder's output after a LayerNorm without affine (for the distilled V-JEPA 2.1 models
that of their ViT-G teacher, 1664 wide; for its giant and gigantic models the four taps side by side, each
normalised by itself).
"""

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.nets.official import positions
from jepa_ros.nets.official.families import ACTION_DIM, EXTRINSICS_DIM, STATE_DIM, ClipShape
from jepa_ros.nets.vit import NORM_EPS, Block, initialise


class OfficialPredictor(nn.Module):
    """
    Context latents to the latents of hidden tokens. Called as `jepa_ros.nets.predictor.Predictor` is.

    The published code sorts the tokens by position first and back afterwards; attention does not see their
    order, so nothing is sorted here and no argsort enters an exported graph.

    :param model: `families.Model` whose predictor has mask tokens.
    :param image_size: side or (height, width) in pixels, default the model's own; `frames`: of its clips,
        likewise.

    Attributes: `mask_index`, the learned query that asks unless told otherwise.
    """

    def __init__(self, model, image_size=None, frames=None):
        super().__init__()
        shape = model.predictor
        if shape.action_conditioned:
            raise JepaError(
                f'the predictor of {model.name} is conditioned on actions: build an ActionPredictor'
            )
        self.model, self.config = model, ClipShape.of(model, image_size, frames)
        width, size = model.size.width, shape.size
        self.head_dim, self.out_width, self.mask_index = (
            size.width // size.heads,
            shape.out_width,
            shape.mask_index,
        )
        self.embed = (
            nn.Linear(width, size.width)
            if shape.levels == 1
            else nn.Sequential(
                nn.Linear(shape.levels * width, width), nn.GELU(), nn.Linear(width, size.width)
            )
        )
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.mlp_width) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.proj = nn.Linear(size.width, shape.out_width)
        if model.modalities:
            self.proj_context = nn.Linear(size.width, shape.out_width)
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, size.width))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, size.width))
        initialise(self, self.blocks)
        self.mask_tokens = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(shape.mask_tokens, size.width), std=0.02)
        )
        if not model.rotary:
            table = positions.added_table(model.positions, self.config.slices, self.config.grid, size.width)
            self.register_buffer('pos_embed', table)

    @property
    def trained_mask_tokens(self):
        """
        Indices of the mask tokens that are not zero. They begin at zero, and training numbers them by clip
        length and by kind of mask, so that some were never used.
        """
        if self.mask_tokens.is_meta:  # a shape without numbers
            return ()
        return tuple(self.mask_tokens.detach().any(-1).nonzero().flatten().tolist())

    def place(self, ids):
        """
        What says where tokens are.

        :param ids: int64 [B, M].
        :returns: (added, rotary): float [B, M, width] or None, and what `rotary.rotate` takes or None.
        """
        rotary = positions.rotary_of(self.model, ids, self.config.grid, self.head_dim)
        return (None if self.model.rotary else self.pos_embed[0][ids]), rotary

    def fill(self, context, targets, added, rotary, mask_index=None, image=False):
        """
        Run the blocks over context and `targets` mask tokens whose places are known.

        :param context: float [B, M, D].
        :param targets: Q, number of mask tokens.
        :param added: float [B, M + Q, width] or None, `rotary`: as `place` gives it for context and targets.
        :returns: float [B, M + Q, width], after the norm.
        """
        x = self.embed(context)
        query = self.mask_tokens[self.mask_index if mask_index is None else mask_index]
        x = torch.cat((x, query.expand(len(x), targets, -1).to(x.dtype)), 1)
        if added is not None:
            x = x + added
        if self.model.modalities:
            x = x + (self.img_mod_embed if image else self.video_mod_embed)
        for block in self.blocks:
            x = block(x, rotary)
        return self.norm(x)

    def forward(
        self, context, context_ids, target_ids, times=None, with_context=False, mask_index=None, image=False
    ):
        """
        Fill the target positions.

        :param context: float [B, M, D], the encoder's output on the kept tokens (`hierarchical` where the
            model's predictor reads all levels).
        :param context_ids: int64 [B, M]; `target_ids`: int64 [B, Q]; `slice * N + row * columns + column`.
        :param times: ignored: the published weights count slices.
        :param with_context: say again what the context is, too; V-JEPA 2.1 alone was trained to and can.
        :param mask_index: which learned query, default the attribute.
        :param image: the context is a single image (V-JEPA 2.1).
        :returns: float [B, Q, D_out]; and float [B, M, D_out] with `with_context`.
        :raises JepaError: for `with_context` of a model that was not trained to.
        """
        if with_context and not self.model.modalities:
            raise JepaError(f'{self.model.name} predicts no context: expected a model of V-JEPA 2.1')
        seen = context_ids.shape[1]
        place = self.place(torch.cat((context_ids, target_ids), 1))
        x = self.fill(context, target_ids.shape[1], *place, mask_index, image)
        filled = self.proj(x[:, seen:])
        return (filled, self.proj_context(x[:, :seen])) if with_context else filled


class ActionPredictor(nn.Module):
    """
    V-JEPA 2-AC (Assran et al. 2025, section 3): the next frame's latents from frames, states and actions so
    far.

    Every step is one frame: an action token, a state token and the frame's N tokens. A step sees itself and
    the steps before it. Latents enter and leave in the LayerNormed space; each frame was encoded alone.

    :param model: `families.Model` with an action-conditioned predictor.
    :param image_size: side or (height, width) in pixels, default the model's own.
    :param steps: most frames a sequence may have, default the model's.
    """

    CONDITIONS = 2  # tokens before those of the frame

    def __init__(self, model, image_size=None, steps=None):
        super().__init__()
        shape = model.predictor
        if not shape.action_conditioned:
            raise JepaError(f'the predictor of {model.name} takes no actions: build an OfficialPredictor')
        self.model, self.config, self.steps = model, ClipShape.of(model, image_size), steps or model.frames
        width, size = model.size.width, shape.size
        self.embed = nn.Linear(width, size.width)
        self.action_encoder = nn.Linear(ACTION_DIM, size.width)
        self.state_encoder = nn.Linear(STATE_DIM, size.width)
        self.extrinsics_encoder = nn.Linear(
            EXTRINSICS_DIM, size.width
        )  # published, trained without, never read
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.mlp_width) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPS)
        self.proj = nn.Linear(size.width, shape.out_width)
        initialise(self, self.blocks)
        cos, sin = self._table(size.width // size.heads)
        self.register_buffer('cos', cos, persistent=False)
        self.register_buffer('sin', sin, persistent=False)

    def _table(self, head_dim):
        """
        Turns of a whole sequence; conditions are at the origin of the image, columns are in units of rows'
        pitch.
        """
        (rows, columns), n = self.config.grid, self.config.tokens
        cell = torch.arange(n, device='cpu')
        origin = torch.zeros(self.CONDITIONS, device='cpu', dtype=torch.float64)
        row = torch.cat((origin, (cell // columns).double())).repeat(self.steps)
        column = torch.cat((origin, (cell % columns).double() * rows / columns)).repeat(self.steps)
        step = torch.arange(self.steps, device='cpu').repeat_interleave(self.CONDITIONS + n)
        return positions.turning_table(
            self.model.positions, step[None], row[None], column[None], self.config.grid, head_dim
        )

    def forward(self, context, actions, states):
        """
        Predict.

        :param context: float [B, T * N, D], LayerNormed latents of frames 0..T-1.
        :param actions: float [B, T, 7], what is done after each frame; `states`: float [B, T, 7], pose at
            each frame.
        :returns: float [B, T * N, D], latents of frames 1..T, still to be LayerNormed
            (`vit.normalise_output`).
        :raises JepaError: for more frames than `steps`.
        """
        batch, count = actions.shape[:2]
        if count > self.steps:
            raise JepaError(f'this predictor was built for at most {self.steps} frames, found {count}')
        frames = self.embed(context).unflatten(1, (count, -1))
        x = torch.cat(
            (self.action_encoder(actions)[:, :, None], self.state_encoder(states)[:, :, None], frames), 2
        )
        per_step = x.shape[2]
        x, length = x.flatten(1, 2), count * per_step
        step = torch.arange(count, device=x.device).repeat_interleave(per_step)
        rotary = self.cos[:, :, :length], self.sin[:, :, :length]
        for block in self.blocks:
            x = block(x, rotary, step[:, None] >= step)
        x = x.unflatten(1, (count, per_step))[:, :, self.CONDITIONS :].flatten(1, 2)
        return self.proj(self.norm(x))

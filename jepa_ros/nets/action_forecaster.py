# SPDX-License-Identifier: Apache-2.0
"""
The action-conditioned forecaster: what the camera will see if the robot does this.

V-JEPA 2-AC (Assran et al. 2025, section 3; facebookresearch/vjepa2 `src/models/ac_predictor.py`): every frame
that is acted on brings a token of the action and one of the robot's state beside its patch tokens; a token
attends to its own frame and to earlier ones; the output at a frame's patches is the next frame, LayerNormed,
and is fed back for the frame after that. What is ours: frames have true times, so the action's token also
says how long it lasts; the output begins at the frame itself (persistence); and a rollout keeps keys and
values, which frame-causal attention allows without changing anything.
"""

import torch
from torch import nn

from jepa_ros.nets import rotary as rope
from jepa_ros.nets.forecaster import DtEmbedding
from jepa_ros.nets.vit import NORM_EPS, Block, block_causal_mask, initialise, normalise_output


class ActionForecaster(nn.Module):
    """
    :param encoder: the `EncoderConfig` whose latents it reads.
    :param latent_dim: D.
    :param actions: A, length of an action; `states`: P, length of a state; both in their own units, see
        `standardise`.
    :param context: S, slices it reads.
    """

    def __init__(self, encoder, latent_dim, actions, states, context, width=128, depth=4, heads=4):
        super().__init__()
        self.encoder, self.context, self.head_dim = encoder, context, width // heads
        self.embed = nn.Linear(latent_dim, width)
        self.action, self.state = nn.Linear(actions, width), nn.Linear(states, width)
        self.length = DtEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.proj = nn.Linear(width, latent_dim)
        initialise(self, self.blocks)
        nn.init.zeros_(self.proj.weight)
        for name, size in (('action', actions), ('state', states)):
            self.register_buffer(f'{name}_mean', torch.zeros(size))
            self.register_buffer(f'{name}_std', torch.ones(size))

    @torch.no_grad()
    def standardise(self, actions, states):
        """
        Remember mean and spread of the training data; an element that never changes keeps the spread 1.

        :param actions: float [M, A]; `states`: float [M, P].
        """
        for name, values in (('action', actions), ('state', states)):
            spread = values.std(0, correction=0)
            getattr(self, f'{name}_mean').copy_(values.mean(0))
            getattr(self, f'{name}_std').copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, context, times, actions, states, dt, later=None):
        """
        Roll out: every step reads what the step before has answered, or with `later` the truth in its place.

        :param context: float [B, S, N, D], LayerNormed latents of the last S slices, oldest first.
        :param times: float [B, S], their times in seconds relative to the newest (so the last is 0).
        :param actions: float [B, K, A], action k is taken from dt[k - 1] (or 0) to dt[k].
        :param states: float [B, K, P], state k is that at dt[k - 1] (or 0): known, or what the actions lead
            to.
        :param dt: float [B, K], ascending horizons in seconds.
        :param later: float [B, K - 1, N, D], true latents at dt[:-1]: all steps at once (teacher forcing).
        :returns: float [B, K, N, D], LayerNormed.
        """
        starts = torch.cat((torch.zeros_like(dt[:, :1]), dt[:, :-1]), 1)
        older, older_times, newest = self.embed(context[:, :-1]).flatten(1, 2), times[:, :-1], context[:, -1:]
        given = actions, states, dt - starts
        if later is not None:
            return self._frames(older, older_times, torch.cat((newest, later), 1), starts, *given)[0]
        past, futures = None, []
        for k in range(dt.shape[1]):
            step = (of[:, k : k + 1] for of in (starts, *given))
            newest, past = self._frames(older, older_times, newest, *step, past)
            older, older_times = older[:, :0], older_times[:, :0]  # they are in the past now
            futures.append(newest)
        return torch.cat(futures, 1)

    def _frames(self, older, older_times, latents, starts, actions, states, lengths, past=None):
        """
        Frames that are acted on, after older ones that are not.

        :param older: float [B, M, width], tokens; `latents`: float [B, F, N, D].
        :returns: the next frame of each, float [B, F, N, D], and keys and values as `_attend` has them.
        """
        action = self.action((actions - self.action_mean) / self.action_std) + self.length(lengths)
        state = self.state((states - self.state_mean) / self.state_std)
        tokens = torch.cat((action[:, :, None], state[:, :, None], self.embed(latents)), 2)
        x = torch.cat((older, tokens.flatten(1, 2)), 1)
        x, present = self._attend(x, torch.cat((older_times, starts), 1), latents.shape[1], past)
        x = x[:, older.shape[1] :].unflatten(1, tokens.shape[1:3])[:, :, 2:]
        return normalise_output(latents + self.proj(self.norm(x))), present

    def _attend(self, x, at, acted_on, past=None):
        """
        Frames through all blocks, frame-causally.

        :param x: float [B, M, width], tokens of F frames, of which the last `acted_on` have the two tokens
            more.
        :param at: float [B, F], their times; `past`: keys and values of earlier frames for every block.
        :returns: float [B, M, width], and the keys and values to keep.
        """
        n, frames = self.encoder.tokens, at.shape[1]
        cells = torch.arange(n, device=x.device)
        # An action has no place: row 0, column 0, which turns nothing.
        acting = torch.cat((cells.new_zeros(2), cells))
        ids = torch.cat(
            [n * frame + (cells if frame < frames - acted_on else acting) for frame in range(frames)]
        )
        ids = ids.expand(len(x), -1)
        table = rope.token_table(at / self.encoder.slice_period, ids, self.encoder.grid, self.head_dim)
        mask = block_causal_mask(ids, n, frames) if frames > 1 else None
        present = []
        for block, kept in zip(self.blocks, past or [None] * len(self.blocks)):
            q, k, v = block.attn.project(block.norm1(x), table)
            if kept is not None:
                k, v = torch.cat((kept[0], k), 2), torch.cat((kept[1], v), 2)
            present.append((k, v))
            x = x + block.attn.attend(q, k, v, mask)
            x = x + block.mlp(block.norm2(x))
        return x, present

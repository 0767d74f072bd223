# SPDX-License-Identifier: Apache-2.0
"""One update of the weights of a stage: forward, backward, clipped gradients, AdamW on its schedules."""

import math

import torch
from torch import nn

from jepa_ros.errors import JepaError
from jepa_ros.training import parallel, schedules


class Update:
    """
    :param stage: `stages.stage.Stage`, its modules on the device (and sharded).
    :param place: `parallel.Place`.
    :param config: `config.Config`, for `clip` and `bf16`.
    :raises JepaError: for a batch that the processes and `accumulate` do not divide.
    """

    def __init__(self, stage, place, config):
        self.stage, self.place, self.config, values = stage, place, config, stage.values
        if values.batch % (place.world * values.accumulate):
            raise JepaError(
                f'{stage.name}.batch must be a multiple of processes times {stage.name}.accumulate '
                f'({place.world} x {values.accumulate}), found {values.batch}'
            )
        # Sections may name a module twice, for example where two of them share an encoder.
        named = {
            parameter: f'{index}.{name}'
            for index, module in enumerate(stage.modules)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.names = {name: parameter for parameter, name in named.items()}
        of_matrices = [parameter for parameter in named if parameter.ndim > 1]
        of_vectors = [parameter for parameter in named if parameter.ndim < 2]
        self.optimiser = torch.optim.AdamW(
            [{'params': of_matrices, 'decays': True}, {'params': of_vectors, 'decays': False}],
            betas=tuple(values.betas),
        )
        self.forward = place.parallel(_Loss(stage))

    def __call__(self, step, batch):
        """
        :param step: 0-based in the stage.
        :param batch: this process's share of the rows, as `stage.batch` gives it.
        :returns: dict of figures, means over the processes: `loss`, the stage's own, `gradient` (its norm),
            `rate`, `weight_decay`. Where loss or gradient is not finite, nothing was updated.
        """
        values = self.stage.values
        rate, weight_decay = schedules.rate(step, values), schedules.weight_decay(step, values)
        for group in self.optimiser.param_groups:
            group['lr'] = rate
            group['weight_decay'] = weight_decay if group['decays'] else 0.0
        self.optimiser.zero_grad(set_to_none=True)
        parts = [self._part(part, last) for part, last in _parts(batch, values.accumulate, self.place.device)]
        loss, figures = self._mean(parts)
        largest = self.config.clip or math.inf
        norms = [nn.utils.clip_grad_norm_(module.parameters(), largest) for module in self.stage.modules]
        norm = math.hypot(*(parallel.number(norm) for norm in norms))
        if math.isfinite(loss) and math.isfinite(norm):
            self.optimiser.step()
            figures |= self.stage.after_update(step)
        return {'loss': loss, **figures, 'gradient': norm, 'rate': rate, 'weight_decay': weight_decay}

    def _part(self, part, last):
        """Forward and backward of a part of the batch. :returns: its loss and figures, without gradient."""
        with self.place.reduction(self.forward, last):
            with self.place.autocast(self.config.bf16):
                loss, figures = self.forward(*part)
            (loss / self.stage.values.accumulate).backward()
        return loss.detach(), figures

    def _mean(self, parts):
        """Means over the parts of the batch and over the processes; of a figure, where it is not NaN."""
        losses, figures = zip(*parts)
        names = list(figures[0])
        found = torch.tensor(
            [[float(part[name]) for name in names] for part in figures], dtype=torch.float64
        ).reshape(len(parts), len(names))
        known = ~found.isnan()
        sums = torch.cat(
            (
                torch.stack(losses).double().mean(0, keepdim=True).cpu(),
                found.nan_to_num().sum(0),
                known.double().sum(0),
            )
        )
        loss, *sums = self.place.mean(sums.to(self.place.device)).tolist()
        counts = sums[len(names) :]
        return loss, {
            name: total / count if count else math.nan for name, total, count in zip(names, sums, counts)
        }

    def state(self):
        """
        The optimiser's state by name of the parameter, as `Place.collect` gives tensors; every process must
        call it.
        """
        return {
            name: {key: self.place.collect(value) for key, value in self.optimiser.state[parameter].items()}
            for name, parameter in self.names.items()
            if parameter in self.optimiser.state
        }

    def load(self, state):
        """:param state: as `state` gave it, of a run in any number of processes."""
        for name, values in state.items():
            parameter = self.names[name]
            self.optimiser.state[parameter] = {
                # The count of updates stays where AdamW made it, on the CPU.
                key: (value if key == 'step' else parallel.like(value, parameter)).clone()
                for key, value in values.items()
            }


class _Loss(nn.Module):
    """
    A stage's loss as the forward of a module that holds what is trained, which is what
    DistributedDataParallel takes.
    """

    def __init__(self, stage):
        super().__init__()
        self.trained = nn.ModuleList(stage.modules)
        self._stage = (stage,)  # not as a module, nor what it holds

    def forward(self, *batch):
        return self._stage[0].loss(*batch)


def _parts(batch, count, device):
    """Cut the rows of a batch into equal parts on the device. Yields a part and whether it is the last."""
    tensors = [
        torch.as_tensor(item).to(device, non_blocking=True) if hasattr(item, 'shape') and item.ndim else item
        for item in batch
    ]
    for number in range(count):
        yield (
            [item.chunk(count)[number] if isinstance(item, torch.Tensor) else item for item in tensors],
            number == count - 1,
        )

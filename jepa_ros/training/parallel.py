# SPDX-License-Identifier: Apache-2.0
"""
Where a run computes: the device, and this process's place among those that torchrun started.

Everything here is PyTorch's own: DistributedDataParallel, or `fully_shard` (FSDP2). Every process makes the
same list of clips and masks and takes its own equal share of the rows, so N processes compute the losses of
one with the joined batch.
"""

import contextlib
import datetime
import functools
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

from jepa_ros.errors import JepaError
from jepa_ros.nets.predictor import Predictor
from jepa_ros.nets.vit import Encoder

# For other processes: the first one decodes recordings into the cache meanwhile.
PATIENCE = datetime.timedelta(hours=2)
# Modules whose forward calls their blocks as modules, so that a block can be gathered, or computed again, on
# its own.
BLOCKWISE = (Encoder, Predictor)


class Place:
    """
    :param device: `auto`, `cpu`, `cuda` or `cuda:N`.
    :param parallel: `auto`, `none`, `ddp` or `fsdp`.
    :raises JepaError: for a device that is not there, or processes that do not fit what was asked for.

    Attributes: `device`; `kind`, one of none, ddp and fsdp; `rank` and `world`; `leader`, True in the one
    process that writes.
    """

    def __init__(self, device='auto', parallel='auto'):
        self.rank, self.world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
        self.leader, self._mesh = self.rank == 0, None
        under_torchrun = 'RANK' in os.environ and 'MASTER_ADDR' in os.environ
        self.kind = parallel if parallel != 'auto' else 'ddp' if self.world > 1 else 'none'
        if self.kind not in ('none', 'ddp', 'fsdp'):
            raise JepaError(f'parallel must be auto, none, ddp or fsdp, found {parallel!r}')
        if self.kind == 'none' and self.world > 1:
            raise JepaError(
                f'parallel: none in {self.world} processes would train {self.world} times the same: expected '
                'ddp, fsdp or auto under torchrun'
            )
        if self.kind != 'none' and not under_torchrun:
            raise JepaError(
                f'parallel: {self.kind} needs processes that torchrun started: torchrun --nproc-per-node N '
                '-m jepa_ros.cli train CONFIG'
            )
        self.device = self._device(device)
        if self.device.type == 'cuda':
            torch.cuda.set_device(self.device)
        if self.kind != 'none' and not dist.is_initialized():
            dist.init_process_group('nccl' if self.device.type == 'cuda' else 'gloo', timeout=PATIENCE)

    def _device(self, name):
        if name == 'auto':
            name = 'cuda' if torch.cuda.is_available() else 'cpu'
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise JepaError(f'device must be auto, cpu, cuda or cuda:N, found {name!r}') from error
        if device.type == 'cuda':
            count = torch.cuda.device_count()
            if device.index is None:
                device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0)))
            if device.index >= count:
                raise JepaError(f'device {device} is not there: expected one of {count} CUDA devices')
        return device

    def close(self):
        """Leave the group of processes."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def rows(self, count):
        """
        This process's share of the rows of a batch.

        :returns: range, as long in every process.
        :raises JepaError: where the processes do not divide the batch.
        """
        each = count // self.world
        if each * self.world != count:
            raise JepaError(f'a batch must be a multiple of the processes ({self.world}), found {count}')
        return range(self.rank * each, (self.rank + 1) * each)

    def share(self, function, *tensors):
        """
        Let every process compute its part of the rows, and give all of them the whole result.

        :param function: takes rows of the tensors on the device, returns a tensor with as many rows.
        """
        count = len(tensors[0])
        each = -(-count // self.world)
        rows = torch.arange(self.rank * each, (self.rank + 1) * each) % count  # wraps: all do equally much
        mine = tensors if self.world == 1 else [tensor[rows] for tensor in tensors]
        return self.gather(function(*(tensor.to(self.device) for tensor in mine)))[:count]

    def gather(self, tensor):
        """The rows of all processes, in the order of their ranks."""
        if self.world == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def collect(self, tensor):
        """
        A tensor as one process would have it: on the CPU in the leader, None elsewhere. Every process must
        call it.
        """
        tensor = _full(tensor)
        return tensor.detach().cpu() if self.leader else None

    def mean(self, values):
        """The mean over the processes. :param values: float tensor."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def any(self, flag):
        """True where it is true in any process."""
        return (
            bool(flag)
            if self.world == 1
            else bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)
        )

    @contextlib.contextmanager
    def leader_first(self):
        """The leader does the work first, the others find it done (the cache of decoded frames)."""
        if not self.leader:
            dist.barrier()
        yield
        if self.leader and self.world > 1:
            dist.barrier()

    def autocast(self, bf16):
        """:param bf16: as the configuration's key: None for bfloat16 where it is faster."""
        # Cached casts would keep the gathered weights of every block.
        return torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.computes_in_bf16(bf16),
            cache_enabled=self.kind != 'fsdp',
        )

    def computes_in_bf16(self, wanted):
        """
        Whether to compute in bfloat16.

        :param wanted: None: where the device has instructions for it. A CPU without them is slower than in
            float32.
        """
        if wanted is not None:
            return wanted
        if self.device.type != 'cpu':
            return True
        has = getattr(torch.cpu, '_is_avx512_bf16_supported', bool), getattr(torch.cpu, '_is_amx_tile_supported', bool)
        return any(check() for check in has)

    def shard(self, module):
        """
        Spread a module's weights over the processes, where the run is of that kind. May be called again.
        """
        if self.kind != 'fsdp' or is_sharded(module):
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._mesh = self._mesh or init_device_mesh(self.device.type, (self.world,))
        for block in blocks_of(module):
            fully_shard(block, mesh=self._mesh)
        fully_shard(module, mesh=self._mesh, reshard_after_forward=True)

    def parallel(self, module):
        """
        The module whose forward a process calls, and whose backward gives every process the mean gradient.

        :param module: its parameters are sharded already where the run is of that kind.
        """
        if self.kind != 'ddp':
            return module
        return nn.parallel.DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == 'cuda' else None,
            gradient_as_bucket_view=True,
        )

    @contextlib.contextmanager
    def reduction(self, module, last):
        """
        :param module: as `parallel` gave it.
        :param last: False for a part of a batch whose gradients are only added up, not yet shared.
        """
        if self.kind == 'fsdp':
            for part in module.modules():
                if is_sharded(part):
                    part.set_requires_gradient_sync(last, recurse=False)
        with module.no_sync() if self.kind == 'ddp' and not last else contextlib.nullcontext():
            yield


def blocks_of(module):
    """The blocks that may be treated one by one; of other modules none."""
    return module.blocks if isinstance(module, BLOCKWISE) else ()


def recompute(module):
    """Keep a block's input alone until the backward pass, and compute the rest again there."""
    for block in blocks_of(module):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def is_sharded(module):
    """True where `fully_shard` was applied to this very module."""
    return hasattr(module, 'set_requires_gradient_sync')


def number(tensor):
    """The value of a scalar, sharded or not."""
    return float(_full(tensor))


def _full(tensor):
    return tensor.full_tensor() if hasattr(tensor, 'full_tensor') else tensor


def like(tensor, pattern):
    """A whole tensor placed, and sharded, as `pattern` is."""
    if hasattr(pattern, 'full_tensor'):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
    return tensor.to(pattern.device)

"""Several processes that train one lens, each on its share of every batch.

Launched by ``torchrun`` or ``accelerate launch``, or in a process group that the caller made. Every
process holds the whole lens and the same optimiser state; gradients are summed over the processes
before each step, so that the result is that of one process up to the order of the sums: after some
steps of SGD in fp32, to 1e-5 of the lens's norm; with Muon, whose orthogonalisation is in bf16, to
2e-2. The model may be one copy a process, its blocks sharded (``fully_shard``), or laid over
devices (``device_map``): every process calls it equally often. A Jacobian goes backward through the
model many times, which a sharded one does not allow; fit it on one that is whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls, device: torch.device) -> Group:
        """The group that the launcher or the caller made; alone without one."""
        if not dist.is_available():
            return cls()
        if not dist.is_initialized():
            if int(os.environ.get("WORLD_SIZE", "1")) == 1:
                return cls()
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum over the processes, in place, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

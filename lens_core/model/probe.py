"""One forward pass over a few tokens that writes down what every module was given and gave back.

`families.discover` reads a model's structure from this record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Call:
    """One call of one module. Values are copies on the CPU, since a model may write into a tensor.

    Attributes:
        path: the module's path from the language-model class down.
        inp, out: first tensor given, first tensor returned, as they were then.
        inp_ref, out_ref: those tensors themselves; held, lest their addresses be used again.
        n_outputs: how many values came back; 0 for a bare tensor.
        started, ended: when, counted in events.
        out_version: the output's version counter when it was returned.
    """

    path: str
    module: nn.Module
    inp: Tensor
    inp_ref: Tensor
    out: Tensor
    out_ref: Tensor
    n_outputs: int
    started: int
    ended: int
    out_version: int

    @property
    def output_changed_later(self) -> bool:
        """Whether the model changed the output in place after it was returned."""
        return self.out_ref._version != self.out_version

    def reads(self, other: Call) -> bool:
        """Whether this call was given the very tensor that the other returned."""
        return (
            self.inp_ref.data_ptr() == other.out_ref.data_ptr()
            and self.inp_ref.numel() == other.out_ref.numel()
        )

    def reads_same_as(self, other: Call) -> bool:
        """Whether both calls were given the very same tensor."""
        return (
            self.inp_ref.data_ptr() == other.inp_ref.data_ptr()
            and self.inp_ref.numel() == other.inp_ref.numel()
        )


class Recorder:
    """Notes the calls of the modules below `root` while its hooks are in place."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        # By path, also of modules that were given no tensor.
        self.output_classes: dict[str, type] = {}
        self._open: list[tuple[str, Tensor | None, Tensor | None, int]] = []
        self._clock = 0

    @contextmanager
    def watching(self, root: nn.Module) -> Iterator[None]:
        """Hook every module below `root`, and unhook them at the end."""
        handles = []
        for path, module in root.named_modules():
            if isinstance(module, nn.ModuleList) or module is root:
                continue
            handles.append(
                module.register_forward_pre_hook(self._before(path), with_kwargs=True, prepend=True)
            )
            handles.append(module.register_forward_hook(self._after(path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._clock += 1
            given = args[0] if args else kwargs.get("hidden_states")
            tensor = given if isinstance(given, Tensor) else None
            self._open.append((path, tensor, _copy(tensor), self._clock))

        return hook

    def _after(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._clock += 1
            opened, inp_ref, inp, started = self._open.pop()
            assert opened == path
            self.output_classes[path] = type(output)
            first = output[0] if isinstance(output, tuple) and output else output
            if inp_ref is None or inp is None or not isinstance(first, Tensor):
                return
            copy = _copy(first)
            assert copy is not None
            self.calls.append(
                Call(
                    path=path,
                    module=module,
                    inp=inp,
                    inp_ref=inp_ref,
                    out=copy,
                    out_ref=first,
                    n_outputs=len(output) if isinstance(output, tuple) else 0,
                    started=started,
                    ended=self._clock,
                    out_version=first._version,
                )
            )

        return hook


def probe_tokens(d_vocab: int, device: torch.device) -> Tensor:
    """Two rows of five tokens, all different and spread over the vocabulary: LongTensor [2, 5]."""
    return (torch.arange(1, 11, device=device) * max(d_vocab // 11, 1) % d_vocab).view(2, 5)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu().clone()


def fit(target: Tensor, parts: list[Tensor], scale_of_rounding: float) -> list[float] | None:
    """The factors with which the parts add up to the target, None if they do not.

    Factors within rounding of 1 come back as exactly 1. Parts that are all zeros make up zeros: a
    block whose attention or MLP was silenced still has one.
    """
    goal = target.double().reshape(-1)
    columns = torch.stack([part.double().reshape(-1) for part in parts], dim=1)
    if not goal.any() and not columns.any():
        return [1.0] * len(parts)
    allowed = 1e-3 * goal.norm() + scale_of_rounding
    if goal.norm() <= scale_of_rounding:
        return None
    if (goal - columns.sum(dim=1)).norm() <= allowed:
        return [1.0] * len(parts)
    factors = torch.linalg.lstsq(columns, goal[:, None]).solution[:, 0]
    if not torch.isfinite(factors).all() or (goal - columns @ factors).norm() > allowed:
        return None
    return [float(factor) for factor in factors]


def rounding(*tensors: Tensor) -> float:
    """How far sums of these tensors may be off by rounding alone (a norm over all cells)."""
    return sum(4 * torch.finfo(t.dtype).eps * float(t.double().norm()) for t in tensors)

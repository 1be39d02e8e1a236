"""Taps inside attention: q, k, v, scores, pattern and z, read and written, with no maths copied.

Families that go through transformers' attention registry call `lens_attention`, which calls the
family's own eager function and taps its one softmax. The others get the same taps from a window
around their attention module's forward: there the matrix product before the softmax shows q and k,
the one after it v and z.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from lens_core.model.run import MASKED_BELOW, Run, current_run

NAME = "lens_core"
LAYER_ATTRIBUTE = "_lens_layer"
_SOFTMAX = frozenset({F.softmax, torch.softmax, torch.special.softmax, Tensor.softmax})
_PRODUCT = frozenset(
    {torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm}
    | {torch.baddbmm, Tensor.baddbmm}
)
_BADDBMM = frozenset({torch.baddbmm, Tensor.baddbmm})
_EAGER: dict[type, Callable[..., tuple[Tensor, Tensor]]] = {}


def lens_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function under which hooked models run: the module's own eager one, tapped."""
    eager = _EAGER.get(type(module)) or _eager_of(type(module))
    run = current_run()
    layer = getattr(module, LAYER_ATTRIBUTE, None)
    if run is None or layer is None:
        return eager(module, query, key, value, attention_mask, **options)
    query = run.visit_heads("q", layer, query)
    key = run.visit_heads("k", layer, key)
    value = run.visit_heads("v", layer, value)
    if layer in run.softmax_layers:
        with SoftmaxTap(run, layer, key.shape[-2]):
            z, weights = eager(module, query, key, value, attention_mask, **options)
    else:
        z, weights = eager(module, query, key, value, attention_mask, **options)
    return run.visit("z", layer, z), weights


# The mask function matters as much: without one of our name the causal mask would silently be None.
AttentionInterface.register(NAME, lens_attention)
AttentionMaskInterface.register(NAME, eager_mask)


def _eager_of(kind: type) -> Callable[..., tuple[Tensor, Tensor]]:
    for base in kind.__mro__:
        eager = getattr(sys.modules.get(base.__module__), "eager_attention_forward", None)
        if eager is not None:
            _EAGER[kind] = eager
            return eager
    raise LookupError(f"{kind.__name__} has no eager attention function")


class SoftmaxTap(TorchFunctionMode):
    """While active, shows a run the input and the output of the softmax as scores and pattern."""

    def __init__(self, run: Run, layer: int, n_keys: int) -> None:
        super().__init__()
        self.run, self.layer, self.n_keys = run, layer, n_keys
        self.count = 0  # softmaxes seen

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Let every torch call through, the softmax by way of the taps."""
        if func not in _SOFTMAX:
            return func(*args, **(kwargs or {}))
        return self.softmax(func, args, kwargs or {})

    def softmax(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """The softmax between its two taps."""
        self.count += 1
        scores = visit_scores(self.run, self.layer, args[0], self.n_keys)
        pattern = func(scores, *args[1:], **kwargs)
        if ("pattern", self.layer) not in self.run.plan:
            return pattern
        return _without_sink(
            lambda seen: self.run.visit("pattern", self.layer, seen), pattern, self.n_keys, self.run
        )


class AttentionWindow(SoftmaxTap):
    """The taps for families outside the registry, active while their attention module runs."""

    def __init__(self, run: Run, layer: int, n_kv_heads: int | None) -> None:
        super().__init__(run, layer, -1)
        self.n_kv_heads = n_kv_heads

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Let every torch call through, softmax and attention's two products by way of the taps."""
        kwargs = kwargs or {}
        if func in _SOFTMAX:
            return self.softmax(func, args, kwargs)
        if func not in _PRODUCT:
            return func(*args, **kwargs)
        left, right, call = _factors(func, args, kwargs)
        if right.ndim < 3:  # a projection written as a product with its weight
            return func(*args, **kwargs)
        if self.count == 0:
            self.n_keys = right.shape[-1]
            left = self._heads("q", left)
            return call(left, self._kv_heads("k", right.transpose(-1, -2)).transpose(-1, -2))
        return self._heads("z", call(left, self._kv_heads("v", right)))

    def softmax(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """The softmax between its two taps, which want heads apart from rows."""
        scores = args[0]
        if scores.ndim == 4:
            return super().softmax(func, args, kwargs)
        apart = scores.view(self.run.batch, -1, *scores.shape[-2:])
        return super().softmax(func, (apart, *args[1:]), kwargs).view(scores.shape)

    def _heads(self, site: str, x: Tensor) -> Tensor:
        """Visit [batch, head, pos, d], or [batch * head, pos, d] as some families have it."""
        if (site, self.layer) not in self.run.plan:
            return x
        if x.ndim == 4:
            return self.run.visit_heads(site, self.layer, x)
        apart = x.view(self.run.batch, -1, *x.shape[-2:])
        return self.run.visit_heads(site, self.layer, apart).reshape(x.shape)

    def _kv_heads(self, site: str, x: Tensor) -> Tensor:
        """Visit k or v, which some families have already repeated for every query head."""
        if (site, self.layer) not in self.run.plan:
            return x
        heads = x.shape[1] if x.ndim == 4 else x.shape[0] // self.run.batch
        if self.n_kv_heads is None or heads == self.n_kv_heads:
            return self._heads(site, x)
        group = heads // self.n_kv_heads
        apart = x.view(self.run.batch, heads, *x.shape[-2:])[:, ::group]
        seen = self.run.visit_heads(site, self.layer, apart)
        return seen.repeat_interleave(group, dim=1).reshape(x.shape)


def visit_scores(run: Run, layer: int, scores: Tensor, n_keys: int) -> Tensor:
    """Visit attention scores, shown with -inf where they are masked.

    The model goes on with its own finite mask. Masked cells stay masked whatever an edit does to
    them, and a cell edited to -inf gets the lowest finite score, lest a whole row become NaN.
    """
    todo = run.plan.get(("scores", layer))
    if todo is None:
        return scores
    if not todo.edits and not run.grad:
        _without_sink(lambda raw: run.visit("scores", layer, raw), scores, n_keys, run)
        return scores

    def visit(raw: Tensor) -> Tensor:
        masked = raw < MASKED_BELOW
        seen = run.visit("scores", layer, raw.masked_fill(masked, -torch.inf))
        return torch.where(masked, raw, seen.clamp(min=torch.finfo(raw.dtype).min))

    return _without_sink(visit, scores, n_keys, run)


def _without_sink(visit: Callable[[Tensor], Tensor], x: Tensor, n_keys: int, run: Run) -> Tensor:
    """Visit the columns of `x` that are keys; attention sinks have one more."""
    if x.shape[-1] == n_keys:
        return visit(x)
    keys, sink = x[..., :n_keys], x[..., n_keys:]
    seen = visit(keys)
    return x if seen is keys and not run.grad else torch.cat([seen, sink], dim=-1)


def _factors(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """The two factors of a matrix product, and the same product of two others."""
    names = ("batch1", "batch2") if func in _BADDBMM else ("input", "other")
    skip = 1 if func in _BADDBMM else 0
    head, factors, tail = args[:skip], list(args[skip : skip + 2]), args[skip + 2 :]
    named = dict(kwargs)
    factors += [named.pop(name) for name in names[len(factors) :]]

    def call(left: Tensor, right: Tensor) -> Tensor:
        product: Tensor = func(*head, left, right, *tail, **named)
        return product

    return factors[0], factors[1], call

"""The maps of causal tracing: the runs of one prompt, and every cell of every kind of map.

A state after a block is written in front of the next one, and the first layer of a window enters as
the residual stream that it makes, so that no block is run for what is known already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.interventions import patch
from lens_core.patching.base import Base
from lens_core.patching.cells import Cell, Place, Write
from lens_core.patching.engine import OnStep, run_cells
from lens_core.patching.metrics import Answers, Metric
from lens_core.tracing.corruption import Corruption
from lens_core.tracing.result import Array, TraceKind
from lens_core.tracing.subject import Span

if TYPE_CHECKING:
    from lens_core import HookedModel

Outputs = Mapping[Place, tuple[Tensor, Tensor]]
Writes = Callable[[int, int], tuple[Write, ...]]
SITES: Mapping[TraceKind, tuple[str, ...]] = {
    "state": (),
    "mlp": ("mlp_out",),
    "attn": ("attn_out",),
    "state_mlp_severed": ("mlp_out",),
    "state_attn_severed": ("attn_out",),
}


def default_window(n_layers: int) -> int:
    """The share of the depth that Meng et al. restore at once: ten of GPT-2 XL's 48 layers.

    >>> default_window(48), default_window(8), default_window(4)
    (10, 2, 1)
    """
    return max(1, round(n_layers * 10 / 48))


def window_layers(layer: int, window: int, n_layers: int) -> range:
    """The layers restored together around one, cut off at both ends as in the ROME code.

    >>> window_layers(17, 10, 48)
    range(12, 22)
    """
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


@dataclass(frozen=True, eq=False)
class Tracing:
    """The runs of one prompt: `base` is patched with what `source` had; rows are samples."""

    model: HookedModel
    tokens: Int[Tensor, "1 pos"]
    span: Span
    corruption: Corruption
    noise_std: float | None
    metric: Metric
    answer: int
    foil: int | None
    clean_logits: Float[Tensor, "1 d_vocab"]
    base: Base
    source: Base
    clean: float
    corrupted: Array
    control_span: Span | None
    control: Array | None

    def score(self, logits: Float[Tensor, "row d_vocab"]) -> Float[Tensor, " row"]:
        """The metric of each row, from all logits."""
        return score(self.metric, logits, self.answer, self.foil, self.clean_logits)


def score(
    metric: Metric,
    logits: Float[Tensor, "row d_vocab"],
    answer: int,
    foil: int | None,
    clean_logits: Float[Tensor, "1 d_vocab"],
) -> Float[Tensor, " row"]:
    """The metric of rows that are all asked the same question."""
    n, device = len(logits), logits.device
    answers = Answers(
        torch.full((n,), answer, device=device),
        torch.full((n,), -1 if foil is None else foil, device=device),
        clean_logits.to(device).expand(n, -1),
    )
    return metric(logits, answers)


def maps(
    tracing: Tracing,
    kinds: Sequence[TraceKind],
    window: int,
    memory_gb: float | None,
    on_step: OnStep | None,
) -> dict[TraceKind, Array]:
    """The metric of every cell of every kind, [layer, position, sample]."""
    model, n_samples = tracing.model, len(tracing.base.tokens)
    n_layers, n_pos = model.cfg.n_layers, tracing.tokens.shape[1]
    before = np.asarray(tracing.score(tracing.base.logits).cpu())
    # Before the subject nothing is corrupted, and what is put back there is there already.
    places = [(layer, p) for layer in range(n_layers) for p in range(tracing.span[0], n_pos)]
    total = len(places) * n_samples * len(kinds)
    outputs = _outputs(tracing, {site for kind in kinds for site in SITES[kind]})
    found: dict[TraceKind, Array] = {}
    for number, kind in enumerate(kinds):
        done = number * len(places) * n_samples

        def report(n: int, _: int, done: int = done) -> None:
            if on_step is not None:
                on_step(done + n, total)

        writes, sources = _writes(tracing, kind, window, outputs)
        cells = [Cell(writes(layer, p), row) for layer, p in places for row in range(n_samples)]
        scores = run_cells(
            tracing.base, cells, sources, _reader(tracing), memory_gb=memory_gb, on_step=report
        )
        values = np.broadcast_to(before, (n_layers, n_pos, n_samples)).copy()
        values[:, tracing.span[0] :] = scores.reshape(n_layers, -1, n_samples).numpy()
        found[kind] = values
    return found


def _reader(tracing: Tracing) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, _: tracing.score(logits)


def _outputs(tracing: Tracing, sites: set[str]) -> Outputs:
    """What the sites held in the base and in the source, [sample, pos, d_model] each."""
    if not sites:
        return {}
    caches = [
        tracing.model.run_with_cache(
            run.tokens, sorted(sites), run.interventions, last_logits_only=True
        )[1]
        for run in (tracing.base, tracing.source)
    ]
    places = [(site, layer) for site in sites for layer in range(tracing.model.cfg.n_layers)]
    return {place: (caches[0][place], caches[1][place]) for place in places}


def _writes(
    tracing: Tracing, kind: TraceKind, window: int, outputs: Outputs
) -> tuple[Writes, dict[Place, Tensor]]:
    """What each cell writes, and from what."""
    n_layers = tracing.model.cfg.n_layers
    if kind in ("mlp", "attn"):
        return _window_writes(tracing, kind, window, outputs)
    sources: dict[Place, Tensor] = {
        ("resid_pre", n): tracing.source.resid[n] for n in range(1, n_layers)
    }
    sources["resid_post", n_layers - 1] = tracing.source.resid[n_layers]
    held = SITES[kind]
    for site in held:
        sources |= {(site, n): outputs[site, n][0] for n in range(n_layers)}

    def writes(layer: int, position: int) -> tuple[Write, ...]:
        at = (position,)
        if layer == n_layers - 1:
            return (Write("resid_post", layer, at),)
        later = [Write(site, n, at) for site in held for n in range(layer + 1, n_layers)]
        return (Write("resid_pre", layer + 1, at), *later)

    return writes, sources


def _window_writes(
    tracing: Tracing, kind: TraceKind, window: int, outputs: Outputs
) -> tuple[Writes, dict[Place, Tensor]]:
    """The first layer of a window enters as the residual stream that it makes at each position."""
    (site,) = SITES[kind]
    n_layers = tracing.model.cfg.n_layers
    sources: dict[Place, Tensor] = {(site, n): outputs[site, n][1] for n in range(n_layers)}
    for layer in range(n_layers - 1):
        sources["resid_pre", layer + 1] = _entry(tracing, site, layer, outputs)

    def writes(layer: int, position: int) -> tuple[Write, ...]:
        chosen, at = window_layers(layer, window, n_layers), (position,)
        first = chosen[0]
        if first == n_layers - 1:
            return (Write(site, first, at),)
        rest = [Write(site, n, at) for n in chosen[1:]]
        return (Write("resid_pre", first + 1, at), *rest)

    return writes, sources


def _entry(
    tracing: Tracing, site: str, layer: int, outputs: Outputs
) -> Float[Tensor, "sample pos d_model"]:
    """The residual stream after a block at each position, its output there being the source's.

    What one position's output changes, it changes at that position alone before the next block, so
    one run with every position's changed serves them all.
    """
    base, (old, new) = tracing.base, outputs[site, layer]
    if site == "mlp_out":
        return base.resid[layer + 1] + (new - old)
    return tracing.model.run(
        base.tokens,
        [patch(site, layer, new)],
        start_at_layer=layer,
        resid=base.resid[layer],
        stop_at_layer=layer + 1,
    )

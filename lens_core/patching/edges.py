"""Edge attribution: which part's output, read by which other part, carries the difference?

    found = edge_attribution(model, prompt_pair(model, clean, corrupted, " Paris", " Rome"))
    print(found.to_frame().head())
    print(edge_effects(model, pair, found.top(10)))      # the same edges patched for real

The score of an edge from u to v estimates what the metric of the clean run gains if v, and v alone,
reads what u wrote in the corrupted run: (u corrupted - u clean) · gradient at v's input, summed
over positions, for all edges at once from two runs and one gradient. An edge that helps the answer
has a score below zero. It is a first-order estimate: saturated softmaxes and nodes that cancel give
it wrong, so patch the edges that matter with `edge_effects`, and judge a circuit by what it does,
not by its scores.

EAP: Syed et al. 2023 (arXiv 2310.10348). EAP-IG, the gradient averaged on the way from the
corrupted embeddings to the clean ones: Hanna et al. 2024 (arXiv 2403.17806).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.interventions import Intervention, add, patch
from lens_core.lens.head import head_logits
from lens_core.model.cache import ActivationCache
from lens_core.patching.alignment import PromptPair
from lens_core.patching.edge_graph import Array, Edge, EdgeAttribution, EdgeGraph
from lens_core.patching.errors import PatchingError
from lens_core.patching.metrics import Answers, Metric, as_metric

if TYPE_CHECKING:
    from lens_core import HookedModel

OnStep = Callable[[int, int], None]
_TOKENS_AT_ONCE = 512
_EDGES_AT_ONCE = 64


def edge_attribution(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    *,
    metric: Metric | str = "logit_difference",
    ig_steps: int = 1,
    on_step: OnStep | None = None,
) -> EdgeAttribution:
    """Score every edge of a model, averaged over prompt pairs.

    Args:
        pairs: clean and corrupted prompts whose positions agree.
        metric: as in `lens_core.patching.metrics`, differentiable.
        ig_steps: gradients to average, at embeddings k / ig_steps of the way from corrupted to
            clean; 1: at the clean ones alone, which is EAP.
        on_step: called with the gradients done and of all; what it raises ends the work.

    Raises:
        PatchingError: no pairs, a pair whose positions do not agree or that lacks a foil, or blocks
            whose parts cannot be told apart.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.patching.alignment import prompt_pair
        >>> model = HookedModel.from_pretrained("glass-induction")
        >>> pair = prompt_pair(model, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
        >>> edge_attribution(model, pair).top(1)
        (('1.1', 'logits'),)
    """
    pairs, measure = _checked(pairs, metric)
    if ig_steps < 1:
        raise PatchingError("Integrated gradients need one step or more.")
    graph = EdgeGraph.of(model)
    values = np.zeros((len(graph.senders), len(graph.receivers), len(pairs)))
    groups = _batches(pairs)
    for done, group in enumerate(groups):
        runs = _Runs(model, [pairs[i] for i in group], measure)

        def report(step: int, done: int = done) -> None:
            if on_step is not None:
                on_step(done * ig_steps + step, len(groups) * ig_steps)

        values[:, :, group] = runs.scores(graph, ig_steps, report)
    values[~graph.exists] = np.nan
    return EdgeAttribution(
        model_name=model.cfg.name,
        graph=graph,
        metric=measure.name,
        unit=measure.unit,
        ig_steps=ig_steps,
        values=values,
    )


def edge_effects(
    model: HookedModel,
    pairs: PromptPair | Sequence[PromptPair],
    edges: Sequence[Edge],
    *,
    metric: Metric | str = "logit_difference",
    on_step: OnStep | None = None,
) -> Float[np.ndarray, "edge pair"]:
    """What patching single edges does to the metric, by running the model: the truth of the scores.

    The receiver alone reads the residual stream with the sender's corrupted output in place of its
    clean one; all that comes after follows freely.

    Args:
        edges: pairs of names, as in `EdgeAttribution.graph`.
        on_step: called with the batches done and of all.

    Raises:
        PatchingError: there is no such edge; and as `edge_attribution`.
    """
    pairs, measure = _checked(pairs, metric)
    graph = EdgeGraph.of(model)
    for edge in edges:
        graph.check(edge)
    chunks = [edges[i : i + _EDGES_AT_ONCE] for i in range(0, len(edges), _EDGES_AT_ONCE)]
    found = np.zeros((len(edges), len(pairs)))
    with torch.no_grad():
        for number, pair in enumerate(pairs):
            runs = _Runs(model, [pair], measure)
            for done, chunk in enumerate(chunks):
                start = done * _EDGES_AT_ONCE
                found[start : start + len(chunk), number] = runs.effects(graph, chunk)
                if on_step is not None:
                    on_step(number * len(chunks) + done + 1, len(pairs) * len(chunks))
    return found


def _checked(
    pairs: PromptPair | Sequence[PromptPair], metric: Metric | str
) -> tuple[list[PromptPair], Metric]:
    pairs = [pairs] if isinstance(pairs, PromptPair) else list(pairs)
    measure = as_metric(metric)
    if not pairs:
        raise PatchingError("There are no prompt pairs; give at least one.")
    if any(not pair.same_length or any(pair.padding) for pair in pairs):
        raise PatchingError(
            "Edges are patched at every position, so both prompts of a pair need as many tokens, "
            "without padding."
        )
    if measure.needs_foil and any(pair.foil is None for pair in pairs):
        raise PatchingError(f"The {measure.name} needs a wrong answer; give each pair a foil.")
    return pairs, measure


def _batches(pairs: Sequence[PromptPair]) -> list[list[int]]:
    """Pairs of one length, a few at a time."""
    by_length: dict[int, list[int]] = {}
    for i, pair in enumerate(pairs):
        by_length.setdefault(len(pair.clean), []).append(i)
    batches = []
    for length, same in by_length.items():
        size = max(1, _TOKENS_AT_ONCE // length)
        batches += [same[i : i + size] for i in range(0, len(same), size)]
    return batches


class _Runs:
    """Pairs of one length, run clean and corrupted."""

    def __init__(self, model: HookedModel, pairs: Sequence[PromptPair], metric: Metric) -> None:
        self.model, self.metric = model, metric
        self.tokens = torch.stack([pair.clean for pair in pairs]).to(model.cfg.device)
        corrupted = torch.stack([pair.corrupted for pair in pairs]).to(model.cfg.device)
        names = ["z", "mlp_out", "resid_pre", "resid_post"]
        with torch.no_grad():
            logits, self.clean = model.run_with_cache(self.tokens, names, last_logits_only=True)
            _, self.corrupted = model.run_with_cache(corrupted, names, last_logits_only=True)
        self.answers = Answers(
            torch.tensor([pair.answer for pair in pairs], device=logits.device),
            torch.tensor(
                [-1 if pair.foil is None else pair.foil for pair in pairs], device=logits.device
            ),
            logits[:, -1],
        )

    @torch.no_grad()
    def changes(self) -> Float[Tensor, "sender row pos d_model"]:
        """What each sender writes in the corrupted runs less what it writes in the clean ones."""
        parts = [(self.corrupted["resid_pre", 0] - self.clean["resid_pre", 0])[None]]
        for layer in range(self.model.cfg.n_layers):
            z = self.corrupted["z", layer] - self.clean["z", layer]
            parts.append(self.model.head_out(z, layer).permute(2, 0, 1, 3))
            mlp = self.corrupted["mlp_out", layer] - self.clean["mlp_out", layer]
            parts.append(mlp[None])
        return torch.cat(parts).float()

    def scores(self, graph: EdgeGraph, steps: int, report: Callable[[int], None]) -> Array:
        """Change of the sender times gradient at the receiver, [sender, receiver, row]."""
        changes = self.changes()
        start, end = self.corrupted["resid_pre", 0], self.clean["resid_pre", 0]
        total = np.zeros((len(graph.senders), len(graph.receivers), len(self.tokens)))
        for step in range(1, steps + 1):
            gradients = self._gradients(graph, start + (step / steps) * (end - start))
            products = torch.einsum("urpd,vrpd->uvr", changes, gradients.float())
            total += products.cpu().numpy() / steps
            report(step)
        return total

    def _gradients(
        self, graph: EdgeGraph, embeddings: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "receiver row pos d_model"]:
        """The metric's gradient at each receiver's input in the residual stream.

        What flows back through one head's queries alone is a product with the Jacobian from the
        block's input to its queries, the model's own code in between: norm, projection, rotation.
        """
        model, n_layers = self.model, self.model.cfg.n_layers
        names = ["q", "k", "v", "mlp_out", "resid_pre", "resid_post"]
        if any(not graph.parallel(layer) for layer in range(n_layers)):
            names.append("resid_mid")
        logits, cache = model.run_with_cache(
            self.tokens, names, resid=embeddings, last_logits_only=True, grad=True
        )
        value = self.metric(logits[:, -1], self.answers).sum()
        inputs = [cache[site, n] for n in range(n_layers) for site in ("q", "k", "v", "mlp_out")]
        inputs.append(cache["resid_post", n_layers - 1])
        flowing = torch.autograd.grad(value, inputs, retain_graph=True)
        found = []
        for layer in range(n_layers):
            into = cache["resid_pre", layer]
            for site, gradient in zip(("q", "k", "v"), flowing[4 * layer :], strict=False):
                found.append(_by_head(cache[site, layer], into, gradient))
            read = into if graph.parallel(layer) else cache["resid_mid", layer]
            out, gradient = cache["mlp_out", layer], flowing[4 * layer + 3]
            found.append(torch.autograd.grad(out, read, gradient, retain_graph=True)[0][None])
        return torch.cat([*found, flowing[-1][None]]).detach()

    def effects(self, graph: EdgeGraph, edges: Sequence[Edge]) -> Array:
        """The metric with each edge patched less the clean one, of the one pair."""
        changes = self.changes()[:, 0].to(self.clean["resid_pre", 0].dtype)
        base = float(self.metric(self.answers.clean_logits, self.answers)[0])  # type: ignore[arg-type]
        found = np.zeros(len(edges))
        for layer in sorted({graph.layer_of(receiver) for _, receiver in edges}):
            chosen = [i for i, (_, v) in enumerate(edges) if graph.layer_of(v) == layer]
            senders = [graph.senders.index(edges[i][0]) for i in chosen]
            receivers = [edges[i][1] for i in chosen]
            logits = self._patched(graph, layer, changes[senders], receivers)
            answers = self.answers.rows(torch.zeros(len(chosen), dtype=torch.long))
            found[chosen] = self.metric(logits, answers).cpu().numpy() - base
        return found

    def _patched(
        self,
        graph: EdgeGraph,
        layer: int,
        changes: Float[Tensor, "edge pos d_model"],
        receivers: Sequence[str],
    ) -> Float[Tensor, "edge d_vocab"]:
        """Logits with the input of one receiver a row changed; the receivers are of one layer."""
        model, n = self.model, len(receivers)
        if layer == model.cfg.n_layers:
            last = self.clean["resid_post", layer - 1][:, -1] + changes[:, -1]
            return head_logits(model, last)
        tokens, resid = self.tokens.expand(n, -1), self.clean["resid_pre", layer].expand(n, -1, -1)
        sites = ["q", "k", "v", "mlp_out"]
        read = self._reread(graph, layer, tokens, resid, changes, sites)
        edits: list[Intervention] = []
        for row, receiver in enumerate(receivers):
            site, head = graph.input_of(receiver)
            edits.append(patch(site, layer, read[site], source_rows=[row], rows=[row], heads=head))
        return model.run(tokens, edits, start_at_layer=layer, resid=resid, last_logits_only=True)[
            :, -1
        ]

    def _reread(
        self,
        graph: EdgeGraph,
        layer: int,
        tokens: Tensor,
        resid: Tensor,
        changes: Tensor,
        sites: list[str],
    ) -> dict[str, Tensor]:
        """What a block's q, k, v and MLP output are where they read the changed stream."""
        places = [(site, layer) for site in sites]

        def caches(resid: Tensor, edits: Sequence[Intervention]) -> ActivationCache:
            return self.model.run_with_cache(
                tokens, places, edits, layer + 1, start_at_layer=layer, resid=resid
            )[1]

        heads = caches(resid + changes, ())
        found = {site: heads[site, layer] for site in sites}
        if not graph.parallel(layer):
            found["mlp_out"] = caches(resid, [add("resid_mid", layer, changes)])["mlp_out", layer]
        return found


def _by_head(
    output: Float[Tensor, "row pos head d_head"],
    into: Float[Tensor, "row pos d_model"],
    gradient: Float[Tensor, "row pos head d_head"],
) -> Float[Tensor, "head row pos d_model"]:
    """The part of the gradient that comes through each head alone."""
    found = []
    for head in range(output.shape[2]):
        only = torch.zeros_like(gradient)
        only[:, :, head] = gradient[:, :, head]
        found.append(torch.autograd.grad(output, into, only, retain_graph=True)[0])
    return torch.stack(found)

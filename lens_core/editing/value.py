"""v*: what should stand at the subject's last token so that the model gives the new answer.

The same search serves ROME, which wants the output of one MLP (Meng et al. 2022, 3.1 step 2), and
MEMIT, which wants the residual stream after one layer (Meng et al. 2023, 4.3.1). Many facts are
searched for at once: each has its own change, its own contexts, and stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.contexts import Contexts, default_contexts
from lens_core.editing.edit import EditTrace, OptimisationStep
from lens_core.editing.keys import added_per_output
from lens_core.editing.requests import LocatedRequest
from lens_core.editing.resume import Resumed
from lens_core.editing.rows import Row, answer_rows, still_rows
from lens_core.editing.settings import ValueSettings

if TYPE_CHECKING:
    from lens_core import HookedModel

Where = Literal["mlp_out", "resid_post"]
OnStep = Callable[[int, int], None]
OnTrace = Callable[[EditTrace], None]
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_SURE = 0.75  # of the whole answer, with room for what an edit does at other tokens
_CPU_GB, _GPU_GB = 0.5, 4.0


@dataclass(frozen=True, eq=False)
class Values:
    """What was found for each fact.

    Attributes:
        start: Float [fact, d_model], what stood there in the bare prompt; delta: what v* adds.
        mean_key, bare_key: Float [fact, d_mlp], the input of the layer's W_out at the subject's
            last token: the mean over the contexts, and the bare prompt's.
        steps: the loss at every step of every fact.
    """

    start: Float[Tensor, "fact d_model"]
    delta: Float[Tensor, "fact d_model"]
    mean_key: Float[Tensor, "fact d_mlp"]
    bare_key: Float[Tensor, "fact d_mlp"]
    steps: tuple[OptimisationStep, ...]

    @property
    def wanted(self) -> Float[Tensor, "fact d_model"]:
        """v* (ROME) or z (MEMIT)."""
        return self.start + self.delta


def optimise_values(
    model: HookedModel,
    requests: Sequence[LocatedRequest],
    settings: ValueSettings,
    layer: int,
    *,
    at: Where = "mlp_out",
    contexts: Contexts | None = None,
    memory_gb: float | None = None,
    on_step: OnStep | None = None,
    on_trace: OnTrace | None = None,
) -> Values:
    """Find the value of each request by gradient descent on the change that it takes.

    Minimised for each: the mean negative log-probability of the new answer's tokens over its
    contexts under the share `reach` of the change, `kl_factor` times the KL divergence from the
    unchanged model on the KL prompts under all of it, and `weight_decay` times the change's length
    over the squared length of what it changes. Adam; after each step the change is cut to `clamp`
    times that length. The first step changes nothing yet, and the last only measures, as in the
    published code.

    Args:
        requests: from `EditRequest.tokenize`.
        layer: whose MLP output, or after which the residual stream, is changed.
        at: "mlp_out" or "resid_post".
        contexts: prefixes; None: `default_contexts`.
        memory_gb: about how much memory a batch may take; None: 0.5 on a CPU, 4 on a GPU.
        on_step: called with the number of steps done and of all that there may be; what it raises
            ends the search.
        on_trace: called with the steps so far, as often.

    Raises:
        EditingError: the layer cannot be edited, or the model cannot be resumed after it.
    """
    if contexts is None:
        contexts = default_contexts(model, settings.n_contexts, settings.seed)
    search = _Search(model, settings, layer, at, on_step, on_trace, len(requests))
    rows = [_rows_of(model, request, settings, contexts) for request in requests]
    found: dict[int, tuple[Tensor, ...]] = {}
    for chunk in _chunks(model, rows, layer, memory_gb):
        found |= search.run(chunk, [rows[i] for i in chunk])
    parts = [torch.stack(part) for part in zip(*(found[i] for i in sorted(found)), strict=True)]
    steps = tuple(sorted(search.steps, key=lambda s: (s.request, s.step)))
    return Values(parts[0], parts[1], parts[2], parts[3], steps)


def _rows_of(
    model: HookedModel, located: LocatedRequest, settings: ValueSettings, contexts: Contexts
) -> list[Row]:
    request = located.request
    words = (request.subject, request.target_new, request.target_true)
    rows = answer_rows(model, located, contexts.take(settings.n_contexts, words))
    trained = len(rows) if settings.n_trained is None else settings.n_trained
    whole = [replace(rows[0], is_context=False)] if settings.reach < 1 else []
    rows = rows[:trained] + [row.key_only for row in rows[trained:]] + whole
    if settings.kl_factor > 0:
        rows += still_rows(model, located, settings.kl_prompts, settings.seed)
    return rows


def _chunks(
    model: HookedModel, rows: list[list[Row]], layer: int, memory_gb: float | None
) -> list[list[int]]:
    """Facts that are searched for together: alike in length, and few enough for the memory."""
    cfg = model.cfg
    if memory_gb is None:
        memory_gb = _CPU_GB if cfg.device.type == "cpu" else _GPU_GB
    tails = [max(len(row.ids) - row.subject for row in fact) for fact in rows]
    longest = max(len(row.ids) for fact in rows for row in fact)
    d_mlp = cfg.d_mlp or 4 * cfg.d_model
    per_layer = 12 * cfg.d_model + 4 * d_mlp + 4 * cfg.n_heads * longest
    limit = memory_gb * 1e9 / (4 * max(1, cfg.n_layers - layer - 1) * per_layer)
    chunks: list[list[int]] = []
    room = 0.0
    for i in sorted(range(len(rows)), key=lambda i: tails[i]):
        cost = len(rows[i]) * tails[i]
        if cost > room or not chunks:
            chunks.append([])
            room = limit
        chunks[-1].append(i)
        room -= cost
    return chunks


class _Search:
    """The search for all facts, chunk by chunk."""

    def __init__(
        self,
        model: HookedModel,
        settings: ValueSettings,
        layer: int,
        at: Where,
        on_step: OnStep | None,
        on_trace: OnTrace | None,
        n_facts: int,
    ) -> None:
        self.model, self.settings, self.layer, self.at = model, settings, layer, at
        self.on_step, self.on_trace = on_step, on_trace
        self.n_all, self.n_done = n_facts * settings.steps, 0
        self.steps: list[OptimisationStep] = []

    def run(self, facts: list[int], rows: list[list[Row]]) -> dict[int, tuple[Tensor, ...]]:
        """Search for some facts: start, delta, mean key and bare key of each."""
        s = self.settings
        resumed = Resumed(self.model, [row for fact in rows for row in fact], self.layer)
        loss = _Loss(resumed, rows, s.reach)
        start, factor = loss.bare(resumed.resid), 1.0
        if self.at == "mlp_out":
            factor = added_per_output(self.model, self.layer, resumed.keys, resumed.values)
            start = loss.bare(resumed.values) / factor
        delta = torch.zeros_like(start, dtype=torch.float32)
        size = start.float().norm(dim=-1)
        adam = _Adam(delta, s.lr)
        active = torch.arange(len(facts), device=delta.device)
        last = delta.clone()
        for step in range(s.steps):
            now = delta[active].requires_grad_()
            parts = loss(factor * now, active)
            decay = s.weight_decay * now.norm(dim=-1) / size[active] ** 2
            total = parts.nll + s.kl_factor * parts.kl + decay
            self._note([facts[i] for i in active.tolist()], step, parts, decay, total)
            self._tell((len(facts) - len(active)) * s.steps + len(active) * (step + 1))
            going = ~parts.enough(total.detach(), s)
            if step > 0:
                self._settle(loss, factor, last, delta, active[~going])
            if step == s.steps - 1 or not bool(going.any()):
                break
            (grad,) = torch.autograd.grad(total[going].sum(), now)
            active = active[going]
            last[active] = delta[active]
            adam.step(active, grad[going])
            longest = s.clamp * size[active]
            length = delta[active].norm(dim=-1).clamp(min=1e-12)
            delta[active] *= (longest / length).clamp(max=1.0)[:, None]
        self.n_done += len(facts) * s.steps
        keys = loss.mean(resumed.keys), loss.bare(resumed.keys)
        return {
            fact: (start[i].float(), delta[i], keys[0][i].float(), keys[1][i].float())
            for i, fact in enumerate(facts)
        }

    def _settle(
        self, loss: _Loss, factor: float, last: Tensor, delta: Tensor, done: Tensor
    ) -> None:
        """Take back of the last step of some facts what they do not need, by halving."""
        s = self.settings
        for _ in range(s.settle if len(done) else 0):
            middle = (last[done] + delta[done]) / 2
            with torch.no_grad():
                parts = loss(factor * middle, done)
            enough = parts.enough(parts.nll + s.kl_factor * parts.kl, s)
            delta[done[enough]], last[done[~enough]] = middle[enough], middle[~enough]

    def _note(
        self, facts: list[int], step: int, parts: _Parts, decay: Tensor, total: Tensor
    ) -> None:
        kl = self.settings.kl_factor * parts.kl
        columns = (parts.nll, kl, decay, total, parts.p_new)
        numbers = torch.stack([c.detach().float() for c in columns], dim=1).tolist()
        for fact, line in zip(facts, numbers, strict=True):
            self.steps.append(OptimisationStep(fact, step, *line))

    def _tell(self, n_steps: int) -> None:
        if self.on_trace is not None:
            self.on_trace(EditTrace(steps=tuple(self.steps)))
        if self.on_step is not None:
            self.on_step(self.n_done + n_steps, self.n_all)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Of each fact that is still searched for: Float [active] each."""

    nll: Tensor
    kl: Tensor
    p_new: Tensor

    def enough(self, loss: Tensor, settings: ValueSettings) -> Tensor:
        """Which facts need no further step.

        A mean over contexts can be small while the bare prompt's answer is not the likeliest.
        """
        said = self.p_new > _SURE if settings.reach < 1 else torch.ones_like(loss).bool()
        return (loss < settings.enough_nats) & said


class _Loss:
    """What is minimised for each fact of a batch."""

    def __init__(self, resumed: Resumed, rows: list[list[Row]], reach: float) -> None:
        self.resumed = resumed
        batch, device = resumed.batch, resumed.batch.subject.device
        counts = [len(fact) for fact in rows]
        flat = [row for fact in rows for row in fact]
        self.fact_of_row = torch.arange(len(rows), device=device).repeat_interleave(
            torch.tensor(counts, device=device)
        )
        self.bare_row = torch.tensor([sum(counts[:i]) for i in range(len(counts))], device=device)
        self.has_loss = torch.tensor([bool(row.wanted) for row in flat], device=device)
        whole = [i for i, row in enumerate(flat) if row.targets and not row.is_context]
        self.told_row = torch.tensor(whole, device=device) if whole else self.bare_row
        self.is_context = torch.tensor([row.is_context for row in flat], device=device)
        self.share = torch.where(self.is_context, reach, 1.0)[:, None]
        targets = [t for row in flat for t in (row.targets or (-1,) * len(row.wanted))]
        self.target = torch.tensor(targets, device=device)
        self.fact = self.fact_of_row[batch.wanted_row]
        self.trains = self.target >= 0
        self.weight = self._weights(len(rows))
        still = self.unchanged(~self.trains)
        self.before = still.log_softmax(dim=-1)

    def _weights(self, n_facts: int) -> Tensor:
        """One over the number of wanted tokens of the same fact and kind."""
        kind = 2 * self.fact + self.trains
        return 1.0 / torch.bincount(kind, minlength=2 * n_facts)[kind]

    def unchanged(self, chosen: Tensor) -> Tensor:
        """The first run's logits at some of the wanted positions."""
        if not bool(chosen.any()):
            return torch.zeros(0, 1, device=chosen.device)
        return self.resumed.unchanged_logits(chosen)

    def bare(self, x: Tensor) -> Tensor:
        """Of a tensor by row, the bare prompts' rows."""
        return x[self.bare_row]

    def mean(self, x: Tensor) -> Tensor:
        """Of a tensor by row, the mean over each fact's contexts."""
        context = self.is_context
        fact = self.fact_of_row[context]
        total = torch.zeros(len(self.bare_row), x.shape[1], dtype=torch.float64, device=x.device)
        total.index_add_(0, fact, x[context].double())
        return (total / torch.bincount(fact, minlength=len(total))[:, None]).to(x.dtype)

    def __call__(self, change: Tensor, active: Tensor) -> _Parts:
        """The parts of the loss of some facts, under a change [active, d_model] of each."""
        local = torch.full_like(self.bare_row, -1)
        local[active] = torch.arange(len(active), device=active.device)
        rows = ((local[self.fact_of_row] >= 0) & self.has_loss).nonzero()[:, 0]
        of_row = change[local[self.fact_of_row[rows]]] * self.share[rows]
        logits = self.resumed.logits(of_row, rows)
        here = local[self.fact] >= 0
        log_probs = logits.log_softmax(dim=-1)
        trains, weight, fact = self.trains[here], self.weight[here], local[self.fact[here]]
        said = log_probs[trains].gather(1, self.target[here][trains][:, None])[:, 0]
        drift = _drift(log_probs[~trains], self.before[here[~self.trains]])
        nothing = change.new_zeros(len(active), dtype=torch.float32)
        nll = nothing.index_add(0, fact[trains], -said * weight[trains])
        kl = nothing.index_add(0, fact[~trains], drift * weight[~trains])
        told = torch.isin(self.resumed.batch.wanted_row[here][trains], self.told_row)
        whole = nothing.index_add(0, fact[trains][told], said.detach()[told])
        return _Parts(nll, kl, whole.exp())


def _drift(
    after: Float[Tensor, "n d_vocab"], before: Float[Tensor, "n d_vocab"]
) -> Float[Tensor, " n"]:
    """KL(after || before) of log-probabilities, in the direction of paper and published code."""
    return (after.exp() * (after - before)).sum(dim=-1) if len(after) else after.sum(dim=-1)


class _Adam:
    """Adam (Kingma and Ba 2015) on the rows of a matrix that still move; each as if alone."""

    def __init__(self, x: Tensor, lr: float) -> None:
        self.x, self.lr, self.t = x, lr, 0
        self.first, self.second = torch.zeros_like(x), torch.zeros_like(x)

    def step(self, rows: Tensor, grad: Tensor) -> None:
        """Move some rows against their gradient."""
        self.t += 1
        self.first[rows] += (1 - _BETAS[0]) * (grad - self.first[rows])
        self.second[rows] += (1 - _BETAS[1]) * (grad**2 - self.second[rows])
        mean = self.first[rows] / (1 - _BETAS[0] ** self.t)
        size = (self.second[rows] / (1 - _BETAS[1] ** self.t)).sqrt()
        self.x[rows] -= self.lr * mean / (size + _EPSILON)

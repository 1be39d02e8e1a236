"""What an editing method must beat: fine-tuning one layer, and saying the fact in the prompt.

    edit = fine_tune(model, request)                       # FT, and with a norm constraint FT+L
    edit = in_context(model, request)
    model.run(edit.prefix + "The Eiffel Tower is in")

Both give an `Edit` as `rome` does, so the same scores can be laid beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.edit import Edit, EditTrace, OptimisationStep
from lens_core.editing.errors import EditingError
from lens_core.editing.presets import preset
from lens_core.editing.requests import EditRequest, LocatedRequest, as_requests
from lens_core.editing.rows import Batch, Row, answer_rows
from lens_core.editing.settings import FineTuneSettings
from lens_core.editing.spread import refuse_ambient
from lens_core.editing.weights import fingerprint
from lens_core.interventions import Intervention, low_rank

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.editing.covariance import KeyCovariance

OnStep = Callable[[int, int], None]
# Rows whose activations are held at one time for the gradient.
_ROWS = 64


def fine_tune(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    settings: FineTuneSettings | None = None,
    covariance: KeyCovariance | None = None,
    on_step: OnStep | None = None,
) -> Edit:
    """Fine-tune one layer's W_out until the model gives the new answers (FT, FT+L).

    The baselines of Meng et al. 2022 (after Zhu et al. 2020): Adam on the mean negative
    log-probability of the answers after their bare prompts, all requests in every step; with
    ``constrained`` no entry of the weight moves by more than ``bound`` (FT+L). The difference is
    held as an intervention; the weights stay as they are.

    Args:
        settings: None: the preset of the model.
        covariance: not used; there so that every method is called in the same way.
        on_step: called with the number of steps done and the most there can be; what it raises
            ends the edit and leaves nothing behind.

    Raises:
        EditingError: a request does not fit the model, or the layer has no W_out of its own.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome")
        >>> edit = fine_tune(model, request)
        >>> model.to_string(model.run(request.prompt, edit.interventions)[0, -1].argmax()[None])
        ' Rome'
    """
    many = as_requests(requests)
    refuse_ambient(model)
    if settings is None:
        settings = preset(model, "ft").settings
    layer = model.resolve_layer(settings.layer)
    d_in, d_out = model._projection_sizes("mlp_out", layer)
    batches = _in_batches(model, [request.tokenize(model) for request in many], layer)
    delta = torch.zeros(d_in, d_out, device=model.cfg.device)
    optimiser = torch.optim.Adam([delta], lr=settings.lr, weight_decay=settings.weight_decay)
    steps: list[OptimisationStep] = []
    for step in range(settings.steps + 1):
        logprobs, gradient = _measure(model, batches, layer, delta, len(many))
        steps += [_step(number, step, found) for number, found in enumerate(logprobs)]
        loss = sum(-float(found.mean()) for found in logprobs) / len(many)
        if loss < settings.enough_nats or step == settings.steps:
            break
        delta.grad = gradient
        optimiser.step()
        if settings.constrained:
            delta.clamp_(-settings.bound, settings.bound)
        if on_step is not None:
            on_step(step + 1, settings.steps)
    return _edit_of(model, many, settings, layer, delta, steps)


def _edit_of(
    model: HookedModel,
    requests: tuple[EditRequest, ...],
    settings: FineTuneSettings,
    layer: int,
    delta: Float[Tensor, "d_mlp d_model"],
    steps: Sequence[OptimisationStep],
) -> Edit:
    name = "ft+l" if settings.constrained else "ft"
    term = low_rank("mlp_out", layer, delta.cpu(), torch.eye(delta.shape[1]), name=name)
    return Edit(
        method=name,
        requests=requests,
        layers=(layer,),
        terms=(term,),
        trace=EditTrace(tuple(steps)),
        settings=settings,
        model_name=model.base.cfg.name,
        fingerprint=fingerprint(model.base),
    )


def in_context(
    model: HookedModel,
    requests: EditRequest | Sequence[EditRequest],
    settings: None = None,
    covariance: KeyCovariance | None = None,
    on_step: OnStep | None = None,
) -> Edit:
    """Say the new facts before the prompt and change no weight (as Cohen et al. 2024 compare with).

    Args:
        settings, covariance, on_step: not used; there so that every method is called in the same
            way.

    Returns:
        An edit without interventions, whose ``prefix`` goes directly before each prompt.

    Raises:
        EditingError: a request does not fit the model, or the facts leave no room for a prompt.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> in_context(model, EditRequest("The Louvre is in", "The Louvre", "Rome")).prefix
        'The Louvre is in Rome. '
    """
    many = as_requests(requests)
    located = [request.tokenize(model) for request in many]
    prefix = "".join(f"{r.prompt.rstrip()} {r.target_new.strip()}. " for r in many)
    room = max(at.tokens.shape[1] + len(at.target_ids) for at in located)
    used = len(model.tokenizer.encode(prefix, add_special_tokens=False)) + room
    if model.cfg.n_ctx is not None and used > model.cfg.n_ctx:
        raise EditingError(
            f"{len(many)} facts and a prompt are {used} tokens of text and {model.cfg.name} reads "
            f"at most {model.cfg.n_ctx}; give fewer facts."
        )
    return Edit(
        method="in-context",
        requests=many,
        layers=(),
        terms=(),
        trace=EditTrace(),
        settings=None,
        model_name=model.base.cfg.name,
        fingerprint=fingerprint(model.base),
        prefix=prefix,
    )


class _Answers:
    """Prompts with their answers, and the residual stream in front of the edited layer.

    Attributes:
        numbers: their requests; targets: Int [wanted], the answers' tokens; lengths: of each.
    """

    def __init__(self, model: HookedModel, rows: Sequence[tuple[int, Row]], layer: int) -> None:
        self.numbers = [number for number, _ in rows]
        self.lengths = [len(row.targets) for _, row in rows]
        device = model.cfg.device
        self.targets = torch.tensor([i for _, row in rows for i in row.targets], device=device)
        self.batch = Batch.of([row for _, row in rows], device, model.pad_id)
        self.resid = model.run(
            self.batch.tokens, stop_at_layer=layer, attention_mask=self.batch.mask
        )

    def logprobs(
        self, model: HookedModel, term: Intervention, layer: int
    ) -> tuple[Float[Tensor, " target"], ...]:
        """Log-probability of every token of every answer, with gradient."""
        batch = self.batch
        end = model.run(
            batch.tokens,
            [term],
            start_at_layer=layer,
            resid=self.resid,
            stop_at_layer=model.cfg.n_layers,
            attention_mask=batch.mask,
            grad=True,
        )
        logits = model.unembed(model.ln_final(end[batch.wanted_row, batch.wanted_column]))
        found = logits.float().log_softmax(-1).gather(-1, self.targets[:, None])[:, 0]
        return found.split(self.lengths)


def _in_batches(
    model: HookedModel, located: Sequence[LocatedRequest], layer: int
) -> list[_Answers]:
    rows = [(n, answer_rows(model, at, ("",))[0]) for n, at in enumerate(located)]
    rows.sort(key=lambda row: len(row[1].ids))
    return [_Answers(model, rows[i : i + _ROWS], layer) for i in range(0, len(rows), _ROWS)]


def _measure(
    model: HookedModel, batches: Sequence[_Answers], layer: int, delta: Tensor, n: int
) -> tuple[list[Float[Tensor, " target"]], Float[Tensor, "d_in d_out"]]:
    """Log-probability of each request's answer tokens, and the gradient of their mean loss."""
    found: list[Tensor] = [torch.empty(0)] * n
    gradient = torch.zeros_like(delta)
    weight = delta.detach().requires_grad_()
    term = low_rank("mlp_out", layer, weight, torch.eye(delta.shape[1], device=delta.device))
    with torch.enable_grad():
        for batch in batches:
            parts = batch.logprobs(model, term, layer)
            loss = -torch.stack([part.mean() for part in parts]).sum() / n
            gradient += torch.autograd.grad(loss, weight)[0]
            for number, part in zip(batch.numbers, parts, strict=True):
                found[number] = part.detach().cpu()
    return found, gradient


def _step(number: int, step: int, logprobs: Float[Tensor, " target"]) -> OptimisationStep:
    nll = -float(logprobs.mean())
    return OptimisationStep(number, step, nll, 0.0, 0.0, nll, float(logprobs.sum().exp()))

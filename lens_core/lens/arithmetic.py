"""One cell of a lens worked out step by step, in the numbers that a learner can recompute.

    work = cell_arithmetic(model, "The Eiffel Tower is in", layer=5, token=" Paris")
    print(work.to_frame())

What it answers: how a state becomes the probability of one token: its length, what the lens
changes, the final norm, the dot product with the token's row of the unembedding, the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.lens.head import head_logits
from lens_core.lens.read import one_prompt, row_keys, row_layer, target_id
from lens_core.lens.token_text import token_text
from lens_core.lens.transports import LogitLens, Transport, depth_of
from lens_core.model.errors import UnknownSiteError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


@dataclass(frozen=True)
class CellArithmetic:
    """The steps from one state to the probability of one token.

    ``dot`` + ``bias`` + ``further`` is ``logit``; ``further`` is what a soft-cap or a scale of the
    head does after the product, 0 for most models. ``probability`` is
    exp(``logit`` - ``log_normaliser``).
    """

    token: str
    lens_name: str
    state_norm: float
    change_norm: float  # length of what the lens adds
    carried_norm: float
    norm_divisor: float  # by what the final norm divides the carried (and centred) state
    normed_norm: float
    row_norm: float  # length of the token's row of the unembedding
    cosine: float
    dot: float
    bias: float
    further: float
    logit: float
    log_normaliser: float
    probability: float

    def to_frame(self) -> pd.DataFrame:
        """One line a step: what, formula, number."""
        import pandas as pd

        rows = [("length of the state", "|h|", self.state_norm)]
        if self.lens_name != "logit":
            rows += [
                (f"what the {self.lens_name} lens changes", "|h' - h|", self.change_norm),
                ("length after the lens", "|h'|", self.carried_norm),
            ]
        rows += [
            ("the final norm divides by", "s", self.norm_divisor),
            ("length after the final norm", "|n|", self.normed_norm),
            ("length of the token's unembedding row", "|w|", self.row_norm),
            ("cosine between the two", "cos", self.cosine),
            ("dot product", "n . w = |n| |w| cos", self.dot),
        ]
        if self.bias:
            rows.append(("bias of the head", "b", self.bias))
        if self.further:
            rows.append(("the head's soft-cap or scale", "f", self.further))
        rows += [
            ("logit: the sum", "z = n . w" + " + b" * bool(self.bias) + " + f" * bool(self.further),
             self.logit),
            ("all tokens' logits together", "Z = log sum exp z", self.log_normaliser),
            ("probability", "exp(z - Z)", self.probability),
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["step", "formula", "number"])


def cell_arithmetic(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    lens: Transport | None = None,
    *,
    layer: int,
    position: int = -1,
    token: int | str | None = None,
    site: str = "resid_post",
) -> CellArithmetic:
    """The cell of ``read_lens(...)`` in the row of that layer (-1 is the embedding), in numbers.

    ``token`` is the model's own final answer there unless given.

    Raises:
        UnknownSiteError: there is no such row.
        What `read_lens` raises.
    """
    lens = lens or LogitLens()
    lens.check(model)
    tokens = one_prompt(model, prompt_or_tokens)
    rows = {row_layer(site, key): key for key in row_keys(site, model.cfg.n_layers)}
    if layer not in rows:
        raise UnknownSiteError(f"{site} has rows {min(rows)} to {max(rows)}; there is no {layer}.")
    key = rows[layer]
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names=[key])
        chosen = int(logits[0, position].argmax()) if token is None else target_id(model, token)
        state = cache[key]
        carried = lens.carry(model, state, depth_of(*key))
        before, after = state[0, position].float(), carried[0, position].float()
        normed = model.ln_final(carried.to(model.cfg.dtype))[0, position].float()
        divisor = _divisor(model, carried)[0, position]
        all_logits = head_logits(model, carried)[0, position]
        row, bias = model.W_U[:, chosen].float(), float(model.b_U[chosen])
        dot = float(normed @ row)
        logit, total = float(all_logits[chosen]), float(all_logits.logsumexp(-1))
    further = logit - dot - bias
    return CellArithmetic(
        token=token_text(model, chosen),
        lens_name=lens.name,
        state_norm=float(before.norm()),
        change_norm=float((after - before).norm()),
        carried_norm=float(after.norm()),
        norm_divisor=float(divisor),
        normed_norm=float(normed.norm()),
        row_norm=float(row.norm()),
        cosine=dot / float(normed.norm() * row.norm()),
        dot=dot,
        bias=bias,
        # Rounding of the product is no step of the model's.
        further=further if abs(further) > 1e-3 * max(1.0, abs(logit)) else 0.0,
        logit=logit,
        log_normaliser=total,
        probability=float(torch.exp(torch.tensor(logit - total))),
    )


def _divisor(model: HookedModel, states: Tensor) -> Tensor:
    try:
        return model.norm_scale("ln_final", None, states)[..., 0]
    except UnknownSiteError:
        return torch.ones(states.shape[:-1])

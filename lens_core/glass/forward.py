"""Every tensor of one forward pass of a GPT-2, in the order in which it comes about.

    steps = forward_steps(model, "ant bee cat ant")
    steps["pattern.1"].tensor       # Float[Tensor, "head pos key"], read from the model's own run
    steps["pattern.1"].formula      # how it follows from earlier steps, in words

Nothing is transcribed: the tensors come from the model's taps. Two are not there to be tapped and
are computed from those that are: the scores before the mask, and the probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from lens_core.glass.labels import column_labels
from lens_core.interventions.edit import Intervention
from lens_core.lens.token_text import token_text
from lens_core.model.cache import ActivationCache
from lens_core.model.errors import TokenError, UnknownSiteError, UnsupportedModelError
from lens_core.model.hooked_model import HookedModel
from lens_core.model.tokens import Tokens


@dataclass(frozen=True)
class Kind:
    """What one kind of step is: its title, its formula in words, and what it is for."""

    title: str
    formula: str
    meaning: str


KINDS: dict[str, Kind] = {
    "tokens": Kind("Tokens", "the id of each token in the vocabulary", "Text becomes numbers."),
    "embed": Kind(
        "Token embedding", "embed = the token's row of W_E", "What the token is, as a row."
    ),
    "pos_embed": Kind(
        "Position embedding", "pos_embed = the position's row of W_pos", "Where the token stands."
    ),
    "resid_pre": Kind(
        "Residual stream before the block",
        "resid_pre = embed + pos_embed",
        "The state that the blocks read and add to, one row a token.",
    ),
    "attn_in": Kind(
        "LayerNorm before attention",
        "attn_in = (resid - mean of the row) / standard deviation of the row × gain + bias",
        "The state as attention reads it: every row at the same size.",
    ),
    "q": Kind("Queries", "q = attn_in @ W_Q + b_Q", "What each token looks for."),
    "k": Kind("Keys", "k = attn_in @ W_K + b_K", "What each token can be found by."),
    "v": Kind("Values", "v = attn_in @ W_V + b_V", "What each token gives to those that look."),
    "scores": Kind(
        "Scores",
        "score = query · key / √d_head",
        "How well the key of each column answers the query of each row.",
    ),
    "masked": Kind(
        "Scores after the mask",
        "score where the column is not later than the row, else -∞",
        "No token may look at what comes after it.",
    ),
    "pattern": Kind(
        "Attention pattern",
        "pattern = exp(score) / sum of exp(score) along the row",
        "Softmax: each row's attention, shared out so that it sums to 1.",
    ),
    "z": Kind(
        "Mixed values", "z = pattern @ v", "The values, mixed in the proportions of the pattern."
    ),
    "attn_out": Kind(
        "What attention adds",
        "attn_out = z @ W_O + b_O, summed over heads",
        "The mixture, written into columns of the residual stream.",
    ),
    "resid_mid": Kind(
        "Residual stream after attention",
        "resid_mid = residual stream before the block + attn_out",
        "The old state and what attention found.",
    ),
    "mlp_in": Kind(
        "LayerNorm before the MLP",
        "mlp_in = (resid_mid - mean of the row) / standard deviation of the row × gain + bias",
        "The state as the MLP reads it.",
    ),
    "mlp_pre": Kind("Neurons, before", "mlp_pre = mlp_in @ W_in + b_in", "What each neuron sees."),
    "mlp_post": Kind(
        "Neurons, after",
        "mlp_post = gelu(mlp_pre)",
        "A neuron passes what is well above 0, and stops what is well below.",
    ),
    "mlp_out": Kind(
        "What the MLP adds",
        "mlp_out = mlp_post @ W_out + b_out",
        "What the active neurons write.",
    ),
    "resid_post": Kind(
        "Residual stream after the block",
        "resid_post = resid_mid + mlp_out",
        "The state that goes on to the next block, or to the output.",
    ),
    "ln_final": Kind(
        "Final LayerNorm",
        "ln_final = (resid_post - mean of the row) / standard deviation of the row × gain + bias",
        "The last state, at the size that the unembedding reads.",
    ),
    "logits": Kind(
        "Logits",
        "logit = ln_final @ W_U + b_U",
        "One score for every token of the vocabulary, as the next one.",
    ),
    "probabilities": Kind(
        "Probabilities",
        "probability = exp(logit) / sum of exp(logit) along the row",
        "The model's answer at every position: what comes next, and how sure it is.",
    ),
}
BLOCK_STEPS = (
    *("attn_in", "q", "k", "v", "scores", "masked", "pattern", "z", "attn_out", "resid_mid"),
    *("mlp_in", "mlp_pre", "mlp_post", "mlp_out", "resid_post"),
)
PER_HEAD = frozenset({"q", "k", "v", "scores", "masked", "pattern", "z"})


@dataclass(frozen=True)
class Step:
    """One tensor of the pass.

    Attributes:
        name: which kind of step, a key of `KINDS`; layer: its block, None outside the blocks.
        tensor: [pos, column], or [head, pos, column] for the steps of a head; `tokens` is [pos, 1].
        axes: the names of its axes, with sizes in `tensor.shape`.
        columns: what the columns are, in words.
        tapped: read from the model's run; if not, computed from what was.
    """

    name: str
    layer: int | None
    tensor: Tensor
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    tapped: bool = True

    @property
    def key(self) -> str:
        """The step's name in `ForwardSteps`: "embed", "pattern.1"."""
        return self.name if self.layer is None else f"{self.name}.{self.layer}"

    @property
    def title(self) -> str:
        """A heading for it."""
        return KINDS[self.name].title

    @property
    def formula(self) -> str:
        """How it follows from earlier steps, in words."""
        return KINDS[self.name].formula

    @property
    def meaning(self) -> str:
        """What it is for, in one sentence."""
        return KINDS[self.name].meaning

    def grid(self, head: int = 0) -> Tensor:
        """The step as one table, [pos, column]; `head` is ignored where there are no heads."""
        return self.tensor[head] if self.name in PER_HEAD else self.tensor


@dataclass(frozen=True)
class ForwardSteps:
    """One forward pass of one prompt: `steps[key]` is a step, iteration gives them in order."""

    model_name: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    steps: tuple[Step, ...]

    def __getitem__(self, key: str) -> Step:
        for step in self.steps:
            if step.key == key:
                return step
        raise UnknownSiteError(f"There is no step {key!r:.60}; the first ones are embed, q.0, k.0.")

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __contains__(self, key: object) -> bool:
        return any(step.key == key for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def to_frame(self, key: str | None = None) -> pd.DataFrame:
        """One row a number, with step, layer, head, position, token, column and value."""
        chosen = self.steps if key is None else (self[key],)
        return pd.concat([self._frame(step) for step in chosen], ignore_index=True)

    def _frame(self, step: Step) -> pd.DataFrame:
        heads = range(step.tensor.shape[0]) if step.name in PER_HEAD else [None]
        return pd.DataFrame(
            [
                (step.name, step.layer, head, position, token, label, value)
                for head in heads
                for position, token in enumerate(self.tokens)
                for label, value in zip(
                    step.columns, step.grid(head or 0)[position].tolist(), strict=True
                )
            ],
            columns=["step", "layer", "head", "position", "token", "column", "value"],
        )


@torch.no_grad()
def forward_steps(
    model: HookedModel, tokens: Tokens, interventions: Iterable[Intervention] = ()
) -> ForwardSteps:
    """Run one prompt and lay out every tensor of the pass, in order.

    Args:
        tokens: one prompt, as text or LongTensor [1, pos].
        interventions: applied in that run, and so seen in the steps.

    Raises:
        UnsupportedModelError: the model is no GPT-2, so that the formulas would not be its own.
        TokenError: more than one prompt; and as `HookedModel.run`.

    Example:
        >>> steps = forward_steps(glass_model(), "ant bee cat ant")
        >>> steps["logits"].tensor[-1].argmax().item()  # bee
        3
    """
    if model.cfg.family != "gpt2":
        raise UnsupportedModelError(
            f"{model.cfg.name} is no GPT-2 but {model.cfg.family}, whose steps differ; "
            "choose tiny-world, gpt2 or a glass model."
        )
    logits, cache = model.run_with_cache(tokens, None, interventions)
    if logits.shape[0] != 1:
        raise TokenError("Give one prompt at a time.")
    ids = [int(i) for i in cache.tokens[0]]
    texts = tuple(token_text(model, i) for i in ids)
    layers = range(model.cfg.n_layers)
    raw = [
        ("tokens", None, cache.tokens[0][:, None]),
        *((name, None, cache[name][0]) for name in ("embed", "pos_embed")),
        ("resid_pre", 0, cache["resid_pre", 0][0]),
        *((name, layer, _tensor(name, layer, cache)) for layer in layers for name in BLOCK_STEPS),
        ("ln_final", None, cache["ln_final"][0]),
        ("logits", None, logits[0]),
        ("probabilities", None, logits[0].float().softmax(dim=-1)),
    ]
    steps = tuple(
        Step(
            name=name,
            layer=layer,
            tensor=tensor,
            axes=_axes(name),
            columns=column_labels(model, name, layer, texts, tensor.shape[-1]),
            tapped=name not in ("scores", "probabilities"),
        )
        for name, layer, tensor in raw
    )
    return ForwardSteps(model.cfg.name, tuple(ids), texts, steps)


def _tensor(name: str, layer: int, cache: ActivationCache) -> Tensor:
    """A step of a block, heads first."""
    if name == "scores":
        q, k = _tensor("q", layer, cache), _tensor("k", layer, cache)
        return q @ k.mT / math.sqrt(q.shape[-1])
    if name in ("q", "k", "v", "z"):
        return cache[name, layer][0].transpose(0, 1)
    return cache["scores" if name == "masked" else name, layer][0]


def _axes(name: str) -> tuple[str, ...]:
    if name in ("scores", "masked", "pattern"):
        return ("head", "pos", "key")
    if name in PER_HEAD:
        return ("head", "pos", "d_head")
    last = {"tokens": "id", "logits": "d_vocab", "probabilities": "d_vocab"}.get(name, "d_model")
    return ("pos", "neuron" if name in ("mlp_pre", "mlp_post") else last)

"""What lessons ask of the lens lab, each a pure function of the model and the lab's settings.

``layer`` is a block, -1 the embedding, None the last row; ``position`` counts from 0, or from the
end if negative. Tokens are compared and returned as texts, with their leading space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app.lesson.measures import measure
from lens_core import HookedModel
from lens_core.lens import LastBlocksLens, LensResult, LogitLens, Transport, read_lens
from lens_core.lens.formats import load_lens
from lens_core.model.errors import TokenError, UnknownSiteError


def reading(
    model: HookedModel, settings: Mapping[str, Any], words: tuple[str, ...] = ()
) -> LensResult:
    """The prompt of the settings through their lens, with these words followed."""
    kind = str(settings.get("lens", "logit"))
    lens: Transport
    if kind == "logit":
        lens = LogitLens()
    elif kind == "last blocks":
        lens = LastBlocksLens(int(settings.get("blocks", 1)))
    else:
        lens = load_lens(f"{model.cfg.name.replace('/', '--')}/{kind}", model)
    bos = settings.get("bos")
    if isinstance(bos, str):
        bos = bos.lower() == "true"
    tokens = model.to_tokens(str(settings["prompt"]), prepend_bos=bos)
    targets = [word_id(model, word) for word in words]
    site = str(settings.get("site", "resid_post"))
    return read_lens(model, tokens, lens, site=site, targets=targets)


def word_id(model: HookedModel, word: str) -> int:
    """The word's token inside a sentence, or failing that at its beginning."""
    try:
        return model.to_single_token(f" {word.strip()}")
    except TokenError:
        return model.to_single_token(word.strip())


def row_of(lens: LensResult, layer: int | None) -> int:
    """The row of a block; raises UnknownSiteError where the lens reads no such row."""
    if layer is None:
        return len(lens.row_layers) - 1
    if layer not in lens.row_layers:
        raise UnknownSiteError(
            f"This is about block {layer}, and the lens has the rows {lens.row_layers}; choose "
            "another model at the left."
        )
    return lens.row_layers.index(layer)


@measure("first_hit")
def first_hit(model: HookedModel, settings: Mapping[str, Any], *, position: int = -1) -> int | None:
    """First block at which the final answer is the best guess; None if at none."""
    return reading(model, settings).first_hit(position)


@measure("prediction_depth")
def prediction_depth(
    model: HookedModel, settings: Mapping[str, Any], *, position: int = -1
) -> int | None:
    """Block from which on the final answer stays the best guess; None if it never does."""
    return reading(model, settings).prediction_depth(position)


@measure("soft_depth")
def soft_depth(
    model: HookedModel, settings: Mapping[str, Any], *, position: int = -1, below: float = 1.0
) -> int | None:
    """First block with less than ``below`` nats of KL to the output; None if there is none."""
    return reading(model, settings).soft_depth(position, kl_below_nats=below)


@measure("flips")
def flips(model: HookedModel, settings: Mapping[str, Any], *, position: int = -1) -> int:
    """How often the best guess changes from row to row."""
    return reading(model, settings).flips(position)


@measure("echoes")
def echoes(model: HookedModel, settings: Mapping[str, Any], *, position: int = -1) -> int:
    """In how many rows the best guess is the token just read."""
    return int(reading(model, settings).echoes[:, position].sum())


@measure("echo_rate")
def echo_rate(model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = -1) -> float:
    """Share of the tokens after the first that a row merely repeats."""
    lens = reading(model, settings)
    return float(lens.echoes[row_of(lens, layer), 1:].mean())


@measure("prob")
def prob(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    position: int = -1,
    token: str | None = None,
) -> float:
    """Probability of a token (the final answer unless one is named) in a row, 0 to 1."""
    return math.exp(logprob(model, settings, layer=layer, position=position, token=token))


@measure("logprob")
def logprob(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    position: int = -1,
    token: str | None = None,
) -> float:
    """Log-probability of a token (the final answer unless one is named) in a row, nats."""
    lens = reading(model, settings, () if token is None else (token,))
    row = row_of(lens, layer)
    if token is None:
        return float(lens.final_logprobs[row, position])
    return float(lens.target_logprobs[row, position, 0])


@measure("rank")
def rank(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    position: int = -1,
    token: str | None = None,
) -> int:
    """Rank of a token (the final answer unless one is named) in a row, from 1."""
    lens = reading(model, settings, () if token is None else (token,))
    row = row_of(lens, layer)
    if token is None:
        return int(lens.final_ranks[row, position])
    return int(lens.target_ranks[row, position, 0])


@measure("entropy_bits")
def entropy_bits(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None, position: int = -1
) -> float:
    """Entropy of a row's distribution, bits."""
    lens = reading(model, settings)
    return float(lens.entropy_nats[row_of(lens, layer), position]) / math.log(2)


@measure("kl")
def kl(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None, position: int = -1
) -> float:
    """KL from the output to a row, nats."""
    lens = reading(model, settings)
    return float(lens.kl_nats[row_of(lens, layer), position])


@measure("js")
def js(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None, position: int = -1
) -> float:
    """Jensen-Shannon divergence of a row and the output, nats."""
    lens = reading(model, settings)
    return float(lens.js_nats[row_of(lens, layer), position])


@measure("top_token")
def top_token(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None, position: int = -1
) -> str:
    """Best guess of a row."""
    lens = reading(model, settings)
    return lens.texts[int(lens.top_ids[row_of(lens, layer), position, 0])]


@measure("top_tokens")
def top_tokens(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    position: int = -1,
    k: int = 5,
) -> list[str]:
    """The k best guesses of a row (at most ten), best first."""
    lens = reading(model, settings)
    return [lens.texts[int(i)] for i in lens.top_ids[row_of(lens, layer), position, :k]]


@measure("final_token")
def final_token(model: HookedModel, settings: Mapping[str, Any], *, position: int = -1) -> str:
    """What the model itself says next."""
    lens = reading(model, settings)
    return lens.texts[int(lens.final_ids[position])]


@measure("log_odds")
def log_odds(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    target: str,
    foil: str,
    layer: int | None = None,
    position: int = -1,
) -> float:
    """Log-probability of the target minus that of the foil in a row, nats."""
    lens = reading(model, settings, (target, foil))
    of_target, of_foil = lens.target_logprobs[row_of(lens, layer), position]
    return float(of_target - of_foil)


@measure("mean_kl")
def mean_kl(model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None) -> float:
    """Mean KL to the output over the tokens after the first, nats; of every row before the last
    unless a layer is named."""
    lens = reading(model, settings)
    rows = slice(None, -1) if layer is None else slice(row_of(lens, layer), row_of(lens, layer) + 1)
    return float(lens.kl_nats[rows, 1:].mean())


@measure("kl_ratio")
def kl_ratio(
    model: HookedModel,
    settings: Mapping[str, Any],
    *,
    layer: int | None = None,
    against: str = "tuned",
) -> float:
    """Mean KL to the output in the logit lens, divided by that in another, as in ``mean_kl``."""
    plain = mean_kl(model, {**settings, "lens": "logit"}, layer=layer)
    return plain / mean_kl(model, {**settings, "lens": against}, layer=layer)


@measure("rank_before_hit")
def rank_before_hit(
    model: HookedModel, settings: Mapping[str, Any], *, position: int = -1
) -> int | None:
    """Rank of the final answer one row below the one in which it is first the best guess."""
    lens = reading(model, settings)
    hit = lens.first_hit(position)
    if hit is None or hit == lens.row_layers[0]:
        return None
    return int(lens.final_ranks[row_of(lens, hit) - 1, position])


@measure("blocks_left_at_hit")
def blocks_left_at_hit(
    model: HookedModel, settings: Mapping[str, Any], *, position: int = -1
) -> int | None:
    """How many blocks follow the one at which the final answer is first the best guess."""
    hit = reading(model, settings).first_hit(position)
    return None if hit is None else model.cfg.n_layers - 1 - hit


@measure("kl_drop")
def kl_drop(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int, position: int = -1
) -> float:
    """By how many nats the KL to the output falls from the row before a block's to its own."""
    lens = reading(model, settings)
    row = row_of(lens, layer)
    if row == 0:
        raise ValueError("The first row has none before it.")
    return float(lens.kl_nats[row - 1, position] - lens.kl_nats[row, position])


@measure("largest_kl_drop")
def largest_kl_drop(model: HookedModel, settings: Mapping[str, Any], *, position: int = -1) -> int:
    """The block whose row has the largest fall of KL to the output from the row before."""
    lens = reading(model, settings)
    falls = lens.kl_nats[:-1, position] - lens.kl_nats[1:, position]
    return lens.row_layers[int(falls.argmax()) + 1]


@measure("state_norm")
def state_norm(
    model: HookedModel, settings: Mapping[str, Any], *, layer: int | None = None, position: int = -1
) -> float:
    """Length of the state itself, before the lens."""
    lens = reading(model, settings)
    return float(lens.state_norms[row_of(lens, layer), position])


@measure("n_blocks")
def n_blocks(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many blocks the model has."""
    return model.cfg.n_layers


@measure("n_tokens")
def n_tokens(model: HookedModel, settings: Mapping[str, Any]) -> int:
    """How many tokens the prompt has, the start token included."""
    return len(reading(model, settings).token_ids)

"""How much one head's output could feed another head's queries, keys or values, from weights alone.

    found = composition_scores(model)
    found.scores["k"][0, 3, 1, 5]       # head 3 of layer 0 into the keys of head 5 of layer 1
    found.strongest("k")[0]             # the strongest pair

A score is the share of what the first head can write that the second can read. Random matrices of
this rank overlap as well, at about 1/sqrt(d_model): only what is above the measured random baseline
is news, and even that says what could happen, not what does on any text.

After Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.attention.paths import attention_norm, values_and_outputs
from lens_core.model.factored import FactoredMatrix

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
Kind = Literal["q", "k", "v"]
_KINDS: tuple[Kind, ...] = ("q", "k", "v")


@dataclass(frozen=True, eq=False)
class CompositionScores:
    """Composition of all pairs of heads, by kind.

    Attributes:
        scores: by kind float32 [L, H, L, H] (earlier head, later head); 0 unless the first one's
            layer is lower.
        theory: 1/sqrt(d_model), what random heads of any rank have.
        baseline_mean, baseline_std: of random heads of this model's shape, drawn and measured.
        n_draws, seed: how many, and from where.
        aligned: 1/sqrt(d_head), what two heads have that share one subspace evenly; no bound, as
            heads that are mostly one direction have more.
    """

    model_name: str
    scores: Mapping[Kind, Array]
    theory: float
    baseline_mean: float
    baseline_std: float
    n_draws: int
    seed: int
    aligned: float

    def above_baseline(self, kind: Kind) -> Array:
        """The scores less the random baseline's mean, NaN for pairs that cannot compose."""
        scores = self.scores[kind]
        return np.where(_ordered(scores.shape), scores - self.baseline_mean, np.nan)

    def strongest(self, kind: Kind, k: int = 10) -> list[tuple[int, int, int, int]]:
        """(layer, head, later layer, later head) of the k highest scores."""
        scores = self.scores[kind]
        order = np.argsort(-scores, axis=None, kind="stable")[:k]
        pairs = [tuple(int(n) for n in np.unravel_index(i, scores.shape)) for i in order]
        return [(a, b, c, d) for a, b, c, d in pairs if a < c]

    def to_frame(self) -> pd.DataFrame:
        """One line a pair of heads, with a column a kind."""
        import pandas as pd

        shape = next(iter(self.scores.values())).shape
        layer, head, later_layer, later_head = np.nonzero(_ordered(shape))
        columns: dict[str, Any] = {
            "layer": layer,
            "head": head,
            "later_layer": later_layer,
            "later_head": later_head,
        }
        for kind, scores in self.scores.items():
            columns[kind] = scores[layer, head, later_layer, later_head]
        return pd.DataFrame(columns)


def composition_scores(
    model: HookedModel, kinds: Iterable[Kind] = _KINDS, *, n_draws: int = 200, seed: int = 0
) -> CompositionScores:
    """Q-, K- and V-composition of all pairs of heads.

    ||W_OV W_QK|| / (||W_OV|| ||W_QK||), with W_QK transposed for keys and W_OV of the later head
    for values; Frobenius norms. Norm gains are folded in and what LayerNorm takes away is taken
    away; rotary embedding, biases and q- and k-norms are left out.

    Args:
        n_draws: random pairs that the baseline is measured on.

    Raises:
        ValueError: a kind that is not q, k or v.
        UnknownSiteError, UnsupportedModelError: the weights cannot be read.

    Example:
        >>> composition_scores(model).scores["k"].shape  # doctest: +SKIP
        (8, 8, 8, 8)
    """
    wanted = _known(kinds)
    cfg = model.cfg
    with torch.no_grad():
        layers = [_layer(model, layer) for layer in range(cfg.n_layers)]
        found = {kind: _all_pairs(layers, kind) for kind in wanted}
        mean, deviation = random_baseline(cfg.d_model, cfg.d_head, n_draws=n_draws, seed=seed)
    return CompositionScores(
        model_name=cfg.name,
        scores={kind: scores.cpu().numpy() for kind, scores in found.items()},
        theory=cfg.d_model**-0.5,
        baseline_mean=mean,
        baseline_std=deviation,
        n_draws=n_draws,
        seed=seed,
        aligned=cfg.d_head**-0.5,
    )


def random_baseline(
    d_model: int, d_head: int, *, n_draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation of the composition of two heads of random normal weights.

    Every kind has the same: with random weights W_QK and W_OV are the same sort of matrix.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(n_draws):
        a, b, c, d = torch.randn(4, d_model, d_head, generator=generator)
        first, second = FactoredMatrix(a, b.mT), FactoredMatrix(c, d.mT)
        drawn.append(float((first @ second).norm() / (first.norm() * second.norm())))
    return float(np.mean(drawn)), float(np.std(drawn))


class _Layer(NamedTuple):
    """A layer's circuits as thin factors, every product's outer one made square.

    ||A B C|| does not change when the orthogonal part of A's QR decomposition is left out, or of
    C's: with them gone, a pair of heads is one product of d_head x d_model x d_head.
    """

    ov_left: Float[Tensor, "head d_head d_model"]  # R of W_V, times W_O: the earlier head
    into: Mapping[Kind, Float[Tensor, "head d_model d_head"]]  # the later head, by kind
    ov_norm: Float[Tensor, " head"]
    into_norm: Mapping[Kind, Float[Tensor, " head"]]


def _layer(model: HookedModel, layer: int) -> _Layer:
    group = model.cfg.n_heads // model.cfg.n_kv_heads
    norm = attention_norm(model, layer)
    queries = norm.before(model.W_Q[layer])
    keys = norm.before(model.W_K[layer]).repeat_interleave(group, dim=0)
    values, outputs = values_and_outputs(model, layer)
    if model.cfg.norm_kind == "LayerNorm":  # what every later reader takes away is not written
        outputs = outputs - outputs.mean(dim=-1, keepdim=True)
    into: dict[Kind, Tensor] = {
        "q": queries @ _upper(keys).mT,
        "k": keys @ _upper(queries).mT,
        "v": values @ _upper(outputs.mT).mT,
    }
    left = _upper(values) @ outputs
    norms = {kind: part.flatten(1).norm(dim=-1) for kind, part in into.items()}
    return _Layer(left, into, left.flatten(1).norm(dim=-1), norms)


def _upper(factor: Float[Tensor, "head d_model d_head"]) -> Float[Tensor, "head d_head d_head"]:
    """R of the QR decomposition."""
    return torch.linalg.qr(factor, mode="r").R


def _all_pairs(
    layers: Sequence[_Layer], kind: Kind
) -> Float[Tensor, "layer head later_layer later_head"]:
    """One kind's scores, a product a pair of layers."""
    n_layers, n_heads = len(layers), len(layers[0].ov_norm)
    scores = layers[0].ov_norm.new_zeros(n_layers, n_heads, n_layers, n_heads)
    for later in range(1, n_layers):
        reads = layers[later].into[kind]
        width = reads.shape[-1]
        columns = reads.transpose(0, 1).flatten(1)  # [d_model, head * d_head]
        for earlier in range(later):
            wrote = layers[earlier]
            product = wrote.ov_left.flatten(0, 1) @ columns
            blocks = product.view(n_heads, -1, n_heads, width)
            sizes = wrote.ov_norm[:, None] * layers[later].into_norm[kind][None]
            # A head that writes or reads nothing composes with none.
            norms = blocks.square().sum((1, 3)).sqrt()
            scores[earlier, :, later] = torch.where(sizes > 0, norms / sizes, 0.0)
    return scores


def _known(kinds: Iterable[Kind]) -> list[Kind]:
    wanted = list(kinds)
    for kind in wanted:
        if kind not in _KINDS:
            raise ValueError(f"A head composes through q, k or v, not through {kind!r}.")
    return wanted


def _ordered(shape: tuple[int, ...]) -> Array:
    """Where the first head's layer is below the second's."""
    layers = np.arange(shape[0])
    return np.broadcast_to((layers[:, None] < layers)[:, None, :, None], shape)

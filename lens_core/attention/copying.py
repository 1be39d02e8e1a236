"""Whether heads copy: how far their OV circuits make likelier what they look at.

    copying_eigenvalues(model).score          # [L, H], from -1 to 1
    copying_direct(model, heads=[(5, 2)])     # how often a token raises itself most

The circuits are those of `lens_core.attention.circuits`: the direct path from a token's embedding
through one head to the logits. In models with MLPs the choice of embedding decides the answer:
heads read what the first MLP made of a token, so ``"effective"`` is the default here.

After Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021), and Olsson et al.,
"In-context Learning and Induction Heads" (2022, arXiv 2209.11895).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.attention.paths import (
    Embedding,
    embedded,
    embedded_chunks,
    final_norm,
    logits_of,
    values_and_outputs,
)
from lens_core.attention.prompt import check_head, one_token

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
# Numbers of one block of logits; the full matrix of tokens x vocabulary never exists.
_BLOCK_NUMBERS = 2**24


@dataclass(frozen=True, eq=False)
class CopyingEigenvalues:
    """How far each head's full OV circuit maps tokens onto themselves.

    ``score`` = sum of the eigenvalues / sum of their sizes: 1 if all are positive (whatever the
    head reads, it makes likelier), -1 if all are negative, about 0 for random weights.
    """

    model_name: str
    embedding: Embedding
    score: Array  # float64 [L, H]
    eigenvalues: Array  # complex128 [L, H, d_head], those that can be other than 0

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.score.shape))
        return pd.DataFrame({"layer": layer, "head": head, "score": self.score.ravel()})


@dataclass(frozen=True, eq=False)
class CopyingDirect:
    """Of some tokens the share whose own logit a head's OV circuit raises most of the vocabulary.

    ``top1``, ``top5``: [L, H]; NaN for heads that were not asked for. Chance is 1 and 5 over the
    size of the vocabulary.
    """

    model_name: str
    embedding: Embedding
    token_ids: Array  # [n], the tokens that were tried
    top1: Array  # float64 [L, H]
    top5: Array  # float64 [L, H]
    d_vocab: int

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        layer, head = (i.ravel() for i in np.indices(self.top1.shape))
        return pd.DataFrame(
            {"layer": layer, "head": head, "top1": self.top1.ravel(), "top5": self.top5.ravel()}
        )


def copying_eigenvalues(
    model: HookedModel, *, embedding: Embedding = "effective"
) -> CopyingEigenvalues:
    """The eigenvalues of W_E W_V W_O W_U of every head, from products of d_head x d_head.

    Norm gains are folded in, W_U is centred over the vocabulary, norm scales are left out.

    Args:
        embedding: "effective" runs the first MLP on the whole vocabulary (seconds in models of
            GPT-2's size); "W_E" does not. Layer 0 has no MLP before it: W_E in either case.

    Raises:
        UnsupportedModelError: the weights between embedding and logits cannot be read.
    """
    with torch.no_grad():
        # Layer 0 reads the bare embedding in either case.
        first = _through_vocabulary(model, "W_E", 0)
        later = first
        if embedding == "effective" and model.cfg.n_layers > 1:
            later = _through_vocabulary(model, embedding, 1)
        small = []
        for layer in range(model.cfg.n_layers):
            values, outputs = values_and_outputs(model, layer)
            small.append(outputs @ (first if layer == 0 else later) @ values)
        products = torch.stack(small)
        eigenvalues = torch.linalg.eigvals(products)
    total = products.diagonal(dim1=-2, dim2=-1).double().sum(-1)  # exact, unlike their sum
    sizes = eigenvalues.abs().double().sum(-1)
    score = torch.where(sizes > 0, total / sizes, torch.zeros_like(total))
    return CopyingEigenvalues(
        model_name=model.cfg.name,
        embedding=embedding,
        score=score.clamp(-1, 1).cpu().numpy(),
        eigenvalues=eigenvalues.to(torch.complex128).cpu().numpy(),
    )


def copying_direct(
    model: HookedModel,
    token_ids: Iterable[int] | None = None,
    *,
    heads: Iterable[tuple[int, int]] | None = None,
    n_tokens: int = 256,
    seed: int = 0,
    embedding: Embedding = "effective",
) -> CopyingDirect:
    """The share of tokens that a head, looking at them, raises above all others (top 1, top 5).

    Args:
        token_ids: the tokens to try; None: ``n_tokens`` drawn from the vocabulary.
        heads: (layer, head); None: all of them, which takes seconds in models of GPT-2's size.

    Raises:
        UnknownSiteError, TokenError, UnsupportedModelError: as `ov_promoted`.
    """
    cfg = model.cfg
    if token_ids is None:
        drawn = torch.randperm(cfg.d_vocab, generator=torch.Generator().manual_seed(seed))
        ids = drawn[:n_tokens].sort().values
    else:
        ids = torch.tensor([one_token(model, int(i)) for i in token_ids], dtype=torch.long)
    wanted: dict[int, list[int]] = {}
    for layer, head in heads or np.ndindex(cfg.n_layers, cfg.n_heads):
        wanted.setdefault(model.resolve_layer(layer), []).append(check_head(model, head))
    top1, top5 = np.full((2, cfg.n_layers, cfg.n_heads), np.nan)
    rows = max(1, _BLOCK_NUMBERS // cfg.d_vocab)
    with torch.no_grad():
        for layer, of_layer in wanted.items():
            states = embedded(model, ids, embedding, layer)
            values, outputs = values_and_outputs(model, layer)
            for head in of_layer:
                written = (states @ values[head]) @ outputs[head]
                rivals = torch.cat(
                    [
                        _rivals(logits_of(model, some), own)
                        for some, own in zip(written.split(rows), ids.split(rows), strict=True)
                    ]
                )
                top1[layer, head] = float((rivals < 1).double().mean())
                top5[layer, head] = float((rivals < 5).double().mean())
    return CopyingDirect(cfg.name, embedding, ids.numpy(), top1, top5, cfg.d_vocab)


def copying_in_sample(
    model: HookedModel, samples: Sequence[Int[Tensor, " n"]], *, embedding: Embedding = "effective"
) -> Float[Tensor, "sample layer head"]:
    """`copying_direct` with a sample's own tokens as the only rivals, for many samples at once.

    The share of a sample's tokens whose own logit a head raises more than those of all others in
    it, as Olsson et al. 2022 compare within 25 random tokens. A head that writes nothing has 0.

    Args:
        samples: token ids, each once.
    """
    ids = torch.cat(list(samples))
    sizes = [len(sample) for sample in samples]
    shares = torch.zeros(len(samples), model.cfg.n_layers, model.cfg.n_heads)
    with torch.no_grad():
        columns = final_norm(model).before(model.W_U[:, ids.to(model.cfg.device)])
        for layer in range(model.cfg.n_layers):
            if layer < 2:
                states = embedded(model, ids, embedding, layer)
            values, outputs = values_and_outputs(model, layer)
            read, write = states @ values, outputs @ columns  # [head, n, d_head], [head, d_head, n]
            ends = zip(read.split(sizes, dim=1), write.split(sizes, dim=2), strict=True)
            for number, (left, right) in enumerate(ends):
                logits = left @ right
                own = logits.diagonal(dim1=-2, dim2=-1)
                rivals = (logits >= own[..., None]).sum(-1) - 1
                shares[number, layer] = (rivals == 0).float().mean(-1).cpu()
    return shares


def _through_vocabulary(
    model: HookedModel, embedding: Embedding, layer: int
) -> Float[Tensor, "d_model d_model"]:
    """W_U W_E with the final norm's gain, and W_U centred over the vocabulary."""
    width, start = model.cfg.d_model, 0
    total = torch.zeros(width, width, device=model.cfg.device)
    summed = torch.zeros(width, device=model.cfg.device)
    everything = torch.arange(model.cfg.d_vocab)
    for some in embedded_chunks(model, everything, embedding, layer):
        total += model.W_U[:, start : start + len(some)].float() @ some
        summed += some.sum(0)
        start += len(some)
    mean = model.W_U.float().mean(dim=1)
    return final_norm(model).before(total - mean[:, None] * summed)


def _rivals(logits: Float[Tensor, "n d_vocab"], own_ids: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """How many other tokens have at least the logit of each row's own."""
    own = logits.gather(-1, own_ids.to(logits.device)[:, None])
    return (logits >= own).sum(-1).cpu() - 1

"""How much of an edit other prompts will get, known before they are run.

A rank-one edit adds (k . left) right to the output of its MLP, so that a token with the key k gets
the share k . left = k^T C^-1 k* / (k*^T C^-1 k*) of what the edited subject gets. Exact at the
edited layer; what later layers make of it is another matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.edit import Edit
from lens_core.editing.errors import EditingError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel


@dataclass(frozen=True, eq=False)
class Bleed:
    """What every token of some prompts will get of an edit.

    Attributes:
        tokens: of each prompt, the text of its tokens.
        shares: of each prompt, Float [term, pos]: 1 is what the edited key gets, 0 is nothing.
        added: of each prompt, Float [term, pos]: length of what is added to the MLP's output.
        layers: of each term.
    """

    prompts: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]
    shares: tuple[Float[Tensor, "term pos"], ...]
    added: tuple[Float[Tensor, "term pos"], ...]
    layers: tuple[int, ...]

    def strongest(self) -> Float[Tensor, " prompt"]:
        """Of each prompt, the largest share of any token, by absolute value, with its sign."""
        flat = [share.flatten() for share in self.shares]
        return torch.stack([f[f.abs().argmax()] for f in flat])

    def to_frame(self) -> pd.DataFrame:
        """One line a prompt, term and token."""
        import pandas as pd

        return pd.DataFrame(
            {
                "prompt": prompt,
                "layer": layer,
                "position": position,
                "token": token,
                "share": float(self.shares[i][term, position]),
                "added": float(self.added[i][term, position]),
            }
            for i, prompt in enumerate(self.prompts)
            for term, layer in enumerate(self.layers)
            for position, token in enumerate(self.tokens[i])
        )


def predicted_bleed(model: HookedModel, edit: Edit, prompts: str | Sequence[str]) -> Bleed:
    """The share of an edit that each token of some prompts gets, from the unedited model's keys.

    Exact for the first of an edit's layers. With several terms in one layer each is measured by
    itself; where one term serves many requests (MEMIT), read `added`.

    Args:
        edit: rank-one or low-rank terms of MLP outputs.

    Raises:
        EditingError: the edit is a text, or changes something else than W_out.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.editing import EditRequest, rome
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome")
        >>> bleed = predicted_bleed(model, rome(model, request), request.prompt)
        >>> bool(bleed.strongest()[0] > 0.5)
        True
    """
    many = [prompts] if isinstance(prompts, str) else list(prompts)
    terms = [t for t in edit.terms if t.op == "low_rank" and t.site == "mlp_out"]
    if not terms or len(terms) != len(edit.terms):
        raise EditingError(
            f"What {edit.name!r:.60} gives to other prompts follows from no key: only edits of "
            "W_out can be predicted."
        )
    places = [("mlp_post", term.layer) for term in terms]
    tokens, shares, added = [], [], []
    for prompt in many:
        ids = model.to_tokens(prompt)
        _, cache = model.run_with_cache(ids, names=places)
        tokens.append(tuple(model.to_str_tokens(ids)))
        parts = [_of_term(cache[p][0], t.tensors) for p, t in zip(places, terms, strict=True)]
        shares.append(torch.stack([share for share, _ in parts]))
        added.append(torch.stack([length for _, length in parts]))
    layers = tuple(int(term.layer or 0) for term in terms)
    return Bleed(tuple(many), tuple(tokens), tuple(shares), tuple(added), layers)


def _of_term(keys: Tensor, tensors: object) -> tuple[Tensor, Tensor]:
    left, right = tensors["left"], tensors["right"]  # type: ignore[index]
    written = keys.float() @ left.float().to(keys.device)
    added = (written @ right.float().to(keys.device)).norm(dim=-1)
    share = written[:, 0] if written.shape[1] == 1 else torch.full_like(added, torch.nan)
    return share.cpu(), added.cpu()

"""What each head of a circuit looks at and writes: the evidence for the role it is given.

    print(head_evidence(model, dataset, circuit.heads).to_frame())

A head is asked at the last token of each prompt: how much of its attention goes to each named
position, and how much what it writes there moves the logits of the right answer, of the wrong one
and of the other candidates, on its own way to the output (its direct effect).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lens_core.circuits.circuit import Circuit, Node, node_name
from lens_core.circuits.dataset import TemplateDataset, TemplateGroup
from lens_core.circuits.errors import CircuitError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

Array = np.ndarray[Any, Any]
SUPPRESSOR, NAME_MOVER = "suppressor of the actor", "name mover"
COPIER, HELPER = "copier of both names", "helper"


@dataclass(frozen=True)
class HeadEvidence:
    """Means over the prompts of a dataset, one entry a head.

    Attributes:
        attention: from the last token to each named position.
        answer, foil, others: the direct effect on the logits of the right answer, of the wrong one,
            and (their mean) of the other candidates: the logits of the run less those with the
            head's output at the last token replaced by its mean over the reference prompts.
    """

    heads: tuple[Node, ...]
    attention: Mapping[str, Array]
    answer: Array
    foil: Array
    others: Array

    def to_frame(self) -> pd.DataFrame:
        """One line a head."""
        import pandas as pd

        return pd.DataFrame(
            {
                "node": [node_name(head) for head in self.heads],
                **{f"looks_at_{name}": values for name, values in self.attention.items()},
                "answer": self.answer,
                "foil": self.foil,
                "others": self.others,
            }
        )

    def suggested_roles(self) -> tuple[str, ...]:
        """What each head seems to do, by a rule of thumb over where it looks and what it writes.

        "suppressor of the actor": looks at the second mention and holds that name down by more than
        a logit; "name mover": looks at the two names and favours the right one; "copier of both
        names": looks at them and raises both; "helper": anything else, idle heads among them.

        Raises CircuitError for prompts that are not those of `ioi_dataset`.
        """
        if not {"io", "s1", "s2"} <= set(self.attention):
            raise CircuitError("Roles are suggested on prompts of ioi_dataset alone.")
        return tuple(self._role(i) for i in range(len(self.heads)))

    def _role(self, i: int) -> str:
        looks = {name: float(values[i]) for name, values in self.attention.items()}
        answer, foil = float(self.answer[i]), float(self.foil[i])
        if looks["s2"] > 0.5 and foil < -1:
            return SUPPRESSOR
        if looks["io"] + looks["s1"] > 0.3 and answer - foil > 0.25:
            return NAME_MOVER
        if looks["io"] + looks["s1"] > 0.5 and min(answer, foil) > 0.25:
            return COPIER
        return HELPER


@torch.no_grad()
def head_evidence(
    model: HookedModel, dataset: TemplateDataset, heads: Sequence[Node]
) -> HeadEvidence:
    """Where heads look from the last token, and what they write there.

    Args:
        heads: (layer, head) each; MLPs have no attention and are refused.

    Raises:
        CircuitError: an MLP, a head that the model lacks, or none.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.circuits import ioi_dataset
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> found = head_evidence(model, ioi_dataset(model, 8), [(6, 2)])
        >>> bool(found.attention["s2"][0] > 0.9)
        True
    """
    if not heads or any(head is None for _, head in heads):
        raise CircuitError("Evidence is for heads; name at least one, and no MLP.")
    Circuit.of("asked", heads).check(model)
    names = sorted(dataset.position_names)
    attention = {name: np.zeros(len(heads)) for name in names}
    effects = np.zeros((3, len(heads)))
    for group in dataset.groups:
        weight = len(group.rows) / len(dataset)
        places = [(site, layer) for layer, _ in heads for site in ("pattern", "z")]
        last = ("resid_post", model.cfg.n_layers - 1)
        logits, cache = model.run_with_cache(group.tokens, [*places, last], last_logits_only=True)
        _, others = model.run_with_cache(group.reference, places, last_logits_only=True)
        final = cache[last][:, -1]
        rows = torch.arange(len(group.rows))
        for i, (layer, head) in enumerate(heads):
            assert head is not None
            for name in names:
                looked = cache["pattern", layer][rows, head, -1, group.positions[name]]
                attention[name][i] += weight * float(looked.mean())
            unusual = cache["z", layer][:, -1, head] - others["z", layer][:, -1, head].mean(dim=0)
            without = final - unusual @ model.W_O[layer, head]
            moved = logits[:, -1] - model.unembed(model.ln_final(without))
            effects[:, i] += weight * _by_kind(moved.float().cpu(), dataset, group)
    return HeadEvidence(tuple(heads), attention, *effects)


def _by_kind(moved: Tensor, dataset: TemplateDataset, group: TemplateGroup) -> Array:
    """The mean change of the answers, the foils and the other candidates."""
    answer, foil = dataset.answer[group.rows], dataset.foil[group.rows]
    rows, candidates = torch.arange(len(answer)), dataset.candidates
    named = (candidates == answer[:, None]) | (candidates == foil[:, None])
    rest = moved[:, candidates][~named].mean()
    return np.array(
        [float(x) for x in (moved[rows, answer].mean(), moved[rows, foil].mean(), rest)]
    )

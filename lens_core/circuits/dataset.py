"""Prompts made from templates, so that a position means the same in every prompt of one template.

A circuit is judged by what is left when all else is knocked out, and what stands in for a part that
is knocked out must be typical of its place: its mean over other prompts of the same template, at
the same position (Wang et al. 2022, section 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TemplateGroup:
    """The prompts of one template, all of one length.

    Attributes:
        template: the template, its slots in braces.
        rows: Int [row], their places in the dataset.
        tokens: Int [row, pos].
        positions: named places of each prompt, Int [row] each; "end" is always there.
        reference: Int [reference, pos], prompts of the same template without what the task is
            about: what is knocked out gets their mean.
    """

    template: str
    rows: Int[Tensor, " row"]
    tokens: Int[Tensor, "row pos"]
    positions: Mapping[str, Int[Tensor, " row"]]
    reference: Int[Tensor, "reference pos"]


@dataclass(frozen=True, eq=False)
class TemplateDataset:
    """Prompts with a right and a wrong next token, grouped by template.

    Attributes:
        name: for tables.
        texts: the prompts.
        kinds: what kind of prompt each is, such as "ABBA".
        answer, foil: Int [prompt], the right next token and the wrong one.
        groups: one a template; together they hold every prompt once.
        candidates: Int [candidate], the tokens that could fill the gap: every name, for IOI.
    """

    name: str
    texts: tuple[str, ...]
    kinds: tuple[str, ...]
    answer: Int[Tensor, " prompt"]
    foil: Int[Tensor, " prompt"]
    groups: tuple[TemplateGroup, ...]
    candidates: Int[Tensor, " candidate"]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def position_names(self) -> frozenset[str]:
        """The named places that every template has."""
        return frozenset.intersection(*(frozenset(group.positions) for group in self.groups))

    def to_frame(self) -> pd.DataFrame:
        """One line a prompt."""
        import pandas as pd

        template = [""] * len(self)
        for group in self.groups:
            for row in group.rows.tolist():
                template[row] = group.template
        return pd.DataFrame(
            {
                "prompt": self.texts,
                "kind": self.kinds,
                "template": template,
                "answer_id": self.answer.tolist(),
                "foil_id": self.foil.tolist(),
            }
        )

    def only(self, kind: str) -> TemplateDataset:
        """The prompts of one kind, with the same references.

        >>> dataset.only("ABBA")  # doctest: +SKIP
        """
        keep = [i for i, own in enumerate(self.kinds) if own == kind]
        new = {old: i for i, old in enumerate(keep)}
        groups = []
        for group in self.groups:
            chosen = torch.tensor([row in new for row in group.rows.tolist()], dtype=torch.bool)
            if chosen.any():
                rows = torch.tensor([new[row] for row in group.rows[chosen].tolist()])
                places = {name: at[chosen] for name, at in group.positions.items()}
                groups.append(
                    TemplateGroup(
                        group.template, rows, group.tokens[chosen], places, group.reference
                    )
                )
        return TemplateDataset(
            f"{self.name}, {kind}",
            tuple(self.texts[i] for i in keep),
            tuple(self.kinds[i] for i in keep),
            self.answer[keep],
            self.foil[keep],
            tuple(groups),
            self.candidates,
        )

"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.lab_settings import LabSettings

MANY, LOCATING = "many facts", "does locating help"
VIEWS = {
    MANY: "methods side by side on the same facts, scored after more and more edits",
    LOCATING: "how well an edit at each layer works, over what tracing says of the layer",
}
WORLD, TABLE = "the world", "your table"
SOURCES = {
    WORLD: "facts that the model knows, each to be given another answer of its kind",
    TABLE: "facts that you type, or bring along as a CSV file",
}
# The control's name, the method's name in lens_core, and what it is.
METHODS = {
    "run_rome": ("r-rome", "ROME, one after another"),
    "run_memit": ("memit", "MEMIT, all at once"),
    "run_original": ("original", "ROME as published, one after another"),
    "run_emmet": ("emmet", "EMMET, all at once"),
    "run_ft": ("ft", "Fine-tuning one layer, all at once"),
    "run_alphaedit": ("alphaedit", "AlphaEdit, in batches"),
}
# What counts as an edit's success at a layer, and what it is.
SUCCESSES = {
    "rewrite": "of the room that the new answer's probability had at the edited prompt, the share "
    "that it took",
    "paraphrase": "the share of other wordings in which the new answer is the likelier",
    "neighbourhood": "the share of neighbours that kept theirs",
}
LAMBDAS = (1, 3, 10, 30, 100, 300, 1000, 3000, 15000)
MOST_FACTS = 1000


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        view: of `VIEWS`; source: of `SOURCES`.
        n_facts: how many of the world's; seed: which ones, and of all draws.
        run_rome ... run_alphaedit: whether that method is run.
        edit_layer: of ROME, EMMET and fine-tuning; first_layer, last_layer: those that MEMIT and
            AlphaEdit write to; None: the measured ones of the model.
        lam: MEMIT's weight of what the layer already knows, the paper's lambda; None: measured.
        n_locating: how many facts in the view of locating; success: of `SUCCESSES`, what is
            correlated with tracing there.
        opened: the fact whose prompts are open, counted from 0.
    """

    view: str = MANY
    source: str = WORLD
    n_facts: int = 30
    seed: int = 0
    run_rome: bool = True
    run_memit: bool = True
    run_original: bool = False
    run_emmet: bool = False
    run_ft: bool = False
    run_alphaedit: bool = False
    edit_layer: int | None = None
    first_layer: int | None = None
    last_layer: int | None = None
    lam: int | None = None
    n_locating: int = 20
    success: str = "rewrite"
    opened: int = 0

    CHOICES: ClassVar = {"view": VIEWS, "source": SOURCES, "success": SUCCESSES}

    @property
    def methods(self) -> tuple[str, ...]:
        """The chosen methods, by their names in lens_core."""
        return tuple(name for key, (name, _) in METHODS.items() if getattr(self, key))

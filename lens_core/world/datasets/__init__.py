"""Labelled datasets of the world that tiny-world was trained on, the same from the same seed.

Each function returns `Records`, a list of frozen dataclasses with ``to_frame()``. Everything is in
the splits of `lens_core.world.splits` that training never saw, unless a docstring says otherwise.
"""

from lens_core.world.datasets.choices import (
    Choice,
    YearChoice,
    agreement_prompts,
    interval_prompts,
    pronoun_prompts,
    sentiment_prompts,
    successor_prompts,
)
from lens_core.world.datasets.edits import EditRecord, Question, counterfactual_edits
from lens_core.world.datasets.facts import FactPrompt, FactQuestion, fact_prompts, known_facts
from lens_core.world.datasets.ioi import ioi_prompts
from lens_core.world.datasets.records import Records
from lens_core.world.datasets.roles import ROLES, RoleSpan, TaggedText, role_tagged_text
from lens_core.world.datasets.sequences import repeated_tokens
from lens_core.world.generators.people import IOIPrompt

__all__ = [
    "ROLES",
    "Choice",
    "EditRecord",
    "FactPrompt",
    "FactQuestion",
    "IOIPrompt",
    "Question",
    "Records",
    "RoleSpan",
    "TaggedText",
    "YearChoice",
    "agreement_prompts",
    "counterfactual_edits",
    "fact_prompts",
    "interval_prompts",
    "ioi_prompts",
    "known_facts",
    "pronoun_prompts",
    "repeated_tokens",
    "role_tagged_text",
    "sentiment_prompts",
    "successor_prompts",
]

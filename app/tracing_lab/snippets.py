"""*Show the code*: the view's numbers as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code. The view's
result is called ``found`` in both.
"""

from __future__ import annotations

from app.tracing_lab.asked import Asked, corruption_of
from app.tracing_lab.settings import MANY, NOISE
from lens_core.tracing import GaussianNoise

MOST_LINES = 40


def tracing_code(asked: Asked) -> str:
    """A script that computes what the view shows, outside the page. Raises as `corruption_of`."""
    settings = asked.settings
    model = f"model = HookedModel.from_pretrained({asked.model.cfg.name!r})"
    how = [
        f"    kinds={asked.kinds!r}, window={asked.window},",
        f"    direction={settings.direction!r}, metric={_metric(asked)!r},",
    ]
    if settings.view == MANY:
        lines = [*_many_head(asked, model), *how, f"    seed={settings.seed},", ")"]
        value = "print(found.total_effect, found.control_effect)"
    else:
        lines = [*_one_head(asked, model), *how, ")"]
        value = "print(found.clean, found.corrupted.mean(), found.total_effect)"
    return "\n".join([*lines, value, "print(found.to_frame())"]) + "\n"


def _metric(asked: Asked) -> str:
    metric = asked.settings.metric
    return "logit" if asked.settings.view == MANY and metric == "logit_difference" else metric


def _one_head(asked: Asked, model: str) -> list[str]:
    settings = asked.settings
    corruption = corruption_of(settings)
    return [
        "from lens_core import HookedModel",
        f"from lens_core.tracing import {type(corruption).__name__}, causal_trace",
        "",
        model,
        "found = causal_trace(",
        f"    model, {settings.prompt!r}, {settings.subject.strip()!r},",
        f"    answer={asked.answer!r}, foil={asked.foil!r},",
        f"    corruption={corruption!r},",
    ]


def _many_head(asked: Asked, model: str) -> list[str]:
    settings = asked.settings
    noise = corruption_of(settings) if settings.corruption == NOISE else GaussianNoise()
    return [
        "from lens_core import HookedModel",
        "from lens_core.tracing import GaussianNoise, TracePrompt, average_trace",
        "from lens_core.world.datasets import known_facts",
        "",
        model,
        "# The page takes the first facts of these that the model answers.",
        f"facts = known_facts(model.tokenizer, {settings.n_facts}, {settings.seed}, "
        "multi_token_subject=True, single_token_object=True)",
        "found = average_trace(",
        "    model, [TracePrompt.of_fact(model, fact) for fact in facts],",
        f"    corruption={noise!r},",
    ]

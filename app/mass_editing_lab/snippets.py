"""*Show the code*: the page's numbers as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code. The result
is called ``found`` in both.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from app.mass_editing_lab.experiment import N_UNTOUCHED, NO_QUESTIONS, SEQUENTIAL, ladder
from app.mass_editing_lab.methods import settings_of
from app.mass_editing_lab.settings import WORLD, Settings
from app.mass_editing_lab.source import SIZES, Facts

if TYPE_CHECKING:
    from lens_core import HookedModel

MOST_LINES = 40
# Each fact is written once a layer, so its value is searched for in fewer steps and contexts.
SHORTER = {"steps": 12, "n_contexts": 4, "lr": 0.5}
# A table of more rows is not written out; the script then reads the visitor's own file.
MOST_ROWS_WRITTEN = 8


def mass_code(model: HookedModel, settings: Settings, facts: Facts) -> str:
    """A script that writes the facts by the chosen methods and scores them, outside the page."""
    lines = [
        *(["import csv", ""] if _reads_file(settings, facts) else []),
        "from lens_core import HookedModel",
        *([] if settings.source == WORLD else ["from lens_core.editing import EditRequest"]),
        "from lens_core.editing.evaluate import Sizes, record_of, records, scaling",
        "from lens_core.editing.evaluate.methods import method_of",
        "",
        f"model = HookedModel.from_pretrained({model.cfg.name!r})",
        *_facts(settings, facts),
        f"untouched = records(model, {N_UNTOUCHED}, {settings.seed}, 'development',",
        f"                    sizes=Sizes{_sizes(NO_QUESTIONS)})",
        "methods = [  # with whether all facts are written at once",
        *(f"    {_method(model, m, settings)}," for m in settings.methods),
        "]",
        f"counts = {list(ladder(len(facts.records)))}",
        "found = scaling(model, methods, facts, counts, untouched=untouched)",
        "for method, _ in methods:",
        "    print(method.title, 'collapses at', found.collapse(method.name))",
        "print(found.to_frame().to_string())",
    ]
    return "\n".join(lines) + "\n"


def _reads_file(settings: Settings, facts: Facts) -> bool:
    return settings.source != WORLD and len(facts.records) > MOST_ROWS_WRITTEN


def _sizes(sizes: object) -> str:
    return f"({', '.join(map(str, vars(sizes).values()))})"


def _facts(settings: Settings, facts: Facts) -> list[str]:
    made = f"sizes=Sizes{_sizes(SIZES)}"
    if settings.source == WORLD:
        return [f"facts = records(model, {len(facts.records)}, {settings.seed}, 'test', {made})"]
    if _reads_file(settings, facts):
        return [
            "with open('facts.csv', newline='', encoding='utf-8') as file:",
            "    rows = list(csv.DictReader(file))",
            "requests = [EditRequest(**row) for row in rows]",
            f"facts = [record_of(model, r, {made}) for r in requests]",
        ]
    rows = [
        (r.prompt, r.subject, r.target_new, r.target_true, r.relation)
        for r in (record.request for record in facts.records)
    ]
    return [
        "rows = [",
        *(f"    {row!r}," for row in rows),
        "]",
        f"facts = [record_of(model, EditRequest(*row), {made}) for row in rows]",
    ]


def _method(model: HookedModel, method: str, settings: Settings) -> str:
    made_with = settings_of(model, method, settings)
    chosen = ("layer", "layers", "covariance_weight")
    names = [field.name for field in fields(made_with) if field.name in chosen]
    changes = "".join(f", {name}={getattr(made_with, name)!r}" for name in names)
    return f"(method_of(model, {method!r}{changes}), {method not in SEQUENTIAL})"


def locating_code(model: HookedModel, n: int, seed: int) -> str:
    """A script that traces facts and writes each at every layer, outside the page."""
    lines = [
        "from lens_core import HookedModel",
        "from lens_core.editing.evaluate import Sizes, locating, records",
        "from lens_core.editing.evaluate.methods import method_of",
        "",
        f"model = HookedModel.from_pretrained({model.cfg.name!r})",
        f"facts = records(model, {n}, {seed}, 'test', sizes=Sizes{_sizes(SIZES)})",
        "",
        "",
        "def make(model, request, layer):",
        f"    short = {SHORTER!r}  # a shorter search for each value",
        "    return method_of(model, 'r-rome', layer=layer, **short).make(model, [request])",
        "",
        "",
        "found = locating(model, make, facts)",
        "print('over layers of a fact:', found.correlation_over_layers())",
        "for layer in found.layers:",
        "    print(layer, found.correlation(layer))",
        "print(found.explained())",
        "print(found.to_frame().to_string())",
    ]
    return "\n".join(lines) + "\n"

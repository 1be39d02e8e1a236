"""*Show the code*: the page's numbers as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.lens_lab.lenses import shipped_name
from app.lens_lab.settings import Settings
from lens_core.plots import Aim

if TYPE_CHECKING:
    from app.components.lens_grid import Chosen
    from app.lens_lab.reading import Reading
    from app.lens_lab.request import Request
    from lens_core import HookedModel

MOST_LINES = 40
_BY_HAND = """\
# By hand, for the chosen token: the model's own last step, applied after every block.
_, cache = model.run_with_cache(tokens, names=["resid_post"])
for layer in range(model.cfg.n_layers):
    state = cache["resid_post", layer][:, {position}]
    logits = model.unembed(model.ln_final(state))[0]
    best = logits.softmax(-1).topk(5)
    print(layer, model.to_str_tokens(best.indices), best.values.tolist())
"""


def lens_code(
    model: HookedModel, wanted: Request, settings: Settings, reading: Reading, cell: Chosen
) -> str:
    """A script that computes the page's readings, table, figures and arithmetic outside it."""
    if reading.second is None:
        wanted = replace(wanted, second=None)
    first, second = wanted.first, wanted.second
    by_lens = second is not None and second.lens_key != first.lens_key
    keys = [first.lens_key, *([second.lens_key] if second is not None and by_lens else [])]
    lines = [
        "from lens_core import HookedModel",
        f"from lens_core.lens import {', '.join(_imports(keys))}",
        "from lens_core.lens.arithmetic import cell_arithmetic",
        *_load_import(keys),
        *_compare_import(second is not None, by_lens),
        "from lens_core.plots import Aim, lens_heatmap, top_k_bars, trajectories",
        "",
        f"model = HookedModel.from_pretrained({model.cfg.name!r})",
        f"tokens = model.to_tokens({settings.prompt!r}, prepend_bos={settings.bos!r})",
        f"transport = {_transport(model, first.lens_key)}",
        "",
    ]
    if first.lens_key == "logit" and first.site == "resid_post" and second is None:
        lines += [*_BY_HAND.format(position=cell["column"]).splitlines(), ""]
    how = f"site={first.site!r}, targets={first.targets!r}"
    lines += [
        "# The whole grid, reduced row by row.",
        f"lens = read_lens(model, tokens, transport, {how})",
        "print(lens.to_frame().to_string(max_rows=20, max_cols=12))",
        f"print(lens.summary(kl_below_nats={settings.close!r}))",
        *_second_lines(model, wanted, settings, how),
        "",
        "# The figures, and the chosen cell in numbers.",
        f"aim = {_aim(wanted.aim)}",
        f"lens_heatmap(lens, {settings.color!r}, aim=aim).write_html('grid.html')",
        f"row, position = {cell['row']}, {cell['column']}",
        "top_k_bars(lens, row, position).write_html('best_guesses.html')",
        "trajectories(lens, position).write_html('trajectories.html')",
        "layer = lens.row_layers[row]",
        "work = cell_arithmetic(model, tokens, transport, layer=layer, position=position,",
        f"                       site={first.site!r})",
        "print(work.to_frame())",
    ]
    return "\n".join(lines) + "\n"


def _imports(keys: list[str]) -> list[str]:
    kinds = {key.rpartition(" ")[0] or key for key in keys}
    names = {"read_lens"}
    if "logit" in kinds:
        names.add("LogitLens")
    if "last blocks" in kinds:
        names.add("LastBlocksLens")
    return sorted(names)


def _load_import(keys: list[str]) -> list[str]:
    made = {"logit", "last blocks"}
    if all((key.rpartition(" ")[0] or key) in made for key in keys):
        return []
    return ["from lens_core.lens.formats import load_lens"]


def _compare_import(compares: bool, by_lens: bool) -> list[str]:
    if not compares:
        return []
    return [
        f"from lens_core.lens.compare import {'compare_lenses' if by_lens else 'compare_prompts'}"
    ]


def _transport(model: HookedModel, key: str) -> str:
    kind, _, rest = key.rpartition(" ")
    if key == "logit":
        return "LogitLens()"
    if kind == "last blocks":
        return f"LastBlocksLens({int(rest)})"
    if kind == "trained here":
        return "load_lens('lens.safetensors')  # the lens that you trained: download it there"
    return f"load_lens({shipped_name(model.cfg.name, kind)!r})"


def _second_lines(model: HookedModel, wanted: Request, settings: Settings, how: str) -> list[str]:
    first, second = wanted.first, wanted.second
    if second is None:
        return []
    if second.lens_key != first.lens_key:
        return [
            f"other = {_transport(model, second.lens_key)}",
            f"second = read_lens(model, tokens, other, {how})",
            f"both = compare_lenses(model, tokens, transport, other, site={first.site!r})",
            "print(both.to_frame())",
        ]
    return [
        f"others = model.to_tokens({settings.other_prompt!r}, prepend_bos={settings.bos!r})",
        f"second = read_lens(model, others, transport, {how})",
        f"both = compare_prompts(model, tokens, others, transport, site={first.site!r})",
        "print(both.to_frame())",
    ]


def _aim(aim: Aim) -> str:
    return f"Aim({aim.target!r}, foil={aim.foil!r})"

"""*Show the code*: the edit as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code. The edit is
called ``edit`` in both.
"""

from __future__ import annotations

from app.editing_lab.asked import request_of, settings_of
from app.editing_lab.settings import FT, FT_L, IN_CONTEXT, MEMIT, Settings
from lens_core import HookedModel

MOST_LINES = 40
_FUNCTIONS = {MEMIT: "memit", FT: "fine_tune", FT_L: "fine_tune", IN_CONTEXT: "in_context"}


def editing_code(model: HookedModel, settings: Settings) -> str:
    """A script that makes this edit on the model as it was loaded. Raises as `request_of`."""
    request = request_of(model, settings)
    chosen = settings_of(model, settings)
    function = _FUNCTIONS.get(settings.method, "rome")
    kind = "" if chosen is None else f", {type(chosen).__name__}"
    lines = [
        "from lens_core import HookedModel",
        f"from lens_core.editing import EditRequest{kind}, {function}",
        "",
        f"model = HookedModel.from_pretrained({model.cfg.name!r})",
        "request = EditRequest(",
        f"    {request.prompt!r},",
        f"    subject={request.subject!r},",
        f"    target_new={request.target_new!r},",
        f"    target_true={request.target_true!r},",
        f"    relation={request.relation!r},",
        ")",
    ]
    if chosen is None:
        lines.append(f"edit = {function}(model, request)")
    else:
        lines += [f"settings = {chosen!r}", f"edit = {function}(model, request, settings)"]
    lines += [
        "print(edit.trace.to_frame())",
        "print(edit.trace.diagnostics_frame())",
        "",
    ]
    if settings.method == IN_CONTEXT:
        lines += ["edited, prefix = model, edit.prefix  # no weight is changed"]
    else:
        lines += ["edited, prefix = model.edited([edit]), ''  # shares every weight with the model"]
    lines += [
        f"question = {(settings.ask.strip() or settings.prompt)!r}",
        "for one, text in ((model, question), (edited, prefix + question)):",
        "    best = one.run(text, last_logits_only=True)[0, -1].softmax(-1).topk(5)",
        "    print(list(zip(one.to_str_tokens(best.indices), best.values.tolist())))",
        f"    print(one.to_string(one.generate(text, {settings.n_new}, "
        f"temperature={settings.temperature!r}, seed={settings.draw!r})[0]))",
    ]
    return "\n".join(lines) + "\n"

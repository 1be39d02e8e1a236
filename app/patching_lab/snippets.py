"""*Show the code*: the view's numbers as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code. The view's
result is called ``found`` in all of them.
"""

from __future__ import annotations

from app.patching_lab.asked import Scene
from app.patching_lab.attribution_view import IG_STEPS
from app.patching_lab.many_view import PAIRS_FILE, pairs_of
from app.patching_lab.measured import NEEDS_TEXTS
from app.patching_lab.pairs import PairKey
from app.patching_lab.settings import ALL_POSITIONS, ATTRIBUTION, HEADS, MANY, WIRES
from app.patching_lab.wires import chosen_sender, read_by, readers
from app.patching_lab.wires import how as of_wires

MOST_LINES = 40
_MOST_WRITTEN = 8


def patching_code(scene: Scene) -> str:
    """A script that computes what the view shows, outside the page."""
    settings = scene.settings
    site, where = settings.site, ""
    if settings.view == HEADS:
        site = settings.part
        where = (
            ' positions="all",' if settings.over == ALL_POSITIONS else f" positions=[{scene.at}],"
        )
    if settings.view == ATTRIBUTION:
        return _estimate(scene)
    if settings.view == WIRES:
        return _wires(scene)
    keys = _keys(scene)
    lines = [
        *(["import json", ""] if len(keys) > _MOST_WRITTEN else []),
        "from lens_core import HookedModel",
        "from lens_core.patching import prompt_pair, sweep",
        "",
        f"model = HookedModel.from_pretrained({scene.model.cfg.name!r})",
        *_pairs(keys),
        *_texts(scene),
        f"found = sweep(model, pairs, {site!r},{where} patch_with={settings.patch_with!r},",
        f"              direction={settings.direction!r}, metric={settings.metric!r},",
        f"              {_reference(scene)}seed={settings.seed})",
        "print('clean', found.clean.mean(), 'corrupted', found.corrupted.mean(), found.unit)",
        "print(found.normalised_mean.round(2))  # 1: the clean run, 0: the corrupted one",
        "print(found.to_frame())",
    ]
    return "\n".join(lines) + "\n"


def _estimate(scene: Scene) -> str:
    settings = scene.settings
    steps = IG_STEPS if settings.gradient == "integrated" else 0
    how = f"direction={settings.direction!r}, metric={settings.metric!r}"
    lines = [
        "from lens_core import HookedModel",
        "from lens_core.patching import prompt_pair, sweep",
        "from lens_core.patching.attribution_patching import attribution_patching",
        "",
        f"model = HookedModel.from_pretrained({scene.model.cfg.name!r})",
        *_pairs((scene.key,)),
        f"found = attribution_patching(model, pairs, {settings.site!r}, ig_steps={steps},",
        f"                             {how})",
        f"true = sweep(model, pairs, {settings.site!r}, {how})",
        "print(found.normalised_mean.round(2), true.normalised_mean.round(2), sep='\\n')",
        "print(found.to_frame())",
    ]
    return "\n".join(lines) + "\n"


def _wires(scene: Scene) -> str:
    reader, several = read_by(scene), readers(scene)
    lines = [
        "from lens_core import HookedModel",
        "from lens_core.patching import path_patching, prompt_pair, senders_before, wire_effects",
        "",
        f"model = HookedModel.from_pretrained({scene.model.cfg.name!r})",
        *_pairs((scene.key,)),
        f"how = {of_wires(scene)!r}",
        f"senders = senders_before(model, {reader!r})",
        f"found = path_patching(model, pairs, senders, {list(several)!r}, **how)",
        "for sender, row in zip(senders, found.moved.round(2)):  # the share of the way",
        "    print(sender, dict(zip(found.receivers, row)))",
        "print(found.to_frame())",
        f"print(wire_effects(model, pairs[0], {chosen_sender(scene)!r}, {reader!r}, **how))",
    ]
    return "\n".join(lines) + "\n"


def _keys(scene: Scene) -> tuple[PairKey, ...]:
    many = scene.settings.view == MANY
    return pairs_of(scene.model, scene.settings).keys if many else (scene.key,)


def _pairs(keys: tuple[PairKey, ...]) -> list[str]:
    if len(keys) <= _MOST_WRITTEN:
        return ["pairs = [", *(f"    {_call(key)}," for key in keys), "]"]
    return [
        f"with open({PAIRS_FILE!r}, encoding='utf-8') as file:  # the page's button: These pairs",
        "    rows = json.load(file)",
        "pairs = [",
        "    prompt_pair(model, row['clean'], row['corrupted'], row['answer'], row['foil'],",
        "                align=row['align'], prepend_bos=row['bos'])",
        "    for row in rows",
        "]",
    ]


def _call(key: PairKey) -> str:
    given = f"{key.clean!r}, {key.corrupted!r}, {key.answer}, {key.foil}"
    return f"prompt_pair(model, {given}, align={key.align!r}, prepend_bos={key.bos!r})"


def _texts(scene: Scene) -> list[str]:
    if scene.settings.patch_with not in NEEDS_TEXTS:
        return []
    n = len(scene.tokens)
    if scene.model.cfg.name.startswith("glass"):
        return [
            "from lens_core.attention import largest_half, repeated_random_tokens",
            f"half = min(largest_half(model), {max(1, n // 2)})",
            "texts = repeated_random_tokens(model, n_sequences=32, half=half, "
            f"seed={scene.settings.seed}).split(1)",
        ]
    return [
        "from lens_core.lens.corpus import read_corpus",
        f"rows = read_corpus('world:{scene.settings.seed}', model, n_ctx={n}, max_tokens={64 * n})",
        "texts = rows.tokens.split(1)",
    ]


def _reference(scene: Scene) -> str:
    return "reference=texts, " if scene.settings.patch_with in NEEDS_TEXTS else ""

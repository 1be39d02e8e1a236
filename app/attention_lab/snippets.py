"""*Show the code*: the view's numbers as a short script for ``lens_core``, settings included.

Every text of a visitor stands in the script as Python's ``repr`` of it, never as code. The view's
result is called ``found`` in all of them.
"""

from __future__ import annotations

from app.attention_cache import Block, Corpus
from app.attention_lab import block_view, weights_view
from app.attention_lab.asked import Scene
from app.attention_lab.head_view import averaged_prompts
from app.attention_lab.settings import ANSWER, BLOCK, HEAD, SCORES, THIS_PROMPT

MOST_LINES = 40


def attention_code(scene: Scene) -> str:
    """A script that computes what the view shows, outside the page."""
    makers = {HEAD: _head, SCORES: _measured, ANSWER: _answer, BLOCK: _block}
    imports, lines = makers.get(scene.settings.view, _grid)(scene)
    edge = scene.edge
    head = [
        "from lens_core import HookedModel",
        *imports,
        "",
        f"model = HookedModel.from_pretrained({scene.model.cfg.name!r})",
        f"tokens = model.to_tokens({scene.settings.prompt!r}, prepend_bos={scene.settings.bos!r})",
        f"layer, head, dest, src = {edge['layer']}, {edge['head']}, {edge['dest']}, {edge['src']}",
        "",
    ]
    return "\n".join([*head, *lines]) + "\n"


Code = tuple[list[str], list[str]]


def _grid(scene: Scene) -> Code:
    name, arguments = _values(scene.settings.shows)
    return ["from lens_core.attention import read_attention"], [
        "# Every head's attention, [layer, head, destination, source].",
        f"found = read_attention(model, tokens{arguments})",
        f"print(found.{name}[layer, head].round(2))",
        "print(found.tokens[dest], 'looks at', found.tokens[src], end=' ')",
        f"print(found.{name}[layer, head, dest, src])",
        "print(found.to_frame())",
        *_other(scene),
    ]


def _other(scene: Scene) -> list[str]:
    prompt = scene.settings.other_prompt
    if scene.settings.view == HEAD or not prompt.strip():
        return []
    _, arguments = _values(scene.settings.shows)
    return [
        f"others = model.to_tokens({prompt!r}, prepend_bos={scene.settings.bos!r})",
        f"second = read_attention(model, others{arguments})",
    ]


def _values(shows: str) -> tuple[str, str]:
    return {
        "pattern": ("pattern", ""),
        "scores": ("scores", ", scores=True"),
        "value-weighted": ("value_weighted", ", value_weighted=True"),
    }[shows]


def _head(scene: Scene) -> Code:
    drawn = scene.settings.drawn
    if drawn == "neuron view":
        return ["from lens_core.attention import query_key"], [
            "# One score: query times key, entry by entry.",
            "found = query_key(model, tokens, layer, head, dest, src)",
            "print(found.to_frame())",
            "print(found.products.sum() * found.scale + found.remainder, '=', found.score)",
            "print('attention', found.weight)",
        ]
    if drawn == "weights":
        of, by = weights_view.asked_tokens(scene)
        return ["from lens_core.attention import ov_promoted, qk_attended"], [
            f"found = ov_promoted(model, layer, head, {of})  # {_quoted(scene, of)}",
            "print(found.to_frame())",
            f"looked_at = qk_attended(model, layer, head, {by})  # {_quoted(scene, by)}",
            "print(looked_at.to_frame())",
        ]
    if drawn == "averaged":
        return _averaged(scene)
    return _grid(scene)


def _quoted(scene: Scene, token_id: int) -> str:
    """A token in a comment: no line break of it may end the comment."""
    return ascii(scene.text(token_id))


def _averaged(scene: Scene) -> Code:
    return ["import torch", "from lens_core.attention import mean_attention"], [
        f"prompts = {list(averaged_prompts(scene))!r}",
        f"rows = [model.to_tokens(one, prepend_bos={scene.settings.bos!r}) for one in prompts]",
        "found = mean_attention(model, torch.cat(rows))",
        "print(found.pattern[layer, head].round(2))",
        "print(found.std[layer, head, dest, src])",
    ]


def _measured(scene: Scene) -> Code:
    settings = scene.settings
    if settings.measured == "composition":
        return ["from lens_core.attention import composition_scores"], [
            f"found = composition_scores(model, seed={settings.seed})",
            f"print(found.above_baseline({settings.into!r})[:, :, layer, head].round(3))",
            f"print(found.strongest({settings.into!r}))",
        ]
    if settings.measured == "loss of a repeat":
        return [
            "from lens_core.attention.induction import induction_curve",
            "from lens_core.attribution import block_attention",
        ], [
            "without = [block_attention(layer, head)]",
            f"found = induction_curve(model, seed={settings.seed}, interventions=without)",
            "print(found.before.drop, found.effect(1), found.effect(2))",
            "print(found.to_frame())",
        ]
    given = "tokens, " if settings.scored_on == THIS_PROMPT else ""
    return ["from lens_core.attention import head_scores"], [
        f"found = head_scores(model, {given}seed={settings.seed})",
        f"score = found[{settings.score!r}]",
        "print(score.kind.definition, score.kind.formula)",
        "print('at most', score.ceiling, 'at least', score.floor)",
        "print(score.value.round(3))",
        f"for best in found.ranking({settings.score!r})[:8]:",
        "    control = None if score.control is None else score.control[best]",
        "    print(best, score.value[best], score.low[best], score.high[best], control)",
    ]


def _question(scene: Scene) -> str:
    foil = "None" if scene.foil_id is None else str(scene.foil_id)
    words = [_quoted(scene, scene.target_id)]
    if scene.foil_id is not None:
        words.append(_quoted(scene, scene.foil_id))
    return (
        f"question = {{'target': {scene.target_id}, 'foil': {foil}, 'position': {scene.position}}}"
        f"  # {' minus '.join(words)}"
    )


def _answer(scene: Scene) -> Code:
    name, arguments, more = {
        "sources": ("source_attribution", ", layer=layer, head=head", []),
        "neurons": ("neuron_attribution", ", layer=layer", []),
        "accumulated": ("accumulated", "", []),
        "heads": ("direct_logit_attribution", "", ["print(found.by_head.round(2))"]),
    }.get(scene.settings.parts, ("direct_logit_attribution", "", ["print(found.by_component)"]))
    residual = [] if name == "accumulated" else ["print('unexplained', found.residual)"]
    return [f"from lens_core.attribution import {name}"], [
        _question(scene),
        f"found = {name}(model, tokens{arguments}, **question)",
        "print(found.to_frame())",
        *more,
        "print('the model says', found.value)",
        *residual,
    ]


def _block(scene: Scene) -> Code:
    if scene.settings.blocked in ("head", "other parts"):
        return _ablation(scene)
    [block] = block_view.blocks_of(scene)
    return ["from lens_core.attribution import block_attention, intervention_effect"], [
        _question(scene),
        f"edit = {_block_call(block)}",
        "found = intervention_effect(model, tokens, [edit], **question)",
        "print(found.before, found.after, found.total_effect, found.kl_nats, sep='\\n')",
        "print(found.pattern_change_max.round(2))",
    ]


def _block_call(block: Block) -> str:
    where = [str(block.layer), str(block.head)]
    where += [
        f"{name}={at}" for name in ("dest", "src") if (at := getattr(block, name)) is not None
    ]
    where += ["renormalise=True"] if block.renormalise else []
    return f"block_attention({', '.join(where)})"


def _ablation(scene: Scene) -> Code:
    parts = list(block_view.parts_of(scene))
    how = block_view.how(scene)
    imports = ["from lens_core.attribution import ablate"]
    lines: list[str] = []
    corpus = ""
    if isinstance(how.get("corpus"), Corpus):
        more, lines = _corpus(scene, how["corpus"])
        imports, corpus = [*more, *imports], ", corpus=corpus"
    return imports, [
        *lines,
        _question(scene),
        f"found = ablate(model, tokens, {parts!r}, **question,",
        f"               kind={how['kind']!r}, seed={how['seed']}{corpus})",
        "print(found.before, found.after, sep='\\n')",
        "print('total', found.total_effect, 'direct', found.direct_effect)",
        "print('indirect', found.indirect_effect, 'KL', found.kl_nats)",
    ]


def _corpus(scene: Scene, corpus: Corpus) -> Code:
    if scene.model.cfg.name.startswith("glass"):
        return ["from lens_core.attention import largest_half, repeated_random_tokens"], [
            f"half = min(largest_half(model), {max(1, corpus.n_tokens // 2)})",
            "corpus = repeated_random_tokens(model, n_sequences=32, half=half, "
            f"seed={corpus.seed}).split(1)",
        ]
    return ["from lens_core.lens.corpus import read_corpus"], [
        f"rows = read_corpus('world:{corpus.seed}', model, n_ctx={corpus.n_tokens},",
        f"                   max_tokens={64 * corpus.n_tokens})",
        "corpus = list(rows.tokens.split(1))",
    ]

"""Take something away, and see what becomes of the answer and of the attention further on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from app.attention_cache import Answer, Block, Corpus, ask, begin
from app.attention_lab.asked import Scene
from app.attention_lab.maps import choice, head_map
from app.attention_lab.measured import settled
from app.attention_lab.parts import PartNames, head_label, listed_parts, part_label
from app.attention_lab.selection import take_thumbnail
from app.attention_lab.settings import BLOCKED, KINDS
from app.components.head_grid import GridOptions, HeadGridView, HeadPrompt, head_grid
from app.errors import plain
from app.jobs import Job
from lens_core.attention import AttentionResult, read_attention
from lens_core.attribution import (
    Ablation,
    HeadEffects,
    InterventionEffect,
    Prediction,
    ablate,
    ablate_each_head,
    intervention_effect,
)
from lens_core.plots import visible

if TYPE_CHECKING:
    import pandas as pd

CHANGE_KEY, EACH_KEY, DOWNSTREAM_KEY = "change_map", "each_map", "downstream_grid"
_CORPUS_TOKENS = 32


def controls() -> None:
    """What is taken away, and what comes in its place."""
    blocked = choice("Block", BLOCKED, "blocked")
    if blocked in ("head", "other parts"):
        choice("In its place", KINDS, "kind")
    else:
        st.checkbox(
            "The rest of the row makes up for it",
            key="renormalise",
            bind="query-params",
            persist_state="page",
            help="Blocked before the softmax, so that each row still adds up to 1 and the other "
            "edges grow. Otherwise the edges are zeroed and the others carry what they carried.",
        )
    if blocked == "other parts":
        st.text_input(
            "Parts to take away together",
            key="listed",
            bind="query-params",
            persist_state="page",
            max_chars=400,
            placeholder="L4H7 L5H1 mlp3 attn2",
            help="Heads as L4H7, MLPs as mlp and the layer, whole attentions as attn and "
            "the layer.",
        )


def draw(scene: Scene) -> None:
    """Before and after, where the effect goes, and every head in turn."""
    if scene.settings.blocked in ("head", "other parts"):
        parts = parts_of(scene)
        if not parts:
            st.info("Type some parts above, such as: L4H7 mlp3")
            return
        settled(
            ablation_job(scene, parts),
            "Running the model without them",
            lambda answer: _ablation(scene, answer, parts),
        )
    else:
        _edge(scene)
    heads = [part for part in parts_of(scene) if not isinstance(part[1], str)]
    if scene.settings.blocked not in ("head", "other parts") or heads:
        _downstream(scene)
    _each(scene)


def parts_of(scene: Scene) -> PartNames:
    """The parts that are taken away: the chosen head, or those that were listed."""
    if scene.settings.blocked == "other parts":
        return listed_parts(scene.model, scene.settings.listed)
    return ((scene.edge["layer"], scene.edge["head"]),)


def blocks_of(scene: Scene) -> tuple[Block, ...]:
    """The attention that is stopped."""
    edge, settings = scene.edge, scene.settings
    if settings.blocked in ("head", "other parts"):
        return tuple(
            Block(layer, head) for layer, head in parts_of(scene) if not isinstance(head, str)
        )
    dest = edge["dest"] if settings.blocked in ("edge", "row") else None
    src = edge["src"] if settings.blocked in ("edge", "column") else None
    # Of a whole row nothing is left that could make up for it.
    renormalise = settings.renormalise and src is not None
    return (Block(edge["layer"], edge["head"], dest, src, renormalise),)


def how(scene: Scene) -> dict[str, Any]:
    """Kind, corpus and seed as the ablations take them."""
    settings = scene.settings
    given: dict[str, Any] = {"kind": settings.kind, "seed": settings.seed, **scene.question}
    if settings.kind != "zero":
        length = max(_CORPUS_TOKENS, len(scene.token_ids))
        given["corpus"] = Corpus(min(length, scene.model.cfg.n_ctx or length), settings.seed)
    return given


def ablation_job(scene: Scene, parts: PartNames) -> Job[Answer[Ablation]]:
    """The ablation of these parts."""
    return begin(scene.model, ablate, scene.token_ids, parts=parts, **how(scene))


def each_job(scene: Scene) -> Job[Answer[HeadEffects]]:
    """Every head ablated in turn."""
    return begin(scene.model, ablate_each_head, scene.token_ids, **how(scene))


def edge_effect(scene: Scene) -> Answer[InterventionEffect]:
    """What stopping the attention does."""
    return ask(
        scene.model,
        intervention_effect,
        scene.token_ids,
        edits=blocks_of(scene),
        **scene.question,
    )


def _ablation(scene: Scene, answer: Answer[Ablation], parts: PartNames) -> None:
    found = answer.result
    named = ", ".join(part_label(part) for part in parts)
    _before_after(scene, found.before, found.after, f"without {named}", found.kl_nats)
    total, direct, indirect = st.columns(3)
    total.metric("Total effect (logits)", f"{found.total_effect:+.2f}")
    direct.metric("Direct effect", f"{found.direct_effect:+.2f}")
    indirect.metric("Indirect effect", f"{found.indirect_effect:+.2f}")
    st.caption(
        "Total: the answer's change, after minus before. Direct: what these parts alone no longer "
        "write into it, all else and the final norm's scale as it was. Indirect: the rest, what "
        f"later parts make of it, and the norm's new scale; of it "
        f"{found.direct_effect_renormed - found.direct_effect:+.2f} is the scale. A small total "
        "need not mean that a part does nothing: later ones may make up for it."
    )
    if found.kind == "resample":
        spread = float(np.std(found.draws))
        st.caption(f"Mean over {len(found.draws)} draws (seed {found.seed}); the total effect's "
                   f"standard deviation over draws is {spread:.2f}.")  # fmt: skip


def _edge(scene: Scene) -> None:
    found = edge_effect(scene).result
    edge = scene.edge
    dest, src = (plain(visible(scene.attention.tokens[edge[end]])) for end in ("dest", "src"))
    what = {
        "edge": f"with {dest} blind to {src}",
        "column": f"with every token blind to {src}",
        "row": f"with {dest} blind to everything",
    }[scene.settings.blocked]
    name = head_label(edge["layer"], edge["head"])
    _before_after(scene, found.before, found.after, f"{what} in {name}", found.kl_nats)
    st.metric("Total effect (logits)", f"{found.total_effect:+.2f}")


def _before_after(
    scene: Scene, before: Prediction, after: Prediction, without: str, kl_nats: float
) -> None:
    target = plain(visible(scene.text(scene.target_id)))
    asked = f"logit of {target}"
    if scene.foil_id is not None:
        asked += f" minus that of {plain(visible(scene.text(scene.foil_id)))}"
    at = plain(visible(scene.attention.tokens[scene.position]))
    st.markdown(
        f"**{without[:1].upper()}{without[1:]}**, after *{at}*: the {asked} goes from "
        f"**{before.value:.2f}** to **{after.value:.2f}**, and {target} from "
        f"**{before.target_prob:.1%}** (rank {before.target_rank}) to **{after.target_prob:.1%}** "
        f"(rank {after.target_rank}). The whole prediction moved by {kl_nats:.3f} nats (KL)."
    )
    left, right = st.columns(2)
    left.caption("Before")
    left.dataframe(_guesses(before), hide_index=True)
    right.caption("After")
    right.dataframe(_guesses(after), hide_index=True)


def _guesses(prediction: Prediction) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "token": [visible(text) for text in prediction.top_texts],
            "probability": [f"{p:.1%}" for p in prediction.top_probs],
        }
    )


def _downstream(scene: Scene) -> None:
    """How much every later head's attention moves, and each of them before and after."""
    if scene.settings.blocked in ("head", "other parts") and scene.settings.kind != "zero":
        st.caption("How the attention further on changes is shown for *zero*, *edge*, *column* and "
                   "*row*.")  # fmt: skip
        return
    found = edge_effect(scene).result
    st.markdown("**How far the attention of each head moved**, at its most moved token")
    head_map(
        found.pattern_change_max,
        scene.edge,
        key=CHANGE_KEY,
        label="Change of attention",
        top=1.0,
        note=lambda a, b: f"At the answer's token {found.pattern_change[a, b]:.3f}.",
    )
    st.caption(
        "Half the summed difference of a row: 0 is the same attention, 1 is nothing in common. "
        "A cell opens its head."
    )
    opened = st.expander("Before and after, every head", key="downstream_open", on_change="rerun")
    if opened.open:
        with opened:
            _both(scene)


def blocked_attention(scene: Scene) -> AttentionResult:
    """The attention of the changed run."""
    return ask(
        scene.model, read_attention, scene.token_ids, heavy=True, interventions=blocks_of(scene)
    ).result


def _both(scene: Scene) -> None:
    after = blocked_attention(scene)
    head_grid(
        HeadGridView(
            title="Left half before, right half after",
            prompts=tuple(
                HeadPrompt(name, result.tokens, result.pattern)
                for name, result in (("before", scene.attention), ("after", after))
            ),
            options=GridOptions(),
            link="",
        ),
        selected=scene.edge,
        key=DOWNSTREAM_KEY,
        on_choose=lambda: take_thumbnail(DOWNSTREAM_KEY, scene.attention, opens=True),
    )


def _each(scene: Scene) -> None:
    opened = st.expander("Every head in turn", key="each_open", on_change="rerun")
    if opened.open:
        with opened:
            settled(each_job(scene), "Taking each head away", lambda answer: _map(scene, answer))


def _map(scene: Scene, answer: Answer[HeadEffects]) -> None:
    found = answer.result
    st.markdown(f"**Total effect of each head alone** ({found.kind}), in logits")
    head_map(
        found.total_effect,
        scene.edge,
        key=EACH_KEY,
        label="Total effect of ablating each head",
        note=lambda a, b: (
            f"Direct {found.direct_effect[a, b]:+.2f}, indirect {found.indirect_effect[a, b]:+.2f}."
        ),
    )
    st.caption(
        f"Negative: the answer needs the head. The value without any ablation is "
        f"{found.value:.2f}. Measured in {answer.took_ms / 1000:.1f} s. A cell opens its head."
    )

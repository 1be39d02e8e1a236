"""The same steps on the chosen model: too many numbers to read, so their shapes, and one head."""

from __future__ import annotations

import streamlit as st

from app.components.number_grid import NumberCell, NumberGrid, number_grid
from app.errors import plain
from app.models import chosen_model
from app.presets import PRESETS
from app.theme import is_dark
from lens_core.glass import ForwardSteps, forward_steps
from lens_core.glass.arithmetic import number
from lens_core.model.errors import PromptTooLongError
from lens_core.plots import palette, visible

MAX_TOKENS = 24


def shapes() -> None:
    """The chosen model's steps with their shapes, and the pattern of one of its heads."""
    model = chosen_model()
    prompt = st.text_input(
        "Your prompt",
        value=PRESETS[0].prompt,
        key="prompt",
        bind="query-params",
        persist_state="page",
        max_chars=500,
        help="The prompt that travels with you from lab to lab.",
    )
    if not (prompt or "").strip():
        st.info("Type the start of a sentence.")
        return
    tokens = model.to_tokens(prompt or "")
    if tokens.shape[1] > MAX_TOKENS:
        raise PromptTooLongError(
            f"The prompt has {tokens.shape[1]} tokens and this view draws at most {MAX_TOKENS}; "
            "shorten it."
        )
    steps = forward_steps(model, tokens)
    left, right = st.columns(2)
    block = left.number_input(
        "Block", 0, model.cfg.n_layers - 1, 0, 1, key="block", bind="query-params"
    )
    head = right.number_input(
        "Head", 0, model.cfg.n_heads - 1, 0, 1, key="head", bind="query-params"
    )
    block, head = int(block or 0), int(head or 0)
    _table(steps, block)
    c = model.cfg
    st.caption(
        f"{plain(c.name)}: {c.n_params / 1e6:.1f} M weights, {c.n_layers} blocks, {c.n_heads} "
        f"heads, d_model {c.d_model}. The steps are those of the glass model, the sizes are not."
    )
    _pattern(steps, block, head, has_bos=model.bos_id == steps.token_ids[0])


def _table(steps: ForwardSteps, block: int) -> None:
    import pandas as pd

    chosen = [step for step in steps if step.layer in (None, block) or step.name == "resid_pre"]
    frame = pd.DataFrame(
        {
            "step": [step.key for step in chosen],
            "what": [step.title for step in chosen],
            "shape": [
                ", ".join(f"{axis} {n}" for axis, n in zip(s.axes, s.tensor.shape, strict=True))
                for s in chosen
            ],
            "numbers": [step.tensor.numel() for step in chosen],
        }
    )
    st.dataframe(frame, hide_index=True, height=320)


def _pattern(steps: ForwardSteps, block: int, head: int, *, has_bos: bool) -> None:
    pattern = steps[f"pattern.{block}"].grid(head)
    st.markdown(
        f"**Attention pattern of block {block}, head {head}.** Each row is shared out over itself "
        "and the tokens before it."
    )
    tokens = [f"{i} {visible(token)}" for i, token in enumerate(steps.tokens)]
    if has_bos:
        tokens[0] = "0 start"
    colors = palette(dark=is_dark())
    cells = [
        [
            NumberCell(
                "" if key > query else number(share, 2),
                round(share, 3),
                f"{tokens[query]} gives {tokens[key]} {share:.3f} of its attention",
            )
            for key, share in enumerate(row)
        ]
        for query, row in enumerate(pattern.tolist())
    ]
    number_grid(
        NumberGrid(
            title=f"Attention pattern of block {block}, head {head}",
            label=f"Attention pattern of block {block}, head {head}",
            rows=tokens,
            columns=tokens,
            places=list(range(len(tokens))),
            cells=cells,
            row=-1,
            place=-1,
        ),
        plus=colors.accent,
        minus=colors.categorical[1],
        key="shapes_pattern",
        on_choose=lambda: None,
    )

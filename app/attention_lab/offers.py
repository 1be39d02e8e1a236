"""What every view offers for the chosen head: its own view, and its ablation."""

from __future__ import annotations

import streamlit as st

from app.attention_lab.asked import Scene
from app.attention_lab.parts import head_label
from app.attention_lab.selection import go_to
from app.attention_lab.settings import BLOCK, HEAD
from app.errors import plain
from lens_core.plots import visible


def offer_block(scene: Scene, *, opened: bool = False) -> None:
    """Buttons to open the head, and to block it or its edge. ``opened``: it is open already."""
    edge = scene.edge
    name = head_label(edge["layer"], edge["head"])
    dest, src = (plain(visible(scene.attention.tokens[edge[end]])) for end in ("dest", "src"))
    with st.container(horizontal=True, gap="small", key="offers"):
        if not opened:
            st.button(
                f"Open {name}",
                key="offer_open",
                icon=":material/open_in_full:",
                on_click=go_to,
                args=(HEAD,),
                help="Its scores, the products behind them, and what its weights say of a token.",
            )
        st.button(
            f"Block {name}",
            key="offer_head",
            icon=":material/block:",
            on_click=go_to,
            args=(BLOCK,),
            kwargs={"blocked": "head"},
            help="Take the head away and see what becomes of the answer.",
        )
        st.button(
            f"Block {dest} to {src}",
            key="offer_edge",
            icon=":material/link_off:",
            on_click=go_to,
            args=(BLOCK,),
            kwargs={
                "blocked": "edge",
                "dest": edge["dest"],
                "src": edge["src"],
            },
            help="Stop this head from looking from the one token to the other, and nothing else.",
        )
    st.caption(
        "A pattern shows where a head looks. Whether anything depends on it, only blocking tells."
    )

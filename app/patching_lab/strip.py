"""Both prompts token under token, with what differs marked; a click chooses the position."""

from __future__ import annotations

import numpy as np

from app.layer_map import LayerMap, layer_map
from app.patching_lab.asked import Scene
from app.patching_lab.selection import take_position
from lens_core.plots import visible

KEY = "token_strip"


def token_strip(scene: Scene) -> None:
    """Draw it."""
    aligned = scene.aligned
    patched = 1 if scene.denoising else 0
    places = [column[patched] for column in aligned.columns]
    texts = [
        ["" if c[0] is None else visible(aligned.clean[c[0]]) for c in aligned.columns],
        ["" if c[1] is None else visible(aligned.corrupted[c[1]]) for c in aligned.columns],
    ]
    differs = np.array([float(a != b) for a, b in zip(*texts, strict=True)])
    shades = np.stack([differs, -differs])
    names = ("clean", "corrupted")

    def note(row: int, column: int) -> str:
        where = aligned.columns[column][row]
        if where is None:
            return "no counterpart here; nothing can be patched"
        return f"position {where} of the {names[row]} prompt" + (
            ", which differs" if differs[column] else ""
        )

    def choose(row: int, column: int) -> None:
        where = places[column]
        if where is not None:
            take_position(where)

    layer_map(
        LayerMap(
            title="The two prompts, token by token",
            label="The two prompts, token under token",
            values=np.zeros_like(shades),
            effects=shades,
            rows=names,
            columns=["" if p is None else str(p) for p in places],
            note=note,
            chosen=(patched, places.index(scene.at) if scene.at in places else 0),
            texts=texts,
        ),
        key=KEY,
        on_choose=choose,
    )

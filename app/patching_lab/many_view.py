"""The map averaged over many pairs of prompts, with the interval of the chosen cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.attention_cache import Answer, ask
from app.attention_lab.measured import settled
from app.errors import plain
from app.layer_map import LayerMap, layer_map, written
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.families import MOST_PAIRS, family
from app.patching_lab.measured import layers_of, many_job
from app.patching_lab.pairs import MAX_CHARS, PairKey
from app.patching_lab.places_view import shown_values, timing
from app.patching_lab.selection import choice, take_place
from app.patching_lab.settings import FAMILIES, OWN_PAIRS, SITES, Settings
from lens_core.patching import PatchingError, SweepResult
from lens_core.plots import visible

if TYPE_CHECKING:
    from lens_core import HookedModel

KEY = "patching_many"
_EXAMPLE = """\
The Eiffel Tower is in the city of, The Brandenburg Gate is in the city of, Paris, Berlin
The Brandenburg Gate is in the city of, The Eiffel Tower is in the city of, Berlin, Paris"""


def controls(sites: list[str]) -> None:
    """Which pairs, and what is patched."""
    choice("Patch", {name: SITES[name] for name in SITES if name in sites}, "site")
    if choice("Pairs", FAMILIES, "family") == OWN_PAIRS:
        st.text_area(
            "Your pairs, one a line: clean, corrupted, answer, foil",
            value=_EXAMPLE,
            key="own_pairs",
            persist_state="page",
            max_chars=4 * MAX_CHARS,
            help='As a CSV file has them; a text that holds a comma stands in "quotes". All '
            "prompts have equally many tokens.",
        )
    else:
        st.slider(
            "How many pairs",
            2,
            MOST_PAIRS,
            16,
            key="n_pairs",
            bind="query-params",
            persist_state="page",
        )


def pairs_of(model: HookedModel, settings: Settings) -> tuple[PairKey, ...]:
    """The pairs, those of the commonest length where they differ.

    Raises PatchingError, TokenError and what `prompt_pair` raises for the visitor's own.
    """
    asked = Settings(
        family=settings.family,
        own_pairs=settings.own_pairs or _EXAMPLE,
        n_pairs=settings.n_pairs,
        seed=settings.seed,
        align=settings.align,
        bos=settings.bos,
    )
    return ask(model, _pairs, settings=asked).result


def first_pair(model: HookedModel, settings: Settings) -> Settings:
    """The settings with the first pair in place of the visitor's two prompts."""
    key = pairs_of(model, settings)[0]
    answer, foil = model.to_str_tokens([key.answer]) + model.to_str_tokens([key.foil or 0])
    return replace(settings, prompt=key.clean, corrupted=key.corrupted, target=answer, foil=foil)


def _pairs(model: HookedModel, settings: Settings) -> tuple[PairKey, ...]:
    keys = family(model, settings)
    lengths = [len(key.pair(model).clean) for key in keys]
    ((common, n),) = Counter(lengths).most_common(1)
    if n < 2:
        raise PatchingError(
            "No two of these pairs have equally many tokens, so a position does not mean the same "
            "in them; use sentences of one pattern."
        )
    return tuple(key for key, length in zip(keys, lengths, strict=True) if length == common)


def draw(scene: Scene) -> None:
    """The averaged map, then the chosen cell with its interval."""
    keys = pairs_of(scene.model, scene.settings)
    settled(
        many_job(scene, keys),
        f"Patching {len(keys)} pairs",
        lambda answer: _draw(scene, keys, answer),
    )


def _draw(scene: Scene, keys: tuple[PairKey, ...], answer: Answer[SweepResult]) -> None:
    found = answer.result
    st.caption(
        f"{len(keys)} pairs, the first: *{plain(keys[0].clean)}* / *{plain(keys[0].corrupted)}*. "
        f"Mean {found.metric}: {found.clean.mean():.2f} in the clean runs, "
        f"{found.corrupted.mean():.2f} in the corrupted ones."
    )
    st.caption(words.direction_line(scene))
    layers = layers_of(found)
    row = layers.index(scene.layer) if scene.layer in layers else 0
    column = scene.at
    interval = found.interval()
    shares = found.normalised_mean
    layer_map(
        LayerMap(
            title=f"{scene.settings.site} patched, mean of {len(keys)} pairs",
            label=f"{scene.settings.site} patched, mean of {len(keys)} pairs: layers by tokens",
            values=shown_values(scene, found),
            effects=shares if scene.denoising else 1 - shares,
            rows=[f"L{layer}" for layer in layers],
            columns=[f"{i} {visible(text)}" for i, text in enumerate(found.token_texts)],
            note=lambda r, c: (
                f"{shares[r, c]:.3f}, 95% interval {interval.low[r, c]:.3f} to "
                f"{interval.high[r, c]:.3f}"
            ),
            chosen=(row, column),
        ),
        key=KEY,
        on_choose=lambda r, c: take_place(layers[r], c),
    )
    low, high = float(interval.low[row, column]), float(interval.high[row, column])
    each = found.normalised[row, column]
    st.markdown(
        f"Layer {layers[row]}, position {column}: **{written(float(shares[row, column]))}** on the "
        f"scale of the runs, 95% interval {written(low)} to {written(high)} over pairs; single "
        f"pairs from {written(float(np.nanmin(each)))} to {written(float(np.nanmax(each)))}."
    )
    st.caption(
        "The words above the columns are the first pair's; your own two prompts are not among "
        "them. The interval says how much the mean "
        f"would vary with other pairs of this kind; it says nothing of other kinds. "
        f"{timing(answer)}"
    )

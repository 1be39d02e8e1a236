"""The map averaged over many pairs of prompts, with the interval of the chosen cell."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app.attention_cache import Answer, ask
from app.errors import plain
from app.jobs import Job
from app.layer_map import LayerMap, layer_map, written
from app.lens_cache import fingerprint
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.families import MOST_PAIRS, family
from app.patching_lab.measured import layers_of, many_swept
from app.patching_lab.own_pairs import ManyPairs, own_pairs
from app.patching_lab.own_pairs_controls import type_or_upload
from app.patching_lab.pairs import PairKey
from app.patching_lab.pairs_file import TEMPLATE, LeftOut
from app.patching_lab.places_view import shown_values, timing
from app.patching_lab.selection import choice, take_place
from app.patching_lab.settings import FAMILIES, OWN_PAIRS, SITES, Settings
from app.watched_job import Watched
from lens_core.bootstrap import Interval
from lens_core.patching import PatchingError, SweepResult
from lens_core.plots import visible

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

KEY, PAIRS_FILE = "patching_many", "pairs.json"
_KEPT = "patching_many_found"


@dataclass(frozen=True, eq=False)
class Kept:
    """The visitor's average with its interval, and what it was made with."""

    key: Hashable
    answer: Answer[SweepResult]
    interval: Interval


def controls(sites: list[str]) -> None:
    """Which pairs, and what is patched."""
    choice("Patch", {name: SITES[name] for name in SITES if name in sites}, "site")
    if choice("Pairs", FAMILIES, "family") == OWN_PAIRS:
        type_or_upload()
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


def pairs_of(model: HookedModel, settings: Settings) -> ManyPairs:
    """The pairs, all of one length. Raises as `family` and `own_pairs`."""
    asked = Settings(
        family=settings.family,
        own_pairs=(settings.own_pairs or TEMPLATE) if settings.family == OWN_PAIRS else "",
        n_pairs=settings.n_pairs,
        seed=settings.seed,
        align=settings.align,
        bos=settings.bos,
    )
    return ask(model, _pairs, settings=asked).result


def _pairs(model: HookedModel, settings: Settings) -> ManyPairs:
    if settings.family == OWN_PAIRS:
        return own_pairs(model, settings)
    return ManyPairs(family(model, settings))


def first_pair(model: HookedModel, settings: Settings) -> Settings:
    """The settings with the first pair in place of the visitor's two prompts."""
    key = pairs_of(model, settings).keys[0]
    answer, foil = model.to_str_tokens([key.answer]) + model.to_str_tokens([key.foil or 0])
    return replace(settings, prompt=key.clean, corrupted=key.corrupted, target=answer, foil=foil)


def draw(scene: Scene) -> None:
    """The pairs, the offer to patch them or how far it is, the averaged map."""
    pairs = pairs_of(scene.model, scene.settings)
    first = pairs.keys[0]
    st.caption(
        f"{len(pairs.keys)} pairs, the first: *{plain(first.clean)}* / *{plain(first.corrupted)}*."
    )
    _say_left_out(pairs.left_out)
    _live(scene, pairs.keys).draw()
    kept = kept_for(scene)
    if kept is not None:
        _draw(scene, kept)
    _offer_pairs(pairs.keys)


def _offer_pairs(keys: tuple[PairKey, ...]) -> None:
    """The pairs as the code of this page reads them: JSON, which no program takes for formulas."""
    st.download_button(
        "These pairs (JSON)",
        lambda: json.dumps([asdict(key) for key in keys], indent=1, ensure_ascii=False),
        file_name=PAIRS_FILE,
        mime="application/json",
        on_click="ignore",
        key=f"{KEY}_pairs",
        icon=":material/download:",
    )


def _say_left_out(rows: tuple[LeftOut, ...]) -> None:
    if not rows:
        return
    what = "1 row is" if len(rows) == 1 else f"{len(rows)} rows are"
    with (
        st.expander(f"{what} left out, and why", icon=":material/info:"),
        st.container(height=240 if len(rows) > 4 else "content"),
    ):
        st.table(
            [{"row": str(row.number), "reason": plain(row.reason)} for row in rows],
            border="horizontal",
        )


def _live(scene: Scene, keys: tuple[PairKey, ...]) -> Watched[Kept]:
    return Watched(
        KEY, "patched run", offer=lambda: _offer(scene, keys), finish=lambda job: _keep(job)
    )


def _offer(scene: Scene, keys: tuple[PairKey, ...]) -> None:
    st.button(
        "Patch them",
        key=f"{KEY}_start",
        icon=":material/play_arrow:",
        on_click=lambda: _live(scene, keys).start(lambda job: work(scene, keys, job)),
    )
    if _KEPT in st.session_state and kept_for(scene) is None:
        st.caption("The settings have changed since the last average; patch them again to see it.")


def work(scene: Scene, keys: tuple[PairKey, ...], job: Job[Kept]) -> Kept:
    """The average; the job counts its patched runs, and can end it at any of them."""
    answer = many_swept(scene, keys, on_step=lambda done, total: job.step(done, total, float(done)))
    return Kept(_made_with(scene, keys), answer, answer.result.interval())


def _made_with(scene: Scene, keys: tuple[PairKey, ...]) -> Hashable:
    settings = scene.settings
    how = (settings.site, settings.patch_with, settings.direction, settings.metric, settings.seed)
    return fingerprint(scene.model), keys, how


def _keep(job: Job[Kept]) -> None:
    st.session_state[_KEPT] = job.result
    # The map stands outside of the part of the page that watches the job.
    st.rerun()


def kept_for(scene: Scene) -> Kept | None:
    """The visitor's average, if it was made of these pairs with these settings."""
    kept: Kept | None = st.session_state.get(_KEPT)
    if kept is None:
        return None
    made_with = _made_with(scene, pairs_of(scene.model, scene.settings).keys)
    return kept if kept.key == made_with else None


def table(scene: Scene) -> pd.DataFrame:
    """One line a place. Raises PatchingError before there is an average."""
    kept = kept_for(scene)
    if kept is None:
        raise PatchingError("There is no average yet: choose Patch them first.")
    return kept.answer.result.to_frame()


def _draw(scene: Scene, kept: Kept) -> None:
    found, interval = kept.answer.result, kept.interval
    st.markdown(
        f"Mean {found.metric} of {found.n_pairs} pairs: **{found.clean.mean():.2f}** in the clean "
        f"runs, **{found.corrupted.mean():.2f}** in the corrupted ones."
    )
    st.caption(words.direction_line(scene))
    words.warn_of_ablation(scene)
    layers = layers_of(found)
    row = layers.index(scene.layer) if scene.layer in layers else 0
    column = min(scene.at, found.mean.shape[1] - 1)
    shares = found.normalised_mean
    layer_map(
        LayerMap(
            title=f"{found.site} patched, mean of {found.n_pairs} pairs",
            label=f"{found.site} patched, mean of {found.n_pairs} pairs: layers by tokens",
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
    st.markdown(
        f"Layer {layers[row]}, position {column}: **{written(float(shares[row, column]))}** on the "
        f"scale of the runs, 95% interval {written(low)} to {written(high)} over pairs"
        f"{_single(found, row, column)}."
    )
    st.caption(
        "The words above the columns are the first pair's; your own two prompts are not among "
        "them. The interval says how much the mean "
        f"would vary with other pairs of this kind; it says nothing of other kinds. "
        f"{timing(kept.answer)}"
    )


def _single(found: SweepResult, row: int, column: int) -> str:
    """The range over single pairs, of those whose two runs differ."""
    each = found.normalised[row, column]
    each = each[np.isfinite(each)]
    if not len(each):
        return ""
    return f"; single pairs from {written(float(each.min()))} to {written(float(each.max()))}"

"""What the page says of a patch in words: where it is, what is put there, and what comes of it."""

from __future__ import annotations

import streamlit as st

from app.errors import plain
from app.layer_map import written
from app.patching_lab.asked import Guesses, Scene
from app.patching_lab.measured import Patched
from lens_core.patching import METRICS, PathResult, SweepResult
from lens_core.plots import visible


def token(text: str) -> str:
    """A token with its whitespace made visible, safe to show."""
    return plain(visible(text))


def question_line(scene: Scene, found: SweepResult | PathResult) -> str:
    """What the two unpatched runs come to."""
    metric = METRICS[scene.settings.metric]
    unit = f" {metric.unit}" if metric.unit else ""
    about = f"**{token(scene.answer_text)}**"
    if metric.needs_foil:
        about += f" against **{token(scene.foil_text)}**"
    return (
        f"The {metric.name} of {about} is **{written(float(found.clean[0]))}**{unit} in the clean "
        f"run and **{written(float(found.corrupted[0]))}**{unit} in the corrupted one."
    )


def direction_line(scene: Scene) -> str:
    """What a cell of the map is."""
    put = {
        "other run": "the clean activation" if scene.denoising else "the corrupted activation",
        "zero": "zeros",
        "mean": "the mean over other texts",
        "resample": "the activation of another text",
        "noise": "the activation with noise added",
    }[scene.settings.patch_with]
    into = "corrupted" if scene.denoising else "clean"
    strong = "brings the answer back" if scene.denoising else "takes the answer away"
    return (
        f"Each cell is one run of the {into} prompt with {put} in that one place. 1 is the clean "
        f"run, 0 the corrupted one; strong colour: the patch {strong}."
    )


def warn_of_ablation(scene: Scene) -> None:
    """Zero, mean and the rest bring nothing of the clean run along."""
    if scene.denoising and scene.settings.patch_with != "other run":
        st.caption(
            ":material/info: Nothing of the clean run comes in so, and so nothing can bring its "
            "answer back. To ask what the answer needs, choose the direction *noise*."
        )


def patch_table(found: Patched) -> None:
    """The likeliest next tokens of the three runs, beside each other."""
    runs = {
        "clean run": found.clean,
        "patched run": found.patched,
        "corrupted run": found.corrupted,
    }
    lines = zip(*(_guesses(run) for run in runs.values()), strict=True)
    st.table([dict(zip(runs, line, strict=True)) for line in lines], border="horizontal")


def _guesses(run: Guesses) -> list[str]:
    shown = list(zip(run.texts, run.probs, strict=True))[:5]
    return [f"{token(text)}, {_percent(p)}" for text, p in shown]


def _percent(p: float) -> str:
    return "under 0.1%" if p < 0.001 else f"{p:.1%}"


def moved_line(scene: Scene, found: Patched, value: float, normalised: float) -> str:
    """What this one patch does, as a sentence."""
    before = found.corrupted if scene.denoising else found.clean
    first, then = before.texts[0], found.patched.texts[0]
    changed = (
        f"the model still says **{token(then)}**"
        if first == then
        else f"the model now says **{token(then)}** and not *{token(first)}*"
    )
    share = "" if normalised != normalised else f", {written(normalised)} on the scale of the runs"
    return (
        f"With this patch {changed}. {METRICS[scene.settings.metric].name.capitalize()}: "
        f"{written(value)}{share}."
    )

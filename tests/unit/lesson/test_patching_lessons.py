"""Lessons 8 and 9: their settings are the lab's, their measures tell what one run a patch tells."""

import pytest

from app.lesson import load_lesson
from app.lesson.measures import measures
from app.patching_lab import measures as measures_of_the_lab
from app.patching_lab.attribution_view import IG_STEPS
from app.patching_lab.measures import named_heads
from app.patching_lab.pairs import PAIR_PRESETS
from app.patching_lab.settings import HEADS, ONE_POSITION, Settings
from lens_core.interventions import patch
from lens_core.model.errors import UnknownSiteError
from lens_core.patching import PatchingError

START = load_lesson("patching").settings
DRINK = {
    "prompt": "When Mary and John went to the store, John gave a drink to",
    "corrupted": "When Mary and John went to the store, Mary gave a drink to",
}
OR_GATE = {
    "prompt": "Japan or Japan, the capital is",
    "corrupted": "This or that, the capital is",
    "metric": "probability",
}


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("moves", {"at": 2}, layer=3)`` on the shipped model, the lab as the lesson starts."""
    assert registered

    def run(measure, settings=None, **given):
        return measures()[measure].fn(tiny_world, {**START, **(settings or {})}, **given)

    return run


@pytest.mark.parametrize("name", ["patching", "attribution-patching"])
def test_the_lesson_asks_the_lab_only_for_what_it_has(name):
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    lesson = load_lesson(name)
    for block in lesson.blocks():
        Settings.of({**lesson.settings, **(getattr(block, "settings", None) or {})})


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_a_share_is_that_of_one_run(tiny_world, ask, direction):
    """Forbids a share that is measured from the wrong end, or in the wrong run."""
    prompts = [START["prompt"], START["corrupted"]]
    ids = [tiny_world.to_single_token(f" {city}") for city in ("Paris", "Berlin")]

    def lead(prompt, edits=()):
        logits = tiny_world.run(prompt, edits, last_logits_only=True)[0, -1]
        return float(logits[ids[0]] - logits[ids[1]])

    base, source = reversed(prompts) if direction == "denoise" else prompts
    _, cache = tiny_world.run_with_cache(source)
    patched = lead(base, [patch("resid_pre", 3, cache, positions=[2])])
    share = (patched - lead(base)) / (lead(source) - lead(base))
    assert ask("moves", layer=3, at=2, direction=direction) == pytest.approx(share, abs=1e-4)


def test_patched_together_is_patched_alone_for_one_head(ask):
    """Forbids two measures that mean other runs by the same share."""
    for direction in ("denoise", "noise"):
        alone = ask("moves", site="z", layer=6, head=4, direction=direction)
        together = ask("move_together", heads="L6H4", direction=direction)
        assert together == pytest.approx(alone, abs=1e-4)


def test_the_other_run_as_a_third_text_is_the_patch_itself(ask):
    """Forbids a control that is not the same intervention as the real run."""
    real = ask("moves", layer=3, at=2)
    assert ask("moves_from", text=START["prompt"], layer=3, at=2) == pytest.approx(real, abs=1e-4)
    assert ask("moves_from", text=START["corrupted"], layer=3, at=2) == pytest.approx(0, abs=1e-4)


def test_estimates_are_of_the_patches_they_stand_for(ask):
    """Forbids an estimate of another cell, or a lab that takes other steps than the lesson."""
    cell = {"site": "resid_pre", "layer": 3, "at": 2}
    real, one, many = (
        ask("moves", **cell),
        ask("estimated", **cell),
        ask("estimated", steps=8, **cell),
    )
    assert ask("estimate_misses", **cell) == pytest.approx(abs(real - one), abs=1e-4)
    assert abs(real - many) < abs(real - one) / 4
    assert ask("estimated", {"gradient": "integrated"}, **cell) == pytest.approx(many)
    assert IG_STEPS == measures_of_the_lab.IG_STEPS


def test_the_chosen_view_decides_what_is_patched(ask):
    """Forbids a budget that grades another patch than the lab shows."""
    head = {"view": HEADS, "part": "z", "layer": 6, "head": 2, "at": 14, **DRINK}
    assert ask("moves", {**head, "over": ONE_POSITION}) > 0.9
    assert ask("moves", {**head, "over": ONE_POSITION, "at": 10}) == pytest.approx(0, abs=0.05)
    assert ask("numbers_moved", {**head, "over": ONE_POSITION}) == 32
    assert ask("numbers_moved", head) == 32 * 15
    assert ask("numbers_moved") == 256


def test_the_two_gates_are_gates(ask):
    """Forbids a lesson about gates on prompts that are none."""
    both = {"corrupted": "The Brandenburg Gate is in the country of", "metric": "probability"}
    offered = {(preset.prompt, preset.corrupted) for preset in PAIR_PRESETS}
    gates = [{**START, **both}, OR_GATE]
    assert offered >= {(gate["prompt"], gate["corrupted"]) for gate in gates}
    for at in (2, 7):
        assert ask("moves", {**both, "layer": 0, "at": at}, direction="denoise") < 0.05
        assert ask("moves", {**both, "layer": 0, "at": at}, direction="noise") > 0.95
    for at in (1, 3):
        assert ask("moves", {**OR_GATE, "layer": 0, "at": at}, direction="denoise") > 0.95
        assert ask("moves", {**OR_GATE, "layer": 0, "at": at}, direction="noise") < 0.05
    assert ask("patched_guess", both, site="resid_pre", layer=0, at=2).strip() == "France"
    assert ask("patched_guess", both, site="resid_pre", layer=0, at=7).strip() == "Berlin"


def test_a_head_that_a_model_does_not_have_is_said_politely(ask):
    """Forbids a traceback where a lesson about one model is asked of a smaller one."""
    with pytest.raises(UnknownSiteError, match="choose another model"):
        ask("moves", site="z", layer=9, head=0)
    with pytest.raises(PatchingError, match="equally"):
        ask("moves_from", text="Hello", layer=3, at=2)
    assert named_heads("L6H3, 6.4 7.1") == [(6, 3), (6, 4), (7, 1)]

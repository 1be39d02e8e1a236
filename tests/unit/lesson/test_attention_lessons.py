"""Lessons 5 to 7: their settings are the lab's, their measures tell the truth, presets as well."""

from dataclasses import fields

import pytest

from app import presets
from app.attention_lab.measures import named_parts
from app.attention_lab.parts import listed_parts
from app.attention_lab.settings import Settings
from app.lesson import load_lesson
from app.lesson.measures import measures
from lens_core.attribution import AblationError
from lens_core.model.errors import UnknownSiteError

LESSONS = ("attention-heads", "induction", "attribution")
KNOWN = {field.name for field in fields(Settings)}
LIST = "house window river table lamp house window river"
GLASS = "glass-induction"


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("looks_at", prompt, layer=4, head=1)`` on the shipped model."""
    assert registered

    def run(measure, prompt, settings=None, **given):
        return measures()[measure].fn(tiny_world, {"prompt": prompt, **(settings or {})}, **given)

    return run


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_asks_the_lab_only_for_what_it_has(name):
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    lesson = load_lesson(name)
    assert set(lesson.settings) <= KNOWN
    Settings.of(lesson.settings)
    for block in lesson.blocks():
        own = getattr(block, "settings", None) or {}
        Settings.of({**lesson.settings, **own})


def test_parts_are_named_as_in_the_lab(tiny_world):
    """Forbids a list of parts that the lab takes for others than the grader does."""
    text = "6.3 L7H1, mlp0;attn2 l4h6 MLP3"
    assert tuple(named_parts(text)) == listed_parts(tiny_world, text)
    assert named_parts("") == []
    with pytest.raises(AblationError, match="no part"):
        named_parts("6.3 Paris")


def test_a_head_that_a_model_does_not_have_is_said_politely(ask):
    """Forbids an apology where a lesson about one model is asked of a smaller one."""
    with pytest.raises(UnknownSiteError, match="choose another model"):
        ask("head_score", "", score="induction", layer=4, head=1, on=GLASS)
    with pytest.raises(UnknownSiteError, match="mlp 9"):
        ask("wrote", LIST, part="mlp 9")


def test_scores_know_the_glass_circuit_from_its_null_twin(ask):
    """Forbids a detector that finds induction where there is none, or misses where it is."""
    score = {"score": "induction", "layer": 1, "head": 1}
    assert ask("head_score", "", **score, on=GLASS) > 0.95
    assert ask("best_score", "", score="induction", on="glass-lookup") < 0.1
    assert ask("best_score", "", score="previous_token", weights="random") < 0.2


def test_ablation_breaks_the_glass_circuit_at_either_link(ask):
    """Forbids an ablation that a decoy passes or that the circuit survives."""
    rises = {
        head: ask("copy_rise", "", copy=2, listed=head, on=GLASS)
        for head in ("0.2", "1.1", "1.0", "1.3")
    }
    assert min(rises["0.2"], rises["1.1"]) > 3
    assert max(rises["1.0"], rises["1.3"]) == pytest.approx(0, abs=1e-6)


def test_the_induction_head_reads_by_its_keys(ask):
    """Forbids composition with the kinds confounded."""
    of = {
        kind: ask("composes", "", kind=kind, first="0.2", second="1.1", on=GLASS) for kind in "qkv"
    }
    assert of["k"] > 0.05 > max(of["q"], of["v"])


def test_attribution_adds_up_and_names_its_parts(ask):
    """Forbids a share that counts a part twice or leaves one out."""
    asked = {"target": "Paris", "foil": "London"}
    prompt = "The Eiffel Tower is in the city of"
    by_kind = "embed, pos_embed, head, attn_bias, mlp, norm_bias, unembed_bias"
    names = [f"{kind} {layer}" for layer in range(8) for kind in ("attn", "mlp")]
    whole = ask("wrote_by_kind", prompt, asked, kinds=by_kind)
    by_name = ask("wrote", prompt, asked, part=", ".join(["embed", "pos embed", *names]))
    assert ask("unexplained", prompt, asked) < 1e-4
    assert by_name + ask("wrote", prompt, asked, part="norm bias") == pytest.approx(whole, abs=1e-3)


def test_without_a_foil_the_runner_up_is_one(ask):
    """Forbids a difference of a token to itself."""
    assert ask("wrote", LIST, part="attn 4") != 0
    assert ask("total_effect", LIST, {"target": "lamp"}, listed="") == 0


def test_presets_say_what_is_so(ask):
    """Forbids an example that promises what the shipped model does not show."""
    prompt = {p.name: p.prompt for p in presets.ATTENTION_PRESETS}
    for head in (2, 3, 6):
        seen = ask("looks_at", prompt["Who gets the drink"], layer=6, head=head)
        assert seen.strip() in ("Mary", "John")
    eiffel = [ask("looks_at", prompt["A landmark"], layer=6, head=head) for head in (1, 3, 4)]
    assert sorted(word.strip() for word in eiffel) == ["Eiffel", "Eiffel", "Tower"]
    for head in ((4, 5), (5, 6)):
        assert ask("looks_at", prompt["Agreement"], layer=head[0], head=head[1]) == " keys"
    assert ask("looks_at", prompt["A capital"], layer=4, head=5) == " capital"
    assert ask("looks_at", prompt["A capital"], layer=6, head=4) == " Japan"
    for head in (1, 6, 7):
        assert ask("looks_at", prompt["Repeated words"], layer=4, head=head) == " table"


def test_induction_presets_say_what_is_so(ask):
    """Forbids an example whose words the model does not copy, or a control in which it does."""
    prompt = {p.name: p.prompt for p in presets.INDUCTION_PRESETS}
    assert ask("looks_at", prompt["A made-up name"], layer=4, head=1) == " Z"
    assert ask("guess_without", prompt["A made-up name"], listed="") == " Z"
    assert ask("guess_without", prompt["One word changed"], listed="") == " table"
    for head in (1, 6):
        assert ask("first_share", prompt["No repetition"], layer=4, head=head) > 0.5
    assert ask("looks_at", prompt["A near miss"], layer=4, head=1) == " window"


def test_attribution_presets_say_what_is_so(ask):
    """Forbids an example whose bars are others than it says."""
    prompt = {p.name: p.prompt for p in presets.ATTRIBUTION_PRESETS}
    assert ask("strongest_layer", prompt["A landmark"], {"foil": "London"}) == 6
    assert abs(ask("wrote", prompt["A capital"], {"foil": "Paris"}, part="L4H5")) < 0.3
    names = {"target": "Mary", "foil": "John"}
    assert ask("wrote", prompt["Who gets the drink"], names, part="L6H2") > 6
    assert ask("wrote", prompt["Who gets the drink"], names, part="L6H3") < -6
    words = {"target": "table", "foil": "lamp"}
    heads = ask("wrote", prompt["Repeated words"], words, part="L4H1, L4H6, L4H7")
    mlps = ask("wrote", prompt["Repeated words"], words, part="mlp 4, mlp 5, mlp 6, mlp 7")
    assert 0 < heads < mlps

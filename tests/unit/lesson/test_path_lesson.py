"""Lesson 10: its settings are the lab's, its measures tell what path patching tells."""

import pytest

from app.lesson import load_lesson
from app.lesson.measures import measures
from app.patching_lab.path_measures import pairs_of, part
from app.patching_lab.settings import HELD_STILL, Settings
from lens_core.patching import PatchingError, path_patching, prompt_pair
from lens_core.plots import wire_label

LESSON = load_lesson("path-patching")
GLASS = {"prompt": "fox owl bee fox", "corrupted": "cat owl bee fox", "foil": "bee"}


@pytest.fixture
def ask(tiny_world, registered):
    """``ask("wire", sender="L6H2", reader="logits")``, the lab as the lesson starts."""
    assert registered

    def run(measure, settings=None, **given):
        return measures()[measure].fn(tiny_world, {**LESSON.settings, **(settings or {})}, **given)

    return run


def test_the_lesson_asks_the_lab_only_for_what_it_has():
    """Forbids a lesson whose button sets a control that the lab does not have, or to no option."""
    for block in LESSON.blocks():
        Settings.of({**LESSON.settings, **(getattr(block, "settings", None) or {})})


def test_parts_are_named_as_in_the_lab():
    """Forbids a sender that the lesson takes for another one than the lab."""
    for name in ("0.2", "11.3.q", "mlp 3", "embed", "logits"):
        assert part(wire_label(name)) == name
    for nonsense in ("L1", "", "K of MLP 3", "resid"):
        with pytest.raises(PatchingError, match="no part"):
            part(nonsense)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_a_wire_is_that_of_path_patching(tiny_world, ask, direction):
    """Forbids a share that is measured from the wrong end, or with other MLPs held."""
    texts = LESSON.settings["prompt"], LESSON.settings["corrupted"]
    pair = prompt_pair(tiny_world, *texts, " Mary", " John")
    for between, passes in (("pass it on", True), (HELD_STILL, False)):
        found = path_patching(
            tiny_world, pair, ["6.2"], ["7.1.q"], direction=direction, through_mlps=passes
        )
        asked = ask(
            "wire", {"between": between}, sender="L6H2", reader="Q of L7H1", direction=direction
        )
        assert asked == pytest.approx(float(found.moved[0, 0]), abs=1e-4)


def test_the_planted_wire_is_found_by_every_measure(ask):
    """Forbids a measure that finds another wire than the one that was put there."""
    on = {"on": "glass-induction"}
    assert ask("wire", GLASS, sender="L0H2", reader="K of L1H1", **on) == pytest.approx(1, abs=0.05)
    assert ask("wire", GLASS, sender="L0H2", reader="K of L1H3", **on) == pytest.approx(0, abs=1e-3)
    assert ask("paths_missing", GLASS, sender="L0H2", **on) == pytest.approx(0, abs=0.02)
    parts = [
        ask("effect", GLASS, sender="L0H2", reader="K of L1H1", kind=kind, **on)
        for kind in ("direct", "via", "rest")
    ]
    total = ask("effect", GLASS, sender="L0H2", kind="total", **on)
    assert sum(parts) == pytest.approx(total, abs=1e-4)


def test_the_family_is_of_sentences_that_differ_in_the_giver(tiny_world):
    """Forbids pairs of which a position means two things, and answers that are not theirs."""
    pairs = pairs_of(tiny_world, {}, "who gets it")
    assert len(pairs) > 2
    for pair in pairs:
        assert pair.same_length
        assert len(pair.differing) == 1
        at = pair.differing[0]
        assert (int(pair.clean[at]), int(pair.corrupted[at])) == (pair.foil, pair.answer)
    with pytest.raises(PatchingError, match="family"):
        pairs_of(tiny_world, {}, "cats")


def test_the_name_mover_hears_the_suppressor_over_the_family(ask):
    """Forbids a lesson about a wire that is in one sentence only."""
    who = {"reader": "Q of L7H1", "family": "who gets it"}
    assert ask("strongest_sender", **who) == "L6H2"
    share = ask("wire", sender="L6H2", **who)
    assert ask("strongest_share", **who) == pytest.approx(share, abs=1e-5)


def test_the_two_gates_are_gates(ask):
    """Forbids a lesson about gates on wires that are none."""
    both = {"prompt": "In Japan, the capital is", "corrupted": "In that, the capital is"}
    doors = ["K of L6H4", "V of L6H4", "K of L6H4, V of L6H4"]
    enough = [ask("wires_together", both, senders="MLP 0", readers=d) for d in doors]
    needed = [
        ask("wires_together", both, senders="MLP 0", readers=d, direction="noise") for d in doors
    ]
    assert max(enough[:2]) < 0.06
    assert enough[2] > 0.3
    assert min(needed) > 0.3
    words = "house window river table lamp house window river"
    same = {"prompt": words, "corrupted": words.replace("river table", "table river")}
    say = {"readers": "K of L4H1", "direction": "noise"}
    each = [ask("wires_together", same, senders=s, **say) for s in ("L0H2", "L2H1", "L3H2")]
    assert max(map(abs, each)) < 0.01
    assert ask("wires_together", same, senders="L0H2, L2H1, L3H2", **say) > 0.1


def test_a_wire_that_is_not_there_is_said(ask):
    """Forbids a zero for a wire that runs backwards."""
    with pytest.raises(PatchingError, match="does not come before"):
        ask("wire", sender="L7H1", reader="Q of L6H2")

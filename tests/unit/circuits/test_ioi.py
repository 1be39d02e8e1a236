"""The indirect-object prompts stand as their templates say, token by token."""

from dataclasses import replace

import pytest
import torch

from lens_core import HookedModel
from lens_core.circuits import DISTRACTORS, TEMPLATES, CircuitError, ioi_dataset, swapped


@pytest.mark.parametrize("distractor", [None, *DISTRACTORS])
def test_every_named_position_holds_its_word(tiny_world, distractor):
    """Forbids positions that are off by one, and answers that are the wrong name."""
    dataset = ioi_dataset(tiny_world, 32, distractor=distractor)
    assert sorted(i for group in dataset.groups for i in group.rows.tolist()) == list(range(32))
    assert dataset.position_names == {"io", "s1", "s1+1", "s2", "end"}
    for group in dataset.groups:
        rows = torch.arange(len(group.rows))
        at = {name: group.tokens[rows, places] for name, places in group.positions.items()}
        assert torch.equal(at["io"], dataset.answer[group.rows])
        assert torch.equal(at["s1"], dataset.foil[group.rows])
        assert torch.equal(at["s2"], at["s1"])
        assert tiny_world.to_string(at["end"][:1]) == " to"
        assert (group.positions["s1+1"] == group.positions["s1"] + 1).all()
        assert (group.positions["s2"] > group.positions["io"]).all()
        for row, tokens in zip(group.rows.tolist(), group.tokens, strict=True):
            assert torch.equal(tiny_world.to_tokens(dataset.texts[row])[0], tokens)
            first = group.positions["io"] < group.positions["s1"]
            assert dataset.kinds[row] == ("ABBA" if first[group.rows == row] else "BABA")


def test_references_name_nobody_twice(tiny_world):
    """Forbids references in which there is a subject to be found."""
    dataset = ioi_dataset(tiny_world, 8, n_reference=16)
    names = set(dataset.candidates.tolist())
    for group in dataset.groups:
        assert group.reference.shape == (16, group.tokens.shape[1])
        for tokens in group.reference.tolist():
            said = [token for token in tokens if token in names]
            assert len(said) == len(set(said)) == 3


def test_the_seed_decides_all_and_orders_can_be_chosen(tiny_world):
    """Forbids prompts that differ from call to call, and a kind that leaks in."""
    one, same, other = (ioi_dataset(tiny_world, 20, seed=seed).texts for seed in (0, 0, 1))
    assert one == same != other
    both = ioi_dataset(tiny_world, 32)
    some = both.only("ABBA")
    assert set(some.kinds) == {"ABBA"}
    assert len(some) == both.kinds.count("ABBA") == 16
    assert sorted(i for group in some.groups for i in group.rows.tolist()) == list(range(16))
    assert set(ioi_dataset(tiny_world, 8, orders=("BABA",)).kinds) == {"BABA"}
    frame = both.to_frame()
    assert set(frame["template"]) == set(TEMPLATES)
    assert frame["prompt"].tolist() == list(both.texts)


@pytest.mark.parametrize("distractor", [None, "third name"])
def test_swapped_prompts_differ_by_one_name(tiny_world, distractor):
    """Forbids pairs for patching that differ elsewhere, or whose answers stay as they were."""
    dataset = ioi_dataset(tiny_world, 16, distractor=distractor)
    other = swapped(tiny_world, dataset)
    assert torch.equal(other.answer, dataset.foil)
    for one, two in zip(dataset.groups, other.groups, strict=True):
        changed = (one.tokens != two.tokens).nonzero()
        assert torch.equal(changed[:, 0], torch.arange(len(one.rows)))
        assert torch.equal(changed[:, 1], one.positions["s2"])
        rows = torch.arange(len(two.rows))
        for name, wanted in (("io", other.answer), ("s1", other.foil), ("s2", other.foil)):
            assert torch.equal(two.tokens[rows, two.positions[name]], wanted[two.rows])
        for row, tokens in zip(two.rows.tolist(), two.tokens, strict=True):
            assert torch.equal(tiny_world.to_tokens(other.texts[row])[0], tokens)
    assert swapped(tiny_world, other).texts == dataset.texts
    with pytest.raises(CircuitError, match="names no one twice"):
        swapped(tiny_world, replace(dataset, groups=tuple(map(_nowhere, dataset.groups))))


def _nowhere(group):
    return replace(group, positions={"end": group.positions["end"]})


def test_the_model_does_the_task(tiny_world):
    """Forbids templates on which there is no behaviour to explain."""
    dataset = ioi_dataset(tiny_world, 32, seed=3)
    for group in dataset.groups:
        logits = tiny_world.run(group.tokens, last_logits_only=True)[:, -1]
        assert torch.equal(logits.argmax(-1), dataset.answer[group.rows])


def test_what_makes_no_prompts_is_refused_in_words(tiny_world):
    """Forbids misaligned positions, and tracebacks for a template that is none."""
    with pytest.raises(CircuitError, match="splits names"):
        ioi_dataset(HookedModel.from_pretrained("glass-facts"), 8)
    with pytest.raises(CircuitError, match="distractor"):
        ioi_dataset(tiny_world, 8, distractor="noise")
    for n, orders in ((0, ("ABBA",)), (4, ())):
        with pytest.raises(CircuitError, match="at least one"):
            ioi_dataset(tiny_world, n, orders=orders)
    for template, message in (
        ("When {A} and {B} met, {X} spoke to", "slots"),
        ("When {A} and {B} met, everyone spoke to", "twice"),
    ):
        with pytest.raises(CircuitError, match=message):
            ioi_dataset(tiny_world, 2, templates=[template])

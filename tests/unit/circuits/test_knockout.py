"""Knock-outs in batches are those of one run a circuit and a prompt, on every kind of model."""

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.circuits import (
    Circuit,
    CircuitError,
    Knockouts,
    TemplateDataset,
    TemplateGroup,
    ioi_dataset,
)
from lens_core.circuits.search import search_circuit
from lens_core.glass.facts import CITIES, PEOPLE, STRANGERS
from lens_core.glass.facts_truth import FACTS_TRUTH
from lens_core.interventions import set_to

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2", "mpt")


def random_dataset(seed: int = 0) -> TemplateDataset:
    """Two groups of random tokens of different lengths."""
    torch.manual_seed(seed)
    groups = tuple(
        TemplateGroup(
            template=f"{length} tokens",
            rows=torch.tensor(rows),
            tokens=torch.randint(1, 120, (len(rows), length)),
            positions={
                "end": torch.full((len(rows),), length - 1),
                "here": torch.randint(1, length - 1, (len(rows),)),
            },
            reference=torch.randint(1, 120, (5, length)),
        )
        for length, rows in ((7, [2, 0, 3]), (5, [1, 4]))
    )
    answer, foil = torch.randint(1, 120, (2, 5))
    return TemplateDataset("x", ("x",) * 5, ("a",) * 5, answer, foil, groups, torch.arange(40))


CIRCUITS = (
    Circuit.of("few", [(0, 1), (1, 3), (2, 0)]),
    Circuit.of("none", (), all_mlps=False),
    Circuit(
        "somewhere",
        {"a": ((0, 2), (1, None)), "b": ((2, 1),), "c": ((1, 1),)},
        all_mlps=False,
        positions={"a": ("here", "end"), "b": ("end",)},
    ),
)


def one_by_one(model, dataset, circuit, row) -> float:
    """The logit difference of one prompt, every place set head by head, position by position."""
    group = next(group for group in dataset.groups if row in group.rows.tolist())
    own = group.rows.tolist().index(row)
    kept = {
        (*node, position)
        for role, nodes in circuit.roles.items()
        for node in nodes
        for position in range(group.tokens.shape[1])
        if role not in circuit.positions
        or position in [int(group.positions[name][own]) for name in circuit.positions[role]]
    }
    _, cache = model.run_with_cache(group.reference)
    edits = []
    for layer in range(model.cfg.n_layers):
        z, out = cache["z", layer].mean(0), cache["mlp_out", layer].mean(0)
        for position in range(len(z)):
            gone = [h for h in range(model.cfg.n_heads) if (layer, h, position) not in kept]
            if gone:
                value = z[position, gone][None, None]
                edits.append(set_to("z", layer, value, heads=gone, positions=[position]))
            if not circuit.all_mlps and (layer, None, position) not in kept:
                edits.append(set_to("mlp_out", layer, out[position], positions=[position]))
    logits = model.run(group.tokens[own : own + 1], edits)[0, -1]
    return float(logits[dataset.answer[row]] - logits[dataset.foil[row]])


@pytest.mark.parametrize("name", FAMILIES)
def test_batches_equal_one_run_a_prompt(family_named, name):
    """Forbids masks that slip to another row, circuit, head or position."""
    model, dataset = family_named(name).hooked, random_dataset()
    wanted = [[one_by_one(model, dataset, c, row) for row in range(5)] for c in CIRCUITS]
    for batch_rows in (512, 4):
        found = Knockouts(model, dataset, batch_rows=batch_rows).logit_differences(CIRCUITS)
        assert np.allclose(found, wanted, atol=1e-4)


def test_the_whole_model_is_left_alone(gpt2):
    """Forbids a whole circuit whose figures differ from the model's, by a bit."""
    dataset = random_dataset()
    knockouts = Knockouts(gpt2.hooked, dataset)
    for group in dataset.groups:
        logits = gpt2.hooked.run(group.tokens)[:, -1]
        rows = torch.arange(len(group.rows))
        difference = logits[rows, dataset.answer[group.rows]]
        difference = difference - logits[rows, dataset.foil[group.rows]]
        assert np.allclose(knockouts.model_differences[group.rows], difference, atol=1e-6)
    listed = knockouts.whole_with(CIRCUITS[1])
    assert np.array_equal(knockouts.logit_differences([listed])[0], knockouts.model_differences)


def test_log_odds_are_those_of_the_answer_among_the_candidates(gpt2):
    """Forbids an answer that competes with itself, or with tokens that are no candidates."""
    dataset = random_dataset()
    found = Knockouts(gpt2.hooked, dataset, measure="log odds").model_differences
    for group in dataset.groups:
        logits = gpt2.hooked.run(group.tokens)[:, -1]
        for row, own in zip(group.rows.tolist(), logits, strict=True):
            answer = int(dataset.answer[row])
            rivals = [i for i in range(40) if i != answer]
            assert found[row] == pytest.approx(
                float(own[answer] - own[rivals].logsumexp(0)), abs=1e-4
            )


def test_ablations_differ_as_they_say(gpt2):
    """Forbids kinds of ablation that are one another under another name."""
    model, dataset, none = gpt2.hooked, random_dataset(), CIRCUITS[1]
    zeroed = Knockouts(model, dataset, ablation="zero").logit_differences([none])[0]
    for group in dataset.groups:
        # Without attention and MLPs only the last token's embedding is left.
        again = group.tokens.clone()
        again[:, :-1] = 1
        edits = [set_to(site, layer, 0.0) for site in ("z", "mlp_out") for layer in range(3)]
        logits = model.run(again, edits)[:, -1]
        rows = torch.arange(len(group.rows))
        wanted = logits[rows, dataset.answer[group.rows]] - logits[rows, dataset.foil[group.rows]]
        assert np.allclose(zeroed[group.rows], wanted, atol=1e-4)
    kinds = ("mean", "overall mean", "zero", "resample")
    found = [Knockouts(model, dataset, ablation=k).logit_differences([none])[0] for k in kinds]
    assert len({tuple(row.round(6)) for row in found}) == len(kinds)
    seeds = [
        Knockouts(model, dataset, ablation="resample", seed=s).logit_differences([none])
        for s in (0, 0, 1)
    ]
    assert np.array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2])


def test_a_cancelled_run_leaves_the_next_one_right(gpt2):
    """Forbids state that survives a cancel."""

    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 1:
            raise Cancelled

    wanted = Knockouts(gpt2.hooked, random_dataset(), batch_rows=3).logit_differences(CIRCUITS)
    knockouts = Knockouts(gpt2.hooked, random_dataset(), batch_rows=3)
    with pytest.raises(Cancelled):
        knockouts.logit_differences(CIRCUITS, on_step=cancel)
    assert np.array_equal(knockouts.logit_differences(CIRCUITS), wanted)


def test_what_cannot_be_knocked_out_is_refused(gpt2, tiny_world):
    """Forbids nodes and positions that are silently passed over."""
    knockouts = Knockouts(gpt2.hooked, random_dataset())
    with pytest.raises(CircuitError, match="no L7H0"):
        knockouts.logit_differences([Circuit.of("x", [(7, 0)])])
    with pytest.raises(CircuitError, match="kept at s2"):
        knockouts.logit_differences([Circuit("x", {"a": ((0, 0),)}, positions={"a": ("s2",)})])
    dataset = ioi_dataset(tiny_world, 1)
    for wrong in ({"ablation": "noise"}, {"measure": "rank"}, {"batch_rows": 0}):
        with pytest.raises(CircuitError):
            Knockouts(tiny_world, dataset, **wrong)


def facts_dataset(model: HookedModel) -> TemplateDataset:
    """Where the twelve people of glass-facts live; strangers are the reference."""
    people = [f"{first} {last}" for first, last, _, _ in PEOPLE]
    tokens = model.to_tokens([f"today {person} lives in" for person in people])
    cities = [model.to_single_token(f" {city}") for _, _, city, _ in PEOPLE]
    reference = model.to_tokens([f"today {person} lives in" for person in STRANGERS])
    names = torch.tensor([model.to_single_token(f" {city}") for city in CITIES])
    end = torch.full((len(people),), tokens.shape[1] - 1)
    group = TemplateGroup("today X", torch.arange(12), tokens, {"end": end}, reference)
    foils = torch.tensor(cities).roll(2)
    texts = tuple(people)
    return TemplateDataset(
        "facts", texts, ("city",) * 12, torch.tensor(cities), foils, (group,), names
    )


def test_the_search_finds_in_glass_what_was_planted():
    """Forbids a search, or knock-outs, that find more or less than the answer sheet says."""
    model = HookedModel.from_pretrained(FACTS_TRUTH.name)
    knockouts = Knockouts(model, facts_dataset(model))
    assert np.allclose(knockouts.model_differences, FACTS_TRUTH.answer_logit, atol=1e-3)
    planted = {(0, 3), FACTS_TRUTH.mover("city")}
    found = search_circuit(knockouts)
    assert set(found.circuit.nodes) == planted
    assert found.ratio == pytest.approx(1, abs=1e-4)
    with_mlps = search_circuit(knockouts, all_mlps=False)
    assert set(with_mlps.circuit.nodes) == {*planted, (FACTS_TRUTH.store, None)}


def test_circuits_share_what_they_keep_alike(gpt2, monkeypatch):
    """Forbids shared layers that give other figures, and layers that are run once a circuit."""
    model, dataset = gpt2.hooked, random_dataset()
    knockouts = Knockouts(model, dataset)
    whole = knockouts.whole
    family = [whole, *(whole.without([(2, head)]) for head in range(model.cfg.n_heads)), whole]
    alone = [knockouts.logit_differences([circuit])[0] for circuit in family]
    again, rows = Knockouts(model, dataset), []
    run = type(model).run
    monkeypatch.setattr(
        type(model),
        "run",
        lambda self, tokens, *args, **given: (
            rows.append((given.get("start_at_layer", 0), len(tokens)))
            or run(self, tokens, *args, **given)
        ),
    )
    again._known.clear()
    rows.clear()
    assert np.allclose(again.logit_differences(family), alone, atol=1e-4)
    n = 1 + model.cfg.n_heads
    sizes = [len(group.rows) for group in dataset.groups]
    assert rows == [pair for size in sizes for pair in ((0, size), (2, n * size))]
    rows.clear()
    assert np.allclose(again.logit_differences(family[::-1]), alone[::-1], atol=1e-4)
    assert rows == []


def test_all_readings_come_from_the_same_runs(gpt2):
    """Forbids a share of right answers that is not that of the measures beside it."""
    dataset = random_dataset()
    odds = Knockouts(gpt2.hooked, dataset, measure="log odds")
    found = odds.readings([odds.whole, CIRCUITS[0]])
    assert np.allclose(found["log odds"], odds.logit_differences([odds.whole, CIRCUITS[0]]))
    assert np.allclose(found["logit difference"][0], Knockouts(gpt2.hooked, dataset)
                       .model_differences, atol=1e-5)  # fmt: skip
    for group in dataset.groups:
        logits = gpt2.hooked.run(group.tokens)[:, -1]
        for row, own in zip(group.rows.tolist(), logits, strict=True):
            answer = dataset.answer[row]
            others = [i for i in range(40) if i != int(answer)]
            assert found["first"][0, row] == float(own[answer] > own[others].max())

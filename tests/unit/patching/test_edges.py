"""Edge attribution and single edges patched for real, against derivatives and weights by hand."""

import numpy as np
import pytest
import torch

from lens_core.glass.facts import FACTS, facts_model
from lens_core.glass.facts_truth import FACTS_TRUTH
from lens_core.glass.induction import induction_model
from lens_core.interventions import patch
from lens_core.patching import edges as edges_module
from lens_core.patching.alignment import prompt_pair
from lens_core.patching.edge_graph import EdgeGraph
from lens_core.patching.edges import edge_attribution, edge_effects
from lens_core.patching.errors import PatchingError

ANSWER, FOIL = 5, 7
# Sequential and parallel blocks, grouped queries, rotary and alibi, windows outside the registry.
SOME_FAMILIES = ("gpt2", "llama", "gpt_neox", "gpt_neo", "bloom", "falcon", "qwen3", "granite")


@pytest.fixture(params=SOME_FAMILIES)
def some(request, family_named):
    """One of the kinds of block and attention."""
    return family_named(request.param)


def a_pair(family):
    """Two random prompts."""
    clean, corrupted = family.tokens
    return prompt_pair(family.hooked, clean, corrupted, ANSWER, FOIL)


def total_derivatives(family, pair):
    """By sender: its change times the whole derivative of the metric by what it writes."""
    model = family.hooked
    names = ["resid_pre", "z", "mlp_out"]
    _, corrupted = model.run_with_cache(pair.corrupted[None], names)
    resid = model.run_with_cache(pair.clean[None], names)[1]["resid_pre", 0]
    logits, cache = model.run_with_cache(pair.clean[None], names, resid=resid, grad=True)
    value = logits[0, -1, ANSWER] - logits[0, -1, FOIL]
    places = [("resid_pre", 0)]
    places += [(site, n) for n in range(model.cfg.n_layers) for site in ("z", "mlp_out")]
    gradients = torch.autograd.grad(value, [cache[place] for place in places])
    found = []
    for (site, layer), gradient in zip(places, gradients, strict=True):
        product = gradient * (corrupted[site, layer] - cache[site, layer]).detach()
        found += product[0].sum((0, 2)).tolist() if site == "z" else [float(product.sum())]
    return np.array(found)


def test_the_scores_of_a_sender_add_up_to_its_whole_derivative(some):
    """Forbids a path that is left out or counted twice, for every kind of block.

    What a part writes reaches the answer through its edges and in no other way, so to first order
    its edges' scores add up to change times derivative, which autograd gives at once.
    """
    pair = a_pair(some)
    found = edge_attribution(some.hooked, pair)
    expected = total_derivatives(some, pair)
    added = np.nansum(found.scores, axis=1)
    assert added == pytest.approx(expected, abs=1e-5 * max(1, np.abs(expected).max()))


def reread(model, layer, site, head, pair, change):
    """The metric when one input of gpt2 reads a changed stream, from the weights."""
    block = model.hf_model.transformer.h[layer]
    _, cache = model.run_with_cache(pair.clean[None])
    if site == "mlp_out":
        new = block.mlp(block.ln_2(cache["resid_mid", layer] + change))
        edit = patch(site, layer, new)
    else:
        normed = block.ln_1(cache["resid_pre", layer] + change)
        q, k, v = block.attn.c_attn(normed).split(model.cfg.d_model, dim=2)
        new = {"q": q, "k": k, "v": v}[site].reshape(1, -1, model.cfg.n_heads, model.cfg.d_head)
        edit = patch(site, layer, new, heads=[head])
    logits = model.run(pair.clean[None], [edit])[0, -1]
    return float(logits[ANSWER] - logits[FOIL])


@torch.no_grad()
def test_an_edge_is_patched_as_its_definition_says(gpt2):
    """Forbids a patch that reaches other heads, other inputs, or the stream itself."""
    model, pair = gpt2.hooked, a_pair(gpt2)
    caches = [model.run_with_cache(t[None])[1] for t in (pair.clean, pair.corrupted)]

    def change(site, layer, head=None):
        old, new = (c[site, layer] for c in caches)
        return (new - old) if head is None else (new - old)[:, :, head]

    logits = model.run(pair.clean[None])[0, -1]
    base = float(logits[ANSWER] - logits[FOIL])
    cases = {
        ("embed", "0.2.q"): (0, "q", 2, change("resid_pre", 0)),
        ("0.1", "1.3.k"): (1, "k", 3, change("head_out", 0, 1)),
        ("mlp 0", "2.0.v"): (2, "v", 0, change("mlp_out", 0)),
        ("1.2", "mlp 1"): (1, "mlp_out", None, change("head_out", 1, 2)),
        ("embed", "mlp 2"): (2, "mlp_out", None, change("resid_pre", 0)),
    }
    effects = edge_effects(model, pair, list(cases))[:, 0]
    for found, (layer, site, head, delta) in zip(effects, cases.values(), strict=True):
        expected = reread(model, layer, site, head, pair, delta) - base
        assert found == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_the_edge_into_the_logits_is_the_direct_path(some):
    """Forbids other paths than the final norm and head for what goes to the logits."""
    model, pair = some.hooked, a_pair(some)
    end = ("resid_post", model.cfg.n_layers - 1)
    logits, cache = model.run_with_cache(pair.clean[None])
    other = model.run_with_cache(pair.corrupted[None])[1]
    changed = cache[end] + other["mlp_out", 1] - cache["mlp_out", 1]
    after = model.unembed(model.ln_final(changed))[0, -1]
    expected = float((after - logits[0, -1])[[ANSWER, FOIL]] @ torch.tensor([1.0, -1.0]))
    found = edge_effects(model, pair, [("mlp 1", "logits")])
    assert found[0, 0] == pytest.approx(expected, abs=1e-4)


def test_small_changes_are_estimated_exactly(some, monkeypatch):
    """Forbids scores of another sign, scale or place than the effect that they estimate.

    Of a hundredth of what really changes, the first order is nearly all there is.
    """
    model, pair = some.hooked, a_pair(some)
    found = edge_attribution(model, pair)
    edges = (*found.top(30), *found.random(30))
    whole = edges_module._Runs.changes
    monkeypatch.setattr(edges_module._Runs, "changes", lambda self: 0.01 * whole(self))
    effects = edge_effects(model, pair, edges)[:, 0] / 0.01
    scores = np.array([found.score(edge) for edge in edges])
    assert effects == pytest.approx(scores, rel=0.05, abs=0.01 * np.abs(scores).max())


def test_integrated_gradients_begin_where_attribution_is(gpt2):
    """Forbids steps that leave out the clean run or that are not averaged."""
    model, pair = gpt2.hooked, a_pair(gpt2)
    plain = edge_attribution(model, pair)
    assert plain.ig_steps == 1
    steps = []
    averaged = edge_attribution(model, pair, ig_steps=4, on_step=lambda *s: steps.append(s))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    edges = plain.random(150)
    true = edge_effects(model, pair, edges)[:, 0]
    errors = [np.abs(true - [f.score(e) for e in edges]).mean() for f in (plain, averaged)]
    assert averaged.scores.shape == plain.scores.shape
    assert errors[1] < 1.5 * errors[0]


def test_pairs_in_one_batch_equal_pairs_alone(gpt2):
    """Forbids rows of a batch that leak into one another, and lengths that are mixed up."""
    model = gpt2.hooked
    rows = torch.randint(1, 120, (4, 8), generator=torch.Generator().manual_seed(3))
    pairs = [
        prompt_pair(model, rows[0], rows[1], 5, 7),
        prompt_pair(model, rows[0, :6], rows[2, :6], 8, 9),
        prompt_pair(model, rows[2], rows[3], 11, 12),
    ]
    together = edge_attribution(model, pairs)
    for i, pair in enumerate(pairs):
        alone = edge_attribution(model, pair)
        np.testing.assert_allclose(together.values[..., i], alone.values[..., 0], atol=1e-5)
    both = edge_effects(model, pairs, [("embed", "mlp 0")])
    alone = [edge_effects(model, pair, [("embed", "mlp 0")])[0, 0] for pair in pairs]
    assert both[0] == pytest.approx(alone)


def test_the_graph_of_a_model(family_named):
    """Forbids edges backwards in time, and heads that feed the MLP of a parallel block."""
    graph = EdgeGraph.of(family_named("gpt2").hooked)
    n_layers, n_heads = 3, 4
    per_layer = [(1 + n * (n_heads + 1)) for n in range(n_layers)]
    expected = (
        sum(n * (3 * n_heads + 1) + n_heads for n in per_layer) + 1 + n_layers * (n_heads + 1)
    )
    assert graph.n_edges == expected
    graph.check(("1.2", "mlp 1"))
    for wrong in (("1.2", "1.3.q"), ("mlp 1", "mlp 1"), ("2.0", "1.0.k"), ("embed", "embed")):
        with pytest.raises(PatchingError, match="There is no edge"):
            graph.check(wrong)
    parallel = EdgeGraph.of(family_named("gpt_neox").hooked)
    with pytest.raises(PatchingError):
        parallel.check(("1.2", "mlp 1"))
    grouped = EdgeGraph.of(family_named("llama").hooked)
    assert "0.3.q" in grouped.receivers
    assert "0.3.k" not in grouped.receivers


def test_blocks_whose_parts_do_not_add_up_are_refused(family_named):
    """Forbids heads' shares that ignore a norm between them and the stream."""
    model = family_named("gemma2").hooked
    pair = prompt_pair(model, [1, 2, 3], [1, 4, 3], ANSWER, FOIL)
    with pytest.raises(PatchingError, match="a norm between"):
        edge_attribution(model, pair)


def test_pairs_that_cannot_be_scored_are_refused(gpt2):
    """Forbids scores over positions that do not answer to each other, or of no question."""
    model = gpt2.hooked
    with pytest.raises(PatchingError):
        edge_attribution(model, [])
    no_foil = prompt_pair(model, [1, 2, 3], [1, 4, 3], ANSWER)
    with pytest.raises(PatchingError, match="foil"):
        edge_attribution(model, no_foil)
    with pytest.raises(PatchingError):
        edge_attribution(model, a_pair(gpt2), ig_steps=0)


def test_planted_wires_are_found():
    """Forbids a tool that misses the wires of models built by hand, or sees others."""
    model = facts_model()
    for fact, other in ((FACTS[0], FACTS[10]), (FACTS[13], FACTS[23])):
        pair = prompt_pair(model, fact.prompt, other.prompt, f" {fact.answer}", f" {other.answer}")
        found = edge_attribution(model, pair, ig_steps=8)
        truth = FACTS_TRUTH.edges(fact.kind)
        graph = found.graph
        edges = [
            (s, r)
            for i, s in enumerate(graph.senders)
            for j, r in enumerate(graph.receivers)
            if graph.exists[i, j]
        ]
        effects = edge_effects(model, pair, edges)[:, 0]
        matter = {e for e, effect in zip(edges, effects, strict=True) if abs(effect) > 0.01}
        # Both prompts name a known person and ask alike: no query and no key changes.
        assert matter == {e for e in truth if e[1][-2:] not in (".q", ".k")}
        assert matter <= set(found.top(6))


def test_the_induction_wire_is_a_key():
    """Forbids keys taken for values: the second copy's answer comes by K-composition."""
    model = induction_model()
    pair = prompt_pair(model, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
    edges = [("0.2", "1.1.k"), ("0.2", "1.1.v"), ("0.2", "1.1.q"), ("1.1", "logits")]
    key, value, query, out = edge_effects(model, pair, edges)[:, 0]
    assert key < -5
    assert out < -5
    assert abs(value) < 0.01
    assert abs(query) < 0.01

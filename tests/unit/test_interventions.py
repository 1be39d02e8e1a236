"""Interventions: what they do, where, what they refuse; as data, and as properties."""

import dataclasses
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lens_core.interventions import (
    add,
    custom,
    from_json,
    low_rank,
    mean,
    noise,
    patch,
    project_out,
    resample,
    scale,
    set_to,
    steer,
    to_json,
    zero,
)
from lens_core.model.errors import InterventionError, InterventionNotAppliedError


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def after(family, edit, site=None, layer=None):
    """The activation at the edited site (or another one), before and after."""
    key = (site or edit.site, edit.layer if layer is None else layer)
    _, before = family.hooked.run_with_cache(family.tokens, [key])
    _, cache = family.hooked.run_with_cache(family.tokens, [key], [edit])
    return before[key], cache[key]


# --- each operation does what its name says, there and nowhere else ------------------------------


def test_zero_touches_the_chosen_cells_only(gpt2):
    """Forbids selectors that cross the wrong axes."""
    before, now = after(gpt2, zero("z", 1, heads=[2], positions=[0, 3], rows=[1]))
    expected = before.clone()
    expected[1, [0, 3], 2] = 0
    assert torch.equal(now, expected)
    before, now = after(gpt2, zero("mlp_post", 1, neurons=[5, 7], positions=-1))
    expected = before.clone()
    expected[:, -1, [5, 7]] = 0
    assert torch.equal(now, expected)
    before, now = after(gpt2, zero("pattern", 1, heads=0, positions=[4], keys=[1, 2]))
    expected = before.clone()
    expected[:, 0, 4, 1:3] = 0
    assert torch.equal(now, expected)


def test_heads_of_keys_are_key_value_heads(llama):
    """Forbids head numbers that mean query heads at k and v (grouped-query attention)."""
    before, now = after(llama, zero("k", 1, heads=[1]))
    assert torch.equal(now[:, :, 0], before[:, :, 0])
    assert now[:, :, 1].abs().sum() == 0
    with pytest.raises(InterventionError, match="no head 2; this run has 2"):
        llama.hooked.run(llama.tokens, [zero("v", 1, heads=[2])])


def test_paired_selectors_are_zipped(gpt2):
    """Forbids crossing rows with positions where each row has its own position (sweeps)."""
    edit = zero("resid_pre", 1, rows=[0, 1], positions=[2, 5], paired=True)
    before, now = after(gpt2, edit)
    expected = before.clone()
    expected[0, 2] = expected[1, 5] = 0
    assert torch.equal(now, expected)
    edit = set_to("z", 1, torch.ones(2, 9, 8), rows=[0, 1], heads=[3, 0], paired=True)
    before, now = after(gpt2, edit)
    expected = before.clone()
    expected[0, :, 3] = expected[1, :, 0] = 1
    assert torch.equal(now, expected)


def test_a_paired_sweep_equals_its_cells_one_by_one(gpt2):
    """Forbids batched sweeps whose rows influence each other."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    _, clean = model.run_with_cache(gpt2.tokens[1:], ["resid_pre"])
    n = tokens.shape[1]
    batched = model.run(
        tokens.repeat(n, 1),
        [patch("resid_pre", 1, clean, rows=range(n), positions=range(n), paired=True)],
    )
    for position in range(n):
        alone = model.run(tokens, [patch("resid_pre", 1, clean, positions=[position])])
        close(batched[position], alone[0])


def test_patch_takes_rows_and_positions_of_the_source(gpt2):
    """Forbids patches that come from another row or position than asked for."""
    source = torch.randn(3, 7, 32)
    edit = patch(
        "resid_mid", 1, source, rows=[1], positions=[0, 8], source_rows=[2], source_positions=[6, 1]
    )
    before, now = after(gpt2, edit)
    expected = before.clone()
    expected[1, 0], expected[1, 8] = source[2, 6], source[2, 1]
    assert torch.equal(now, expected)
    edit = patch("resid_mid", 1, source[:1], positions=[3])
    assert torch.equal(after(gpt2, edit)[1][:, 3], source[0, 3].expand(2, -1))


def test_add_steer_scale(gpt2):
    """Forbids strengths that are lost, and values that broadcast along the wrong axis."""
    direction = torch.arange(32.0)
    before, now = after(gpt2, steer("resid_post", 1, direction, strength=0.5))
    close(now, before + 0.5 * direction)
    per_position = torch.randn(9, 32)
    before, now = after(gpt2, add("resid_post", 1, per_position))
    close(now, before + per_position)
    per_head = torch.randn(4, 1)
    before, now = after(gpt2, add("z", 1, per_head))
    close(now, before + per_head)
    before, now = after(gpt2, scale("attn_out", 1, -2.0, rows=[0]))
    close(now[0], -2 * before[0])
    assert torch.equal(now[1], before[1])


def test_mean_and_resample(gpt2):
    """Forbids means over the wrong axes and draws that no seed fixes."""
    model = gpt2.hooked
    prompts = torch.randint(1, 120, (5, 9))
    _, reference = model.run_with_cache(prompts, ["z", "resid_mid", "pattern"])
    _, now = after(gpt2, mean("z", 1, reference, heads=[2]))
    close(now[:, :, 2], reference["z", 1].mean((0, 1))[2].expand(2, 9, -1))
    _, now = after(gpt2, mean("resid_mid", 1, reference, per_position=True, positions=[4]))
    close(now[:, 4], reference["resid_mid", 1].mean(0)[4].expand(2, -1))
    _, now = after(gpt2, mean("pattern", 1, reference, heads=[0]))
    close(now[:, 0], reference["pattern", 1].mean(0)[0].expand(2, -1, -1))
    _, now = after(gpt2, resample("resid_mid", 1, reference, seed=3))
    again = after(gpt2, resample("resid_mid", 1, reference, seed=3))[1]
    assert torch.equal(now, again)
    for row in now:
        assert any(torch.equal(row, other) for other in reference["resid_mid", 1])


def test_project_out_removes_the_span_and_nothing_else(gpt2):
    """Forbids projections that assume orthonormal directions."""
    directions = torch.randn(3, 32)
    before, now = after(gpt2, project_out("resid_post", 1, directions))
    close((now @ directions.T).abs().max(), torch.zeros(()), 1e-4)
    removed = (before - now).reshape(-1, 32)
    assert torch.linalg.matrix_rank(removed, rtol=1e-4) == 3
    with pytest.raises(InterventionError, match="independent"):
        project_out("resid_post", 1, torch.stack([directions[0], 2 * directions[0]]))


def test_noise_is_fixed_by_its_seed_and_by_position(gpt2):
    """Forbids noise that changes when the prompt gets longer, or is the same in every cell."""
    before, now = after(gpt2, noise("resid_pre", 0, std=2.0, seed=5))
    added = now - before
    assert added.std().item() == pytest.approx(2.0, rel=0.2)
    assert not torch.allclose(added[0], added[1])
    assert not torch.allclose(added[:, 0], added[:, 1])
    short = dataclasses.replace(gpt2, tokens=gpt2.tokens[:, :4])
    before, now = after(short, noise("resid_pre", 0, std=2.0, seed=5))
    close(now - before, added[:, :4])


def test_scores_keep_the_causal_mask(family):
    """Forbids edits of scores that open the future, or rows that become NaN."""
    model, last = family.hooked, 1
    future = torch.ones(9, 9).triu(1).bool()
    edits = [
        zero("scores", last),
        set_to("scores", last, -torch.inf, positions=[4]),
        custom("scores", last, lambda x: x.nan_to_num(neginf=50.0), heads=[0]),
    ]
    for edit in edits:
        _, cache = model.run_with_cache(family.tokens, ["pattern"], [edit])
        pattern = cache["pattern", last]
        assert torch.isfinite(pattern).all()
        assert pattern[..., future].abs().max() < 0.2 if "set" in edit.op else True
        if edit.op != "set":
            assert (pattern[..., future] == 0).all()


def test_knocking_out_a_key_sends_its_attention_elsewhere(family):
    """Forbids attention knock-out (Geva et al. 2023) that leaves weight on the hidden key."""
    edit = set_to("scores", 1, -torch.inf, positions=[6, 7, 8], keys=[5])
    _, cache = family.hooked.run_with_cache(family.tokens, ["pattern"], [edit])
    pattern = cache["pattern", 1]
    assert (pattern[:, :, 6:, 5] == 0).all()
    total = pattern.sum(-1) + cache["sink", 1]
    close(total, torch.ones_like(total))


def test_low_rank_edits_equal_a_change_of_the_weight(family):
    """Forbids rank-one edits (ROME) that differ from writing into the matrix."""
    model = family.hooked
    for site, name in (("mlp_out", "W_out"), ("attn_out", "W_O"), ("mlp_pre", "W_in")):
        if (site == "attn_out" and model.spec.layers[1].w_o is None) or (
            site != "attn_out" and "mlp_post" not in model.sites
        ):
            continue
        weight = getattr(model, name)[1].reshape(-1, getattr(model, name)[1].shape[-1])
        left, right = torch.randn(weight.shape[0], 2) * 0.1, torch.randn(2, weight.shape[1]) * 0.1
        logits = model.run(family.tokens, [low_rank(site, 1, left, right)])
        saved = weight.clone()
        try:
            weight += left @ right
            expected = model.run(family.tokens)
        finally:
            weight.copy_(saved)
        close(logits, expected, 1e-4)
        assert not torch.allclose(logits, model.run(family.tokens))


def test_low_rank_edits_of_chosen_rows_and_positions(gpt2):
    """Forbids one visitor's edit in another visitor's row of the batch."""
    left, right = torch.randn(128, 1), torch.randn(1, 32)
    edit = low_rank("mlp_out", 1, left, right, rows=[1], positions=[3, 4])
    before, now = after(gpt2, edit)
    keys = gpt2.hooked.run_with_cache(gpt2.tokens, [("mlp_post", 1)])[1]["mlp_post", 1]
    expected = before.clone()
    expected[1, 3:5] += (keys[1, 3:5] @ left) @ right
    close(now, expected, 1e-4)
    with pytest.raises(InterventionError, match="maps 128 to 32"):
        gpt2.hooked.run(gpt2.tokens, [low_rank("mlp_out", 1, left[:5], right)])
    with pytest.raises(InterventionError, match="no gate"):
        gpt2.hooked.run(gpt2.tokens, [low_rank("mlp_gate", 1, left, right)])


def test_edits_apply_in_the_order_in_which_they_are_listed(gpt2):
    """Forbids an order that depends on the kind of edit."""
    a, b = set_to("resid_post", 1, 1.0), scale("resid_post", 1, 3.0)
    run = gpt2.hooked.run_with_cache
    assert (run(gpt2.tokens, ["resid_post"], [a, b])[1]["resid_post", 1] == 3).all()
    assert (run(gpt2.tokens, ["resid_post"], [b, a])[1]["resid_post", 1] == 1).all()


def test_an_edit_after_a_broadcast_value_stays_in_its_cells(gpt2):
    """Forbids writing through a value that was broadcast: one row's edit would be every row's."""
    first = set_to("resid_post", 1, torch.ones(32))
    second = zero("resid_post", 1, rows=[0], positions=[3])
    run = gpt2.hooked.run_with_cache
    resid = run(gpt2.tokens, ["resid_post"], [first, second])[1]["resid_post", 1]
    expected = torch.ones_like(resid)
    expected[0, 3] = 0
    assert torch.equal(resid, expected)


def test_a_run_does_not_write_into_the_callers_tensors(family):
    """Forbids a model that adds in place (Falcon) from changing a value or another run's cache."""
    model = family.hooked
    names = [s for s in ("mlp_out", "resid_mid", "attn_out") if s in model.sites]
    _, cache = model.run_with_cache(family.tokens.flip(0), names)
    kept = {key: cache[key].clone() for key in cache}
    edits = [patch(key.site, key.layer, cache) for key in cache]
    edits += [custom(key.site, key.layer, lambda _, key=key: cache[key]) for key in cache]
    model.run(family.tokens, edits)
    assert all(torch.equal(cache[key], kept[key]) for key in kept)


def test_gradients_flow_into_a_steering_vector(gpt2):
    """Forbids edits that cut the graph (training a direction)."""
    direction = torch.zeros(32, requires_grad=True)
    logits = gpt2.hooked.run(gpt2.tokens, [steer("resid_post", 0, direction)], grad=True)
    (gradient,) = torch.autograd.grad(logits[0, -1, 7], [direction])
    step = 1e-3 * gradient / gradient.norm()
    moved = gpt2.hooked.run(gpt2.tokens, [steer("resid_post", 0, step)])
    slope = (moved[0, -1, 7] - logits[0, -1, 7]).item() / 1e-3
    assert slope == pytest.approx(gradient.norm().item(), rel=0.05)


# --- refused before the run ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: zero("resid", 1), "no site"),
        (lambda: zero("resid_pre"), "say which"),
        (lambda: zero("embed", 1), "once in a model"),
        (lambda: zero("head_out", 1), "edit z"),
        (lambda: zero("blocks.1.hook_resid_pre"), "separately"),
        (lambda: zero("resid_pre", 1, heads=[0]), "no axis for heads"),
        (lambda: zero("z", 1, neurons=[0]), "no axis for neurons"),
        (lambda: zero("k", 1, keys=[0]), "no axis for keys"),
        (lambda: zero("z", 1, positions=[]), "empty"),
        (lambda: zero("z", 1, positions=[1.5]), "whole numbers"),
        (lambda: zero("z", 1, rows=[0, 1], positions=[1], paired=True), "same length"),
        (lambda: zero("z", 1, rows=[0], paired=True), "two or more"),
        (lambda: patch("resid_pre", 1, torch.zeros(9, 32)), "axes"),
        (lambda: steer("resid_pre", 1, torch.zeros(2, 32)), "one vector"),
        (lambda: low_rank("resid_pre", 1, torch.zeros(2, 1), torch.zeros(1, 2)), "projection"),
        (lambda: low_rank("mlp_out", 1, torch.zeros(2, 1), torch.zeros(2, 2)), "left"),
    ],
)
def test_nonsense_is_refused_when_it_is_made(build, match):
    """Forbids mistakes that surface only inside a forward pass."""
    with pytest.raises(InterventionError, match=match):
        build()


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (zero("z", 7), "no layer 7"),
        (zero("mlp_gate", 1), "no gate"),
        (zero("z", 1, heads=[4]), "no head 4; this run has 4"),
        (zero("z", 1, positions=[9]), "no position 9; this run has 9"),
        (zero("z", 1, positions=[-10]), "no position -10"),
        (zero("z", 1, rows=[2]), "no row 2; this run has 2"),
        (zero("mlp_post", 1, neurons=[128]), "no neuron 128"),
        (zero("pattern", 1, keys=[9]), "no key 9"),
        (set_to("resid_pre", 1, torch.zeros(31)), "does not fit"),
        (set_to("resid_pre", 1, torch.zeros(8, 32)), "8 positions and the prompt 9"),
        (set_to("resid_pre", 1, torch.zeros(1, 2, 9, 32)), "larger than"),
        (patch("resid_pre", 1, torch.zeros(1, 7, 32)), "say which positions"),
        (patch("resid_pre", 1, torch.zeros(1, 7, 32), positions=[8]), "does not cover"),
        (patch("resid_pre", 1, torch.zeros(3, 9, 32), source_rows=[0]), "source_rows"),
        (patch("resid_pre", 1, torch.zeros(1, 9, 31)), "does not fit"),
        (project_out("resid_pre", 1, torch.ones(31)), "31 entries"),
        ("zero", "not an intervention"),
    ],
)
def test_what_cannot_apply_is_refused_before_the_run(gpt2, edit, match):
    """Forbids running a model with an edit that does nothing, or half of what was meant."""
    seen = []
    watch = custom("resid_pre", 0, lambda x: seen.append(1) or x)
    with pytest.raises(InterventionError, match=match):
        gpt2.hooked.run(gpt2.tokens, [watch, edit])
    assert not seen


def test_edits_outside_the_layers_that_run_are_refused(gpt2):
    """Forbids silent no-ops in runs that stop early or start late."""
    model, tokens = gpt2.hooked, gpt2.tokens
    resid = torch.zeros(2, 9, 32)
    for edit, options in (
        (zero("z", 2), {"stop_at_layer": 2}),
        (zero("ln_final"), {"stop_at_layer": 2}),
        (zero("z", 0), {"start_at_layer": 1, "resid": resid}),
        (zero("embed"), {"start_at_layer": 1, "resid": resid}),
    ):
        with pytest.raises(InterventionError, match="starts after it or stops before it"):
            model.run(tokens, [edit], **options)


def test_an_edit_that_applied_nowhere_is_an_error(gpt2):
    """Forbids a silent no-op when a tap did not fire (nnsight #143)."""
    model = gpt2.hooked
    with pytest.raises(InterventionNotAppliedError, match="applied nowhere"):
        # The end of the context was announced, but generation ended before it.
        model.generate(gpt2.tokens[:, :3], 3, [zero("z", 1, positions=[5])])


# --- as data -------------------------------------------------------------------------------------


def test_interventions_are_frozen_and_readable(gpt2):
    """Forbids edits that change after they were shown or shared."""
    edit = zero("z", 3, heads=[1], name="name mover")
    assert str(edit) == "name mover z[3] (heads=[1])"
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.layer = 2
    with pytest.raises(TypeError):
        edit.settings["factor"] = 2
    with pytest.raises(TypeError):
        zero("z", 3, head=[1])
    assert edit == zero("z", 3, heads=1, name="name mover")
    assert edit != zero("z", 3, heads=2, name="name mover")
    assert len({edit, zero("z", 3, heads=1, name="name mover")}) == 1


def test_json_refuses_what_it_did_not_write():
    """Forbids code, made-up fields and swapped tensors in shared interventions."""
    with pytest.raises(InterventionError, match="function"):
        to_json([custom("z", 1, lambda x: x)])
    text, tensors = to_json([steer("z", 1, torch.ones(8))])
    assert len(tensors) == 1
    with pytest.raises(InterventionError, match="not at hand"):
        from_json(text)
    (reference,) = tensors
    with pytest.raises(InterventionError, match="another one"):
        from_json(text, {reference: torch.zeros(8)})
    for bad in ("{", "{}", "[1]", '[{"op": "exec", "site": "z"}]', '[{"op": "zero", "site": 3}]'):
        with pytest.raises(InterventionError):
            from_json(bad)
    item = {"op": "zero", "site": "z", "layer": 1}
    for extra in (
        {"function": "os.system"},
        {"settings": {"a": 1}},
        {"layer": "1"},
        {"site": "q "},
    ):
        with pytest.raises(InterventionError):
            from_json(json.dumps([item | extra]))


# --- properties ----------------------------------------------------------------------------------

SITES = [
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
    "q",
    "k",
    "v",
    "mlp_post",
]
WIDTHS = {"z": 8, "q": 8, "k": 8, "v": 8, "mlp_post": 128}
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
index = st.one_of(st.none(), st.lists(st.integers(0, 8), min_size=1, max_size=3, unique=True))


@st.composite
def edits(draw, site=None):
    """Any intervention of gpt2's sites, with any selectors."""
    site = site or draw(st.sampled_from(SITES))
    layer = draw(st.integers(0, 2))
    where = {"positions": draw(index)}
    if draw(st.booleans()):
        where["rows"] = [draw(st.integers(0, 1))]
    if site in "zqkv" and draw(st.booleans()):
        where["heads"] = [draw(st.integers(0, 3))]
    vector = torch.randn(
        WIDTHS.get(site, 32), generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))
    )
    kind = draw(st.sampled_from(["zero", "set", "add", "scale", "noise", "project_out"]))
    if kind == "zero":
        return zero(site, layer, **where)
    if kind == "set":
        return set_to(site, layer, vector, **where)
    if kind == "add":
        return add(site, layer, vector, strength=draw(st.floats(-2, 2)), **where)
    if kind == "scale":
        return scale(site, layer, draw(st.floats(-2, 2)), **where)
    if kind == "noise":
        return noise(site, layer, std=draw(st.floats(0, 2)), seed=draw(st.integers(0, 99)), **where)
    return project_out(site, layer, vector, **where)


@quick
@given(many=st.lists(edits(), max_size=4))
def test_undo_restores_every_bit(gpt2, many):
    """Forbids interventions that leave a trace in weights, caches or hooks."""
    model, tokens = gpt2.hooked, gpt2.tokens
    plain, cache = model.run_with_cache(tokens)
    kept = {key: cache[key].clone() for key in cache}
    with model.interventions(*many):
        model.run_with_cache(tokens)
    again, now = model.run_with_cache(tokens)
    assert torch.equal(again, plain)
    assert all(torch.equal(now[key], kept[key]) for key in kept)
    assert all(torch.equal(cache[key], kept[key]) for key in kept)


@quick
@given(
    site=st.sampled_from([*SITES, "scores", "pattern", "attn_in", "mlp_in"]),
    layer=st.integers(0, 2),
    positions=index,
)
def test_patching_a_run_into_itself_changes_no_bit(gpt2, llama, site, layer, positions):
    """Forbids patches that round, shift or transpose: the identity edit is the identity."""
    for family in (gpt2, llama):
        logits, cache = family.hooked.run_with_cache(family.tokens, [(site, layer)])
        edit = patch(site, layer, cache, positions=positions)
        assert torch.equal(family.hooked.run(family.tokens, [edit]), logits)


@quick
@given(first=st.lists(edits(), max_size=2), second=st.lists(edits(), max_size=2))
def test_nesting_contexts_is_concatenation(gpt2, first, second):
    """Forbids an order of nested contexts other than outer first, inner next, call last."""
    model, tokens = gpt2.hooked, gpt2.tokens
    flat = model.run(tokens, [*first, *second])
    with model.interventions(*first):
        assert torch.equal(model.run(tokens, second), flat)
        with model.interventions(*second):
            assert torch.equal(model.run(tokens), flat)


@quick
@given(many=st.lists(edits(), max_size=4))
def test_json_round_trip(gpt2, many):
    """Forbids a saved experiment that is not the one that was run."""
    text, tensors = to_json(many)
    again = from_json(text, tensors)
    assert again == many
    assert to_json(again)[0] == text
    assert torch.equal(gpt2.hooked.run(gpt2.tokens, again), gpt2.hooked.run(gpt2.tokens, many))


@quick
@given(data=st.data(), site=st.sampled_from(SITES))
def test_edits_of_one_row_leave_the_other_rows_alone(gpt2, data, site):
    """Forbids rows of a batch that see each other's edits."""
    edit = dataclasses.replace(data.draw(edits(site)), rows=(1,))
    plain = gpt2.hooked.run(gpt2.tokens)
    assert torch.equal(gpt2.hooked.run(gpt2.tokens, [edit])[0], plain[0])

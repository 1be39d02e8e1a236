"""Ablations and blocked edges: what is replaced, by what, and how the change is divided up."""

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attribution import (
    AblationError,
    ablate,
    ablate_each_head,
    block_attention,
    direct_logit_attribution,
    intervention_effect,
)
from lens_core.interventions import custom, from_json, scale, to_json, zero
from lens_core.model.errors import UnknownSiteError

TARGET, FOIL = 5, 7
KINDS = ("zero", "mean", "resample")
SOME_FAMILIES = ("gpt2", "llama", "gemma2", "qwen3", "gpt_neox", "phi")


@pytest.fixture(params=SOME_FAMILIES)
def some(request, family_named):
    """One of the kinds of block, norm and attention."""
    return family_named(request.param)


def difference(logits):
    return float(logits[TARGET] - logits[FOIL])


def test_zero_ablation_is_the_zero_intervention(some):
    """Forbids an ablation of other heads or positions, or a total effect of the wrong sign."""
    model, tokens = some.hooked, some.tokens[:1]
    found = ablate(model, tokens, [(0, 1), (2, 3), (1, "mlp")], TARGET, FOIL)
    edits = [zero("z", 0, heads=[1]), zero("z", 2, heads=[3]), zero("mlp_out", 1)]
    before, after = model.run(tokens)[0, -1], model.run(tokens, edits)[0, -1]
    assert found.before.value == pytest.approx(difference(before), abs=1e-6)
    assert found.after.value == pytest.approx(difference(after), abs=1e-6)
    assert found.total_effect == pytest.approx(difference(after) - difference(before), abs=1e-6)
    reference = torch.nn.functional.kl_div(
        after.log_softmax(-1), before.softmax(-1), reduction="sum"
    )
    assert found.kl_nats == pytest.approx(float(reference), abs=1e-6)
    assert found.after.top_ids[0] == int(after.argmax())
    assert found.before.target_rank == 1 + int((before > before[TARGET]).sum())
    assert found.indirect_effect == found.total_effect - found.direct_effect
    assert list(found.draws) == [pytest.approx(found.total_effect)]


def test_a_zeroed_part_loses_exactly_its_attribution(some):
    """Forbids a direct effect that is not the part of the direct attribution."""
    model, tokens = some.hooked, some.tokens[:1]
    parts = direct_logit_attribution(model, tokens, TARGET, FOIL)
    for layer, head in ((0, 0), (1, 2), (2, 3)):
        found = ablate(model, tokens, [(layer, head)], TARGET, FOIL)
        assert found.direct_effect == pytest.approx(-parts.by_head[layer, head], abs=1e-6)
    found = ablate(model, tokens, [(1, "mlp")], TARGET, FOIL)
    assert found.direct_effect == pytest.approx(-parts.by_component["mlp 1"], abs=1e-6)
    found = ablate(model, tokens, [(1, "attn")], TARGET, FOIL)
    assert found.direct_effect == pytest.approx(-parts.by_component["attn 1"], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_part_has_no_path_but_the_norm(some, corpus, kind):
    """Forbids an indirect effect where nothing comes after: only the final norm's scale is left."""
    model, tokens = some.hooked, some.tokens[:1]
    last = model.cfg.n_layers - 1
    found = ablate(model, tokens, [(last, "mlp")], TARGET, FOIL, kind=kind, corpus=corpus)
    assert found.direct_effect_renormed == pytest.approx(found.total_effect, abs=1e-5)
    if model.cfg.parallel:  # the last heads, too, are read by nothing
        heads = ablate(model, tokens, [(last, 2)], TARGET, FOIL, kind=kind, corpus=corpus)
        assert heads.direct_effect_renormed == pytest.approx(heads.total_effect, abs=1e-5)


@pytest.mark.parametrize("position", [-1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_each_head_in_a_batch_equals_each_head_alone(some, corpus, kind, position):
    """Forbids rows of a batch that are shifted, or heads resumed from another layer's stream."""
    model, tokens = some.hooked, some.tokens[:1]
    options = {"kind": kind, "corpus": corpus, "position": position, "seed": 3}
    every = ablate_each_head(model, tokens, TARGET, FOIL, **options)
    for layer, head in ((0, 0), (1, 3), (2, 1)):
        alone = ablate(model, tokens, [(layer, head)], TARGET, FOIL, **options)
        assert every.total_effect[layer, head] == pytest.approx(alone.total_effect, abs=1e-5)
        assert every.direct_effect[layer, head] == pytest.approx(alone.direct_effect, abs=1e-5)
        assert every.kl_nats[layer, head] == pytest.approx(alone.kl_nats, abs=1e-5)
    assert len(every.to_frame()) == model.cfg.n_layers * model.cfg.n_heads


def test_each_head_is_ablated_on_top_of_other_edits(gpt2):
    """Forbids a batch that drops, doubles or spreads the edits that both runs share."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    edits = [scale("resid_pre", 1, 1.5, positions=[4]), zero("z", 0, heads=[2])]
    every = ablate_each_head(model, tokens, TARGET, FOIL, interventions=edits)
    assert every.total_effect[0, 2] == pytest.approx(0, abs=1e-6)
    both = [*edits, zero("z", 1, heads=[1])]
    expected = difference(model.run(tokens, both)[0, -1]) - difference(
        model.run(tokens, edits)[0, -1]
    )
    assert every.total_effect[1, 1] == pytest.approx(expected, abs=1e-5)


def test_progress_is_told_layer_by_layer_and_can_end_the_work(gpt2):
    """Forbids a long sweep that nobody can follow or stop."""
    seen = []
    ablate_each_head(
        gpt2.hooked, gpt2.tokens[:1], on_step=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate_each_head(gpt2.hooked, gpt2.tokens[:1], on_step=stop)


def test_copying_by_induction_is_indirect_through_the_first_head():
    """Forbids a division of effects that gives a head what its reader wrote, or finds a circuit
    where the answer is looked up."""
    induction = HookedModel.from_pretrained("glass-induction")
    prompt = "seal moth deer crow wolf frog seal moth deer"
    every = ablate_each_head(induction, prompt, "crow")
    layers = np.abs(every.total_effect).max(1)
    assert (layers > 5).all()
    assert np.abs(every.direct_effect[0]).max() < 1e-6
    assert every.direct_effect[1].min() == pytest.approx(-every.value, rel=1e-4)
    assert every.indirect_effect[0].min() == pytest.approx(every.total_effect[0].min())
    assert (np.abs(every.total_effect) > 1e-3).sum() == 2
    lookup = HookedModel.from_pretrained("glass-lookup")
    nothing = ablate_each_head(lookup, prompt)
    assert np.abs(nothing.total_effect).max() < 1e-4
    assert np.abs(nothing.kl_nats).max() < 1e-6


def test_mean_ablation_puts_the_mean_over_all_tokens(gpt2, corpus):
    """Forbids a mean of means, which weighs short prompts more, and a mean that counts padding."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    z = torch.cat([model.run_with_cache(p, [("z", 1)])[1]["z", 1][0] for p in corpus])
    mean = z.mean(0)[2]
    found = ablate(model, tokens, [(1, 2)], TARGET, FOIL, kind="mean", corpus=corpus)

    def put(x):
        x = x.clone()
        x[:, :, 2] = mean
        return x

    after = model.run(tokens, [custom("z", 1, put)])[0, -1]
    assert found.after.value == pytest.approx(difference(after), abs=1e-5)


def test_resampling_takes_other_prompts_that_are_long_enough(gpt2, corpus):
    """Forbids a draw of the prompt itself (no effect), of a shorter one, or one that changes."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    options = {"kind": "resample", "corpus": [*corpus, tokens], "seed": 1}
    found = ablate(model, tokens, [(1, 2)], TARGET, FOIL, **options)
    assert len(found.draws) == 3
    assert (np.abs(found.draws) > 1e-6).all()
    assert found.total_effect == pytest.approx(found.draws.mean(), abs=1e-6)
    one = ablate(model, tokens, [(1, 2)], TARGET, FOIL, n_draws=1, **options)
    again = ablate(model, tokens, [(1, 2)], TARGET, FOIL, n_draws=1, **options)
    assert one.total_effect == again.total_effect
    assert one.total_effect in [pytest.approx(draw) for draw in found.draws]


@pytest.mark.parametrize("kind", KINDS)
def test_ablating_at_some_positions_leaves_the_others(gpt2, corpus, kind):
    """Forbids an ablation everywhere under the name of one at a position."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]
    options = {"kind": kind, "corpus": corpus}
    last = ablate(model, tokens, [(2, "mlp")], TARGET, FOIL, positions=[-1], **options)
    whole = ablate(model, tokens, [(2, "mlp")], TARGET, FOIL, **options)
    assert last.total_effect == pytest.approx(whole.total_effect, abs=1e-6)
    assert last.positions == (8,)
    early = ablate(model, tokens, [(2, "mlp")], TARGET, FOIL, positions=[0, 3], **options)
    assert early.total_effect == pytest.approx(0, abs=1e-6)
    assert early.direct_effect == 0
    moved = ablate(model, tokens, [(0, 1)], TARGET, FOIL, positions=[3], **options)
    assert moved.direct_effect == 0
    assert abs(moved.total_effect) > 1e-6


def test_bad_ablations_are_refused_with_a_sentence(gpt2, corpus):
    """Forbids a traceback, and an ablation of nothing that shows no effect."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]

    def refused(match, parts=((0, 1),), error=AblationError, **options):
        with pytest.raises(error, match=match):
            ablate(model, tokens, parts, TARGET, FOIL, **options)

    refused("nothing to ablate", parts=())
    refused("no head 4", parts=[(0, 4)])
    refused("no head -1", parts=[(0, -1)])
    refused("there is no layer 3", parts=[(3, 0)], error=UnknownSiteError)
    refused("A part is", parts=[(0, "heads")])
    refused("named twice", parts=[(0, 1), (0, 1)])
    refused("named twice", parts=[(0, 1), (0, "attn")])
    refused("needs a corpus", kind="mean")
    refused("kinds of ablation", kind="median", corpus=corpus)
    refused("add longer prompts", kind="resample", corpus=corpus[-1:])
    refused("at least one draw", kind="resample", corpus=corpus, n_draws=0)
    refused("no position to ablate at", positions=[])


def test_a_blocked_edge_is_that_edge_alone(some):
    """Forbids rows and columns that are swapped, and other heads that are blocked with it."""
    model, tokens = some.hooked, some.tokens[:1]
    _, before = model.run_with_cache(tokens, ["pattern"])
    edit = block_attention(1, 2, dest=6, src=3)
    _, after = model.run_with_cache(tokens, ["pattern"], [edit])
    changed = (after["pattern", 1] != before["pattern", 1])[0].nonzero().tolist()
    assert changed in ([[2, 6, 3]], [])  # a window may not let it look that far
    assert after["pattern", 1][0, 2, 6, 3] == 0
    assert torch.equal(after["pattern", 0], before["pattern", 0])


def test_columns_rows_and_heads_can_be_blocked(gpt2):
    """Forbids a column that is a row, and a head that still reads something."""
    model, tokens = gpt2.hooked, gpt2.tokens[:1]

    def pattern(edit):
        return model.run_with_cache(tokens, [("pattern", 1)], [edit])[1]["pattern", 1][0]

    assert (pattern(block_attention(1, 2, src=3))[2, :, 3] == 0).all()
    assert (pattern(block_attention(1, 2, dest=3))[2, 3] == 0).all()
    assert (pattern(block_attention(1, 2))[2] == 0).all()
    assert (pattern(block_attention(1, src=0))[:, :, 0] == 0).all()
    assert (
        pattern(block_attention(1, [0, 2], dest=[5, 6], src=[0, 1]))[[0, 2], 5:7, :2] == 0
    ).all()


def test_a_blocked_head_is_a_zeroed_head(some):
    """Forbids a block that leaves the value's bias behind."""
    model, tokens = some.hooked, some.tokens[:1]
    blocked = intervention_effect(model, tokens, [block_attention(1, 2)], TARGET, FOIL)
    zeroed = ablate(model, tokens, [(1, 2)], TARGET, FOIL)
    assert blocked.total_effect == pytest.approx(zeroed.total_effect, abs=1e-6)


def test_renormalised_rows_still_sum_to_one(some):
    """Forbids rows that lose mass, or become NaN where the only edge is blocked."""
    model, tokens = some.hooked, some.tokens[:1]
    edit = block_attention(1, 2, src=0, renormalise=True)
    _, plain = model.run_with_cache(tokens, ["pattern"])
    logits, cache = model.run_with_cache(tokens, ["pattern"], [edit])
    pattern, before = cache["pattern", 1][0, 2], plain["pattern", 1][0, 2]
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(pattern.sum(-1), torch.ones(9))
    assert (pattern[1:, 0] == 0).all()
    assert pattern[0, 0] == 1
    others = before[1:, 1:] / before[1:, 1:].sum(-1, keepdim=True)
    torch.testing.assert_close(pattern[1:, 1:], others)


def test_blocked_attention_survives_being_saved():
    """Forbids a block that a link or notebook cannot carry."""
    edits = [block_attention(3, 1, dest=7, src=2), block_attention(3, src=0, renormalise=True)]
    assert from_json(*to_json(edits)) == edits
    assert str(edits[0]) == "block attention pattern[3] (positions=[7], heads=[1], keys=[2])"


def test_impossible_blocks_are_refused():
    """Forbids a block that cannot change anything and says nothing about it."""
    with pytest.raises(AblationError, match="cannot see the later position"):
        block_attention(0, 1, dest=2, src=5)
    with pytest.raises(AblationError, match="name src"):
        block_attention(0, 1, dest=2, renormalise=True)


def test_downstream_patterns_move_and_earlier_ones_do_not(some):
    """Forbids a change that is shown in the layers before the edit, or in none after it."""
    model, tokens = some.hooked, some.tokens[:1]
    found = intervention_effect(model, tokens, [zero("mlp_out", 0)], TARGET, FOIL)
    assert (found.pattern_change[0] == 0).all()
    assert (found.pattern_change[1:] > 0).all()
    assert (found.pattern_change_max >= found.pattern_change).all()
    assert (found.pattern_change_max <= 1 + 1e-6).all()
    after = model.run(tokens, [zero("mlp_out", 0)])[0, -1]
    assert found.after.value == pytest.approx(difference(after), abs=1e-6)
    assert found.question.target_id == TARGET
    assert len(found.to_frame()) == model.cfg.n_layers * model.cfg.n_heads

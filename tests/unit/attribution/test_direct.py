"""The parts of an answer: they add up, on every family, and each is what it says it is."""

import copy

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attribution import (
    AttributionError,
    accumulated,
    direct_logit_attribution,
    neuron_attribution,
    source_attribution,
)
from lens_core.attribution.frozen import FrozenNorm
from lens_core.interventions import add, noise, zero
from lens_core.model.errors import TokenError, UnknownSiteError

TARGET, FOIL = 5, 7


def attribute(model, tokens, **options):
    return direct_logit_attribution(model, tokens[:1], TARGET, **options)


@pytest.mark.parametrize("foil", [None, FOIL])
@pytest.mark.parametrize("position", [-1, 4])
def test_the_parts_sum_to_the_models_own_number(family, foil, position):
    """Forbids a part that is forgotten, counted twice or scaled otherwise than the model does."""
    found = attribute(family.hooked, family.tokens, foil=foil, position=position)
    logits = family.plain(input_ids=family.tokens[:1], use_cache=False).logits[0, position]
    expected = logits[TARGET] - (0 if foil is None else logits[foil])
    assert found.value == pytest.approx(float(expected), abs=1e-6)
    assert found.total == pytest.approx(found.value, rel=1e-4)
    assert found.residual == found.value - found.total
    assert found.ok


def test_heads_and_mlps_are_told_apart_in_every_family(family):
    """Forbids an identity that holds because whole blocks are taken as one part."""
    found = attribute(family.hooked, family.tokens)
    assert np.isfinite(found.by_head).all()
    kinds = {part.kind for part in found.parts}
    assert {"embed", "head", "mlp"} <= kinds
    assert not {"block", "attn", "edit"} & kinds


def test_a_soft_cap_that_bends_the_logits_is_a_part(capped):
    """Forbids parts of the logit before the cap under the name of the logit after it."""
    tokens = torch.randint(1, 120, (1, 9), generator=torch.Generator().manual_seed(1))
    found = direct_logit_attribution(capped, tokens, TARGET, FOIL)
    cap = found.by_component["soft cap"]
    assert abs(cap) > 0.05 * abs(found.value)
    assert found.total == pytest.approx(found.value, rel=1e-4)
    path = accumulated(capped, tokens, TARGET, FOIL)
    assert path.frozen[-1] + cap == pytest.approx(found.value, rel=1e-4)
    assert path.own_norm[-1] == pytest.approx(found.value, rel=1e-4)


def by_hand(model, cache, layer, head, gain, *, centred):
    """A head's part by definition: what it writes, through the frozen final norm, unembedded."""
    written = cache["head_out", layer][0, -1, head]
    if model.cfg.family == "gemma2":  # a norm follows attention; its gain is kept less one
        block = model.hf_model.model.layers[layer]
        everything = cache["head_out", layer][0, -1].sum(0)
        scale = (everything.pow(2).mean() + 1e-6).sqrt()
        written = written * (1 + block.post_attention_layernorm.weight) / scale
    if centred:
        written = written - written.mean()
    scale = cache["ln_final_scale"][0, -1]
    return float((written / scale * gain) @ (model.W_U[:, TARGET] - model.W_U[:, FOIL]))


@pytest.mark.parametrize(
    ("name", "gain", "centred"),
    [
        ("gpt2", lambda m: m.transformer.ln_f.weight, True),
        ("llama", lambda m: m.model.norm.weight, False),
        ("gemma2", lambda m: 1 + m.model.norm.weight, False),
        ("qwen3", lambda m: m.model.norm.weight, False),
        ("gpt_neox", lambda m: m.gpt_neox.final_layer_norm.weight, True),
        ("phi", lambda m: m.model.final_layernorm.weight, True),
    ],
)
def test_a_heads_part_is_what_the_definition_says(family_named, name, gain, centred):
    """Forbids parts that add up but are other heads', or from before a post-norm."""
    model, tokens = family_named(name).hooked, family_named(name).tokens
    found = attribute(model, tokens, foil=FOIL)
    _, cache = model.run_with_cache(tokens[:1], ["z", "resid_post"])
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            expected = by_hand(model, cache, layer, head, gain(model.hf_model), centred=centred)
            assert found.by_head[layer, head] == pytest.approx(expected, abs=1e-5)


def test_views_of_the_parts_agree(gpt2):
    """Forbids a layer, component or table that holds other numbers than the parts."""
    found = attribute(gpt2.hooked, gpt2.tokens, foil=FOIL)
    constants = sum(p.value for p in found.parts if p.layer is None)
    assert found.by_layer.sum() + constants == pytest.approx(found.total)
    assert sum(found.by_component.values()) == pytest.approx(found.total)
    frame = found.to_frame()
    assert frame["value_logits"].sum() == pytest.approx(found.total)
    assert list(frame["part"][:3]) == ["embed", "pos embed", "L0H0"]
    assert found.question.label == "logit of 'id:5' minus logit of 'id:7'"


def test_without_a_target_the_best_guess_is_taken_apart(gpt2):
    """Forbids an attribution of another token than the one that the page names."""
    found = direct_logit_attribution(gpt2.hooked, gpt2.tokens[:1])
    assert found.question.target_id == int(gpt2.hooked.run(gpt2.tokens[:1])[0, -1].argmax())


def test_the_residual_shows_what_is_not_explained(gpt2, monkeypatch):
    """Forbids a residual that is zero by construction."""
    monkeypatch.setattr("lens_core.attribution.direct.attention_parts", lambda run, layer: [])
    found = attribute(gpt2.hooked, gpt2.tokens)
    assert abs(found.residual) > 1e-3
    assert not found.ok


def test_parts_of_an_edited_run_add_up(family_named):
    """Forbids an identity that edits break, or an edit whose share lands on an innocent part."""
    for name in ("gpt2", "gemma2", "phi"):
        model, tokens = family_named(name).hooked, family_named(name).tokens
        edits = [
            zero("z", 0, heads=[1]),
            noise("resid_pre", 1, std=0.3),
            zero("mlp_out", 1, positions=[-1]),
            noise("attn_out", -1, std=0.3),
            noise("embed", std=0.1),
        ]
        found = attribute(model, tokens, foil=FOIL, interventions=edits)
        assert found.ok
        assert found.by_head[0, 1] == 0
        assert found.by_component["mlp 1"] == 0
        assert {p.layer for p in found.parts if p.kind == "edit"} == {1, model.cfg.n_layers - 1}
        with model.interventions(*edits):
            around = attribute(model, tokens, foil=FOIL)
        assert around.total == found.total


def test_edits_after_the_stream_are_refused(gpt2):
    """Forbids parts that do not know of a change of the logits themselves."""
    for edit in (add("logits", None, 1.0), zero("ln_final")):
        with pytest.raises(AttributionError, match="leave it out"):
            attribute(gpt2.hooked, gpt2.tokens, interventions=[edit])


def test_bad_questions_are_answered_with_a_sentence(gpt2):
    """Forbids a traceback, or an answer about another question."""
    model, tokens = gpt2.hooked, gpt2.tokens
    with pytest.raises(AttributionError, match="no position 9"):
        attribute(model, tokens, position=9)
    with pytest.raises(AttributionError, match="same token"):
        attribute(model, tokens, foil=TARGET)
    with pytest.raises(TokenError, match="not in the vocabulary"):
        attribute(model, tokens, foil=120)
    with pytest.raises(TokenError, match="one prompt"):
        direct_logit_attribution(model, tokens, TARGET)


def test_a_norm_that_is_not_one_is_refused():
    """Forbids parts through a module that no scale makes linear."""
    norm = torch.nn.LayerNorm(8)
    norm.register_forward_hook(lambda module, args, out: out.tanh())
    with pytest.raises(AttributionError, match="not linear"):
        FrozenNorm.at(norm, torch.randn(8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("norm", [torch.nn.LayerNorm(7), torch.nn.RMSNorm(7)], ids=repr)
def test_a_frozen_norm_is_the_norms_own_slope(norm):
    """Forbids a gain, bias, scale or centring that is not the module's, in either direction."""
    generator = torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        parameter.requires_grad_(False).copy_(torch.randn(7, generator=generator))
    x, change, direction = (torch.randn(7, generator=generator) for _ in range(3))
    frozen = FrozenNorm.at(norm, x)
    pulled, constant = frozen.pull(direction.double())
    assert float(x.double() @ pulled) + constant == pytest.approx(float(norm(x) @ direction))
    change = change - x * (change @ x) / (x @ x)  # leaves the length as it is, to first order
    if isinstance(norm, torch.nn.LayerNorm):
        centred = x - x.mean()
        change = change - centred * (change @ centred) / (centred @ centred)
    step = 1e-3
    slope = (norm.double()(x.double() + step * change.double()) - norm(x.double())) / step
    torch.testing.assert_close(frozen.push(change.double()), slope, rtol=1e-2, atol=1e-3)
    assert float(frozen.push(change.double()) @ direction.double()) == pytest.approx(
        float(change.double() @ pulled)
    )


@pytest.mark.parametrize("position", [-1, 4])
def test_sources_sum_to_the_heads_part(family, position):
    """Forbids source bars of another head, another position, or of values from before a bias."""
    model, tokens = family.hooked, family.tokens
    whole = attribute(model, tokens, foil=FOIL, position=position)
    for layer, head in ((0, 1), (model.cfg.n_layers - 1, 2)):  # of two key-value heads
        found = source_attribution(
            model, tokens[:1], TARGET, FOIL, layer=layer, head=head, position=position
        )
        assert found.value == pytest.approx(whole.by_head[layer, head])
        assert found.values.sum() == pytest.approx(found.value, abs=1e-5)
        assert found.relative_residual < 1e-4
        assert (found.values[found.question.position + 1 :] == 0).all()


def test_neurons_sum_to_the_mlps_part(family):
    """Forbids neurons of before the gate, or without the norm that follows the MLP."""
    model, tokens = family.hooked, family.tokens
    whole = attribute(model, tokens, foil=FOIL)
    for layer in range(model.cfg.n_layers):
        if not model.has_site("mlp_post", layer):
            with pytest.raises(AttributionError, match="experts"):
                neuron_attribution(model, tokens[:1], TARGET, FOIL, layer=layer)
            continue
        found = neuron_attribution(model, tokens[:1], TARGET, FOIL, layer=layer, k=5)
        assert found.value == pytest.approx(whole.by_component[f"mlp {layer}"])
        assert found.relative_residual < 1e-4
        assert len(found.neurons) == 5
        assert found.n_others == model.cfg.d_mlp - 5
        assert (np.diff(np.abs(found.values)) <= 0).all()
        assert len(found.to_frame()) == 7


def test_a_head_or_layer_that_is_not_there_is_refused(gpt2):
    """Forbids head -1 as the last head, and an index error."""
    for layer, head in ((0, 4), (0, -1), (3, 0)):
        with pytest.raises(UnknownSiteError, match="there is no"):
            source_attribution(gpt2.hooked, gpt2.tokens[:1], layer=layer, head=head)


def test_the_accumulated_view_ends_at_the_answer(family):
    """Forbids a state that is skipped, a step that is not its part, a lens that is not the lens."""
    model, tokens = family.hooked, family.tokens
    whole = attribute(model, tokens, foil=FOIL)
    path = accumulated(model, tokens[:1], TARGET, FOIL)
    cap = whole.by_component.get("soft cap", 0.0)
    assert path.frozen[-1] + cap == pytest.approx(whole.value, abs=1e-5)
    assert path.own_norm[-1] == pytest.approx(whole.value, abs=1e-5)
    steps = dict(zip(path.labels, path.steps, strict=True))
    for label, step in steps.items():
        if label in whole.by_component and label != "embed":
            assert step == pytest.approx(whole.by_component[label], abs=1e-5)
    blocks = [step for label, step in steps.items() if label != "embed"]
    assert sum(blocks) == pytest.approx(whole.by_layer.sum(), abs=1e-5)
    _, cache = model.run_with_cache(tokens[:1], ["resid_post"])
    lens = model.unembed(model.ln_final(cache["resid_post", 0][:, -1:]))[0, 0]
    after_first = [n for n, layer in enumerate(path.layers) if layer == 0][-1]
    assert path.own_norm[after_first] == pytest.approx(float(lens[TARGET] - lens[FOIL]), abs=1e-5)
    assert path.target_probs[after_first] == pytest.approx(
        float(lens.softmax(-1)[TARGET]), abs=1e-6
    )
    assert len(path.to_frame()) == len(path.labels)


def test_half_precision_says_how_far_it_is_off(gpt2):
    """Forbids an identity that claims more than the precision in which the model ran."""
    half = HookedModel.from_hf(copy.deepcopy(gpt2.plain).to(torch.bfloat16), name="half")
    found = direct_logit_attribution(half, gpt2.tokens[:1], TARGET)
    assert found.tolerance == pytest.approx(2e-2)
    assert found.ok


def test_the_shipped_model_adds_up_on_its_own_prompts(tiny_world):
    """Forbids figures on the page that do not sum to the answer that it shows."""
    for prompt in ("The Eiffel Tower is in", "A", "one two three one two three one two"):
        found = direct_logit_attribution(tiny_world, prompt)
        assert found.relative_residual < 1e-5

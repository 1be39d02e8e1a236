"""Circuits read from factors are the full matrices' and the running model's."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attention import copying_direct, copying_eigenvalues, ov_promoted, qk_attended
from lens_core.attention.copying import copying_in_sample
from lens_core.attention.paths import fold_of
from lens_core.interventions import set_to, zero
from lens_core.model.errors import TokenError, UnknownSiteError

# LayerNorm, RMSNorm with its gain from 1 on, grouped keys, norms after attention, scaled residuals.
KINDS = ["gpt2", "llama", "gemma2", "gpt_neox", "olmo2", "granite", "qwen3"]
TOKEN = 17


def reads(model: HookedModel, layer: int, effective: bool) -> torch.Tensor:
    """The whole vocabulary as the layer would read it, by a run a token: [d_vocab, d_model]."""
    ids = torch.arange(model.cfg.d_vocab)[:, None]
    edits = [zero("pos_embed", None)] if model.has_site("pos_embed", None) else []
    edits += [zero("attn_out", 0)] if effective and layer else []
    mask = torch.ones_like(ids)
    stop = 1 if effective and layer else 0
    return model.run(ids, edits, stop_at_layer=stop, attention_mask=mask)[:, 0]


def centred(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x - x.mean(dim, keepdim=True)


@pytest.mark.parametrize("effective", [False, True])
def test_eigenvalues_are_those_of_the_full_matrix(gpt2: Any, effective: bool) -> None:
    """Forbids a factored sum that is not that of the vocabulary x vocabulary matrix."""
    model = gpt2.hooked
    found = copying_eigenvalues(model, embedding="effective" if effective else "W_E")
    ln1, ln_f = model.hf_model.transformer.h[2].ln_1, model.hf_model.transformer.ln_f
    states = centred(reads(model, 2, effective), 1) * ln1.weight
    written = states @ model.W_V[2, 1] @ model.W_O[2, 1]
    full = (centred(written, 1) * ln_f.weight) @ centred(model.W_U, 1)
    expected = torch.linalg.eigvals(full.double())
    ratio = float(expected.sum().real / expected.abs().sum())
    assert found.score[2, 1] == pytest.approx(ratio, abs=1e-4)
    largest = expected.abs().sort(descending=True).values[: model.cfg.d_head]
    ours = np.sort(np.abs(found.eigenvalues[2, 1]))[::-1]
    np.testing.assert_allclose(ours, largest.numpy(), rtol=1e-3, atol=1e-4)


def test_a_planted_copying_head_scores_one(gpt2: Any) -> None:
    """Forbids a sign or a transposition: W_V W_O = +-1 on the read and written directions."""
    hooked = HookedModel.from_hf(copy.deepcopy(gpt2.plain), name="planted")
    attention = hooked.hf_model.transformer.h[1].attn
    directions = torch.linalg.qr(hooked.W_E.T @ torch.randn(120, 8))[0]  # [d_model, d_head]
    with torch.no_grad():
        hooked.hf_model.transformer.h[1].ln_1.weight.fill_(1.0)
        hooked.hf_model.transformer.ln_f.weight.fill_(1.0)
        for head, sign in ((0, 1.0), (1, -1.0)):
            attention.c_attn.weight[:, 64 + 8 * head : 72 + 8 * head] = directions
            attention.c_proj.weight[8 * head : 8 * head + 8] = sign * directions.T
        attention.c_proj.weight[16:24] = 0.0
    found = copying_eigenvalues(hooked, embedding="W_E").score[1]
    in_sample = copying_in_sample(hooked, [torch.arange(5)], embedding="W_E")[0, 1]
    assert found[0] == pytest.approx(1.0, abs=0.02)
    assert found[1] == pytest.approx(-1.0, abs=0.02)
    assert found[2] == 0.0  # writes nothing
    assert in_sample[0] > 0.7
    assert in_sample[1] == in_sample[2] == 0.0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("embedding", ["W_E", "effective"])
def test_ov_is_what_the_model_writes(family_named: Any, name: str, embedding: str) -> None:
    """Forbids another head, a norm left out, or the wrong key-value head: against a real run.

    Two prompts of one token each, the head's output read in the run: their difference goes through
    the final norm's gain to the logits, where all that does not depend on the token drops out.
    """
    model, layer, head = family_named(name).hooked, 1, 2
    states = reads(model, layer, embedding == "effective")
    others = torch.arange(30, 40)
    found = {
        token: ov_promoted(model, layer, head, token, k=120, embedding=embedding)  # type: ignore[arg-type]
        for token in (TOKEN, 40)
    }
    _, cache = model.run_with_cache(
        torch.zeros(2, 1, dtype=torch.long),
        start_at_layer=layer,
        resid=states[[TOKEN, 40]][:, None],
        attention_mask=torch.ones(2, 1, dtype=torch.long),
    )
    written = cache["head_out", layer][:, 0, head]
    block = model.hf_model.get_submodule(f"{model.spec.blocks}.{layer}")
    if name == "gemma2":
        written = written * (1 + block.post_attention_layernorm.weight)
    if name == "olmo2":
        written = written * block.post_attention_layernorm.weight
    norm = fold_of(model.hf_model.get_submodule(model.spec.final[-1]), model.cfg.d_model)
    logits = centred(norm.apply(written) @ model.W_U, 1)
    ours = {
        token: dict(zip(one.promoted_ids.tolist(), one.promoted_logits, strict=True))
        for token, one in found.items()
    }
    difference = [ours[TOKEN][i] - ours[40][i] for i in others.tolist()]
    np.testing.assert_allclose(difference, (logits[0] - logits[1])[others].numpy(), atol=2e-4)
    one = found[TOKEN]
    assert one.own_rank == 1 + one.promoted_ids.tolist().index(TOKEN)
    assert one.promoted_logits[0] == pytest.approx(max(one.promoted_logits))
    assert one.suppressed_ids[0] == one.promoted_ids[-1]
    assert len(one.to_frame()) == 240


@pytest.mark.parametrize("name", [*KINDS, "bloom", "opt", "gpt_neo", "phi"])
def test_qk_is_the_models_own_score(family_named: Any, name: str) -> None:
    """Forbids a forgotten bias, k-norm or scale: against the score of a token with itself."""
    model, layer, head = family_named(name).hooked, 2, 3
    found = qk_attended(model, layer, head, TOKEN, k=5, embedding="W_E")
    states = reads(model, layer, effective=False)[TOKEN]
    _, cache = model.run_with_cache(
        torch.zeros(1, 1, dtype=torch.long),
        start_at_layer=layer,
        resid=states[None, None],
        attention_mask=torch.ones(1, 1, dtype=torch.long),
    )
    assert found.own_score == pytest.approx(float(cache["scores", layer][0, head, 0, 0]), abs=1e-3)
    assert list(found.attended_scores) == sorted(found.attended_scores, reverse=True)
    assert found.attended_scores[0] >= found.mean_score >= found.avoided_scores[0]
    assert len(found.to_frame()) == 10


def test_qk_ranks_keys_as_a_run_does(gpt2: Any) -> None:
    """Forbids queries in the place of keys: a run of layer 0 without positions, key by key."""
    model = gpt2.hooked
    found = qk_attended(model, 0, 1, TOKEN, k=120)
    pairs = torch.stack([torch.arange(120), torch.full((120,), TOKEN)], dim=1)
    _, cache = model.run_with_cache(pairs, "scores", [set_to("pos_embed", None, 0.0)])
    scores = cache["scores", 0][:, 1, 1, 0]
    ours = dict(zip(found.attended_ids.tolist(), found.attended_scores, strict=True))
    np.testing.assert_allclose([ours[i] for i in range(120)], scores.numpy(), atol=1e-4)
    assert found.embedding == "W_E"  # nothing comes before layer 0


def test_copying_direct_counts_ranks(llama: Any, monkeypatch: Any) -> None:
    """Forbids shares that depend on the chunks, or count a tie as a win."""
    model = llama.hooked
    monkeypatch.setattr("lens_core.attention.copying._BLOCK_NUMBERS", 120 * 7)
    ids = [3, 5, 8, 13, 21, 34, 55, 89, 90, 91]
    found = copying_direct(model, ids, heads=[(1, 2), (2, 0)])
    for layer, head in ((1, 2), (2, 0)):
        ranks = [ov_promoted(model, layer, head, i, k=1).own_rank for i in ids]
        assert found.top1[layer, head] == np.mean([rank <= 1 for rank in ranks])
        assert found.top5[layer, head] == np.mean([rank <= 5 for rank in ranks])
    assert np.isnan(found.top1[0, 0])
    with torch.no_grad():
        kept = model.W_O[0].clone()
        model.W_O[0].zero_()
        nothing = copying_direct(model, ids, heads=[(0, 0)])
        model.W_O[0].copy_(kept)
    assert nothing.top5[0, 0] == 0.0


def test_the_shipped_models_induction_head_copies(tiny_world: HookedModel) -> None:
    """Forbids a lab in which the best-known fact about induction heads does not come out."""
    found = copying_eigenvalues(tiny_world)
    assert found.score[4, 7] > 0.9
    assert found.embedding == "effective"
    paris = ov_promoted(tiny_world, 4, 7, " Paris")
    assert paris.own_rank == 1
    assert paris.promoted[0] == " Paris"


def test_edits_around_the_call_are_no_part_of_the_weights(gpt2: Any) -> None:
    """Forbids circuits that change, or fail, inside a block that edits runs."""
    model = gpt2.hooked
    plain = (copying_eigenvalues(model).score, qk_attended(model, 1, 0, TOKEN).attended_scores)
    with model.interventions(zero("mlp_out", 0), zero("z", 2)):
        inside = (copying_eigenvalues(model).score, qk_attended(model, 1, 0, TOKEN).attended_scores)
    for one, other in zip(plain, inside, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_there(tiny_world: HookedModel) -> None:
    """Forbids an IndexError in front of a learner."""
    with pytest.raises(UnknownSiteError):
        ov_promoted(tiny_world, 0, 8, " Paris")
    with pytest.raises(UnknownSiteError):
        qk_attended(tiny_world, 9, 0, " Paris")
    with pytest.raises(TokenError):
        ov_promoted(tiny_world, 0, 0, "several words here")
    with pytest.raises(TokenError):
        copying_direct(tiny_world, [99999])

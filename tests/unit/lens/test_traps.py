"""Numerical traps of lenses, 1 to 12: which state, in which basis, through which head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from lens_core import HookedModel
from lens_core.interventions import zero
from lens_core.lens import TunedLens, depth_of, read_lens
from lens_core.lens.arithmetic import cell_arithmetic
from lens_core.lens.formats.jacobians import jacobian_lens_of
from lens_core.lens.head import head_logits
from lens_core.lens.statistics import kl_nats
from lens_core.lens.training.objective import OwnHead, training_head
from lens_core.model.cache import ActivationCache
from lens_core.model.errors import UnknownSiteError
from lens_core.model.spec import module_at
from tests.conftest import Family

Models = Callable[[str], HookedModel]
Families = Callable[[str], Family]

FAMILIES = ("gpt2", "llama", "gemma2", "cohere2", "gptj", "gpt_neox")
PROMPT = "The cat sat."


def states_of(model: HookedModel, tokens: Tensor) -> tuple[Tensor, ActivationCache]:
    """Logits and every site."""
    with torch.no_grad():
        return model.run_with_cache(tokens)


def last_of(model: HookedModel, cache: ActivationCache) -> Tensor:
    """The state after the last block."""
    return cache["resid_post", model.cfg.n_layers - 1]


def kl_of(p_logits: Tensor, q_logits: Tensor) -> float:
    """Mean KL between two heads' distributions."""
    p_log, q_log = p_logits.detach().log_softmax(-1), q_logits.detach().log_softmax(-1)
    return float(kl_nats(p_log, q_log).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_trap_01_last_row_identity(random_model: Models, family: str) -> None:
    """Forbids the double norm: the last of Hugging Face's hidden states has had its norm."""
    model = random_model(family)
    tokens = model.to_tokens(PROMPT)
    with torch.no_grad():
        theirs = model.hf_model(tokens, output_hidden_states=True)
    own = last_of(model, states_of(model, tokens)[1])
    scale = theirs.logits.abs().max()
    ours = head_logits(model, own)
    assert (ours - theirs.logits).abs().max() <= 1e-4 * scale
    assert torch.equal(ours.argmax(-1), theirs.logits.argmax(-1))
    normed = theirs.hidden_states[-1]
    torch.testing.assert_close(model.ln_final(own), normed)
    twice = head_logits(model, normed)
    assert (twice - theirs.logits).abs().max() > 1e-2 * scale


def test_trap_01_last_row_identity_in_bf16(random_model: Models) -> None:
    """Forbids judging half precision by fp32's numbers: its own head is what it is held to."""
    whole = random_model("gpt2")
    hf_model = copy.deepcopy(whole.hf_model).to(torch.bfloat16)
    half = HookedModel.from_hf(hf_model, whole.tokenizer, name="half", check=False)
    logits, cache = states_of(half, half.to_tokens(PROMPT))
    ours = head_logits(half, last_of(half, cache))
    torch.testing.assert_close(ours, logits.float(), rtol=2e-2, atol=2e-2)
    assert torch.equal(ours.argmax(-1), logits.argmax(-1))


def test_trap_02_basis(gpt2: HookedModel) -> None:
    """Forbids centred or folded weights, in whose basis a trained lens says something else."""
    tokens = gpt2.to_tokens(PROMPT)
    _, cache = states_of(gpt2, tokens)
    with torch.no_grad():
        hidden = gpt2.hf_model(tokens, output_hidden_states=True).hidden_states
    h = cache["resid_pre", 1]
    torch.testing.assert_close(h, hidden[1])
    assert gpt2.W_U.data_ptr() == gpt2.hf_model.lm_head.weight.data_ptr()
    centred = h - h.mean(-1, keepdim=True)
    assert not torch.allclose(centred, h, atol=1e-3)
    torch.testing.assert_close(
        head_logits(gpt2, centred), head_logits(gpt2, h), rtol=1e-4, atol=1e-4
    )
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 32, 32, generator=generator)
    lens = TunedLens(weight, torch.zeros(3, 32))
    raw, moved = (head_logits(gpt2, lens.carry(gpt2, x, 1)) for x in (h, centred))
    assert kl_of(raw, moved) > 1e-3


def test_trap_03_ln_folding(gpt2: HookedModel) -> None:
    """Forbids the norm's gain taken twice, and its bias lost, where weights are folded."""
    logits, cache = states_of(gpt2, gpt2.to_tokens(PROMPT))
    h, norm = last_of(gpt2, cache), gpt2.hf_model.transformer.ln_f
    bare = (h - h.mean(-1, keepdim=True)) / cache["ln_final_scale"]
    folded, b_folded = norm.weight[:, None] * gpt2.W_U, norm.bias @ gpt2.W_U
    torch.testing.assert_close(bare @ folded + b_folded, logits, rtol=1e-4, atol=1e-4)
    ours = gpt2.ln_final(h) @ gpt2.W_U + gpt2.b_U
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert kl_of(logits, gpt2.ln_final(h) @ folded + b_folded) > 1e-2
    assert kl_of(logits, bare @ folded) > 1e-2


def test_trap_04_norm_statistics(random_model: Models) -> None:
    """Forbids a lens that freezes the last state's scale: small early states look undecided."""
    model = random_model("llama")
    tokens = model.to_tokens(PROMPT)
    _, cache = states_of(model, tokens)
    lens = read_lens(model, tokens)
    gain = module_at(model.hf_model, model.spec.final[-1]).weight
    # Early states of trained models are many times smaller than the last one.
    early = 0.05 * cache["resid_pre", 0][0]
    frozen = (early / cache["ln_final_scale"][0] * gain) @ model.W_U
    undecided = np.log(model.cfg.d_vocab)
    entropies = [
        torch.distributions.Categorical(logits=x.detach()).entropy().numpy()
        for x in (frozen, head_logits(model, early))
    ]
    assert (entropies[0] > 0.95 * undecided).all()
    assert (entropies[1] < 0.85 * undecided).all()
    np.testing.assert_allclose(lens.entropy_nats[0], entropies[1], rtol=2e-2)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_trap_05_dla_completeness(random_model: Models, family: str) -> None:
    """Forbids an attribution whose parts do not add up to the logit: each term left out is seen."""
    model = random_model(family)
    logits, cache = states_of(model, model.to_tokens(PROMPT))
    token = int(logits[0, -1].argmax())
    parts = [cache[s] for s in ("embed", "pos_embed") if s in model.sites]
    parts += [cache[s, n] for n in range(model.cfg.n_layers) for s in ("attn_out", "mlp_out")]
    stacked = torch.stack([part[0, -1] for part in parts])
    norm = module_at(model.hf_model, model.spec.final[-1])
    row = model.W_U[:, token].detach()
    direction = norm.weight.detach() * row / cache["ln_final_scale"][0, -1]
    has_mean = model.cfg.norm_kind == "LayerNorm"
    centred = stacked - stacked.mean(-1, keepdim=True) if has_mean else stacked
    beta = norm.bias.detach() @ row if has_mean else torch.zeros(())
    bias = float(model.b_U[token].detach())
    total = float((centred @ direction).sum() + beta) + bias
    logit = float(logits[0, -1, token])
    assert total == pytest.approx(logit, rel=1e-4)
    assert abs(float((centred @ direction)[1:].sum() + beta) + bias - logit) > 1e-2
    if has_mean:
        assert abs(float(beta)) > 1e-2
        assert abs(float(((stacked - centred) @ direction).sum())) > 1e-3
    if family == "gptj":
        assert abs(bias) > 1e-3


@pytest.mark.parametrize(
    ("family", "has_bias"),
    [("gptj", True), ("phi", True)] + [(f, False) for f in ("gpt2", "gpt_neox", "opt", "llama")],
)
def test_trap_06_unembedding_bias(family_named: Families, family: str, has_bias: bool) -> None:
    """Forbids a head without the bias that GPT-J and Phi have, or with one where there is none."""
    built = family_named(family)
    model = built.hooked
    logits, cache = states_of(model, built.tokens)
    with torch.no_grad():
        product = model.ln_final(last_of(model, cache)) @ model.W_U
    assert bool(model.b_U.any()) == has_bias
    torch.testing.assert_close(product + model.b_U, logits, rtol=1e-4, atol=1e-4)
    assert (kl_of(logits, product) > 1e-4) == has_bias
    assert read_lens(model, built.tokens[:1]).parity.ok


@pytest.mark.parametrize("family", ["gemma2", "cohere2", "granite"])
def test_trap_07_post_head_transforms(
    random_model: Models, family_named: Families, family: str
) -> None:
    """Forbids a forgotten soft-cap or scale: the best guess stays, the probabilities do not."""
    model = family_named(family).hooked if family == "granite" else random_model(family)
    tokens = torch.tensor([[0, 34, 51, 7, 99]])
    logits, cache = states_of(model, tokens)
    with torch.no_grad():
        product = model.ln_final(last_of(model, cache)) @ model.W_U + model.b_U
    assert torch.equal(product.argmax(-1), logits.argmax(-1))
    assert kl_of(logits, product) > 1e-3
    lens = read_lens(model, tokens)
    assert lens.parity.ok
    np.testing.assert_allclose(lens.kl_nats[-1], 0, atol=1e-4)
    assert isinstance(training_head(model, torch.float32), OwnHead)


def test_trap_07_softcap_is_not_shift_invariant(random_model: Models) -> None:
    """Forbids a centred unembedding under a soft-cap, and a logit said to be the product alone."""
    model, cap = random_model("gemma2"), 5.0
    tokens = model.to_tokens(PROMPT)
    logits, cache = states_of(model, tokens)
    with torch.no_grad():
        product = model.ln_final(last_of(model, cache)) @ model.W_U
    torch.testing.assert_close(cap * torch.tanh(product / cap), logits, rtol=1e-4, atol=1e-4)
    shifted = cap * torch.tanh((product + 1.0) / cap)
    assert kl_of(logits, shifted) > 1e-3
    cell = cell_arithmetic(model, tokens, layer=model.cfg.n_layers - 1)
    assert cell.dot + cell.bias + cell.further == pytest.approx(cell.logit, rel=1e-4)
    assert cap * np.tanh(cell.dot / cap) == pytest.approx(cell.logit, rel=1e-3)
    assert cell.further < -1e-2


def test_trap_08_project_out() -> None:
    """Forbids the unembedding on states of another width: OPT-350m projects, and has no norm."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "opt", hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=64,
        vocab_size=120, max_position_embeddings=64, word_embed_proj_dim=16,
        do_layer_norm_before=False,
    )  # fmt: skip
    hf_model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model = HookedModel.from_hf(hf_model, name="like-opt-350m")
    assert model.cfg.norm_kind == "none"
    assert (model.cfg.d_model, model.W_U.shape[0]) == (32, 16)
    tokens = torch.tensor([[3, 50, 70, 119]])
    assert read_lens(model, tokens).parity.ok
    _, cache = states_of(model, tokens)
    h = cache["resid_pre", 1]
    # Without a norm the length of a state is the confidence of its reading.
    torch.testing.assert_close(head_logits(model, 2 * h), 2 * head_logits(model, h))


@pytest.mark.parametrize("family", ["gptj", "gpt_neox"])
def test_trap_09_parallel_residual(
    random_model: Models, family_named: Families, family: str
) -> None:
    """Forbids "after attention" in parallel blocks, where nothing ever reads such a state."""
    model = random_model(family)
    assert not model.has_site("resid_mid", 0)
    with pytest.raises(UnknownSiteError, match="resid_mid"):
        read_lens(model, PROMPT, site="resid_mid")

    def changes_mlp(model: HookedModel, tokens: Tensor) -> bool:
        _, cache = model.run_with_cache(tokens, [("mlp_out", 1)])
        _, without = model.run_with_cache(tokens, [("mlp_out", 1)], [zero("attn_out", 1)])
        return not torch.equal(cache["mlp_out", 1], without["mlp_out", 1])

    assert not changes_mlp(model, model.to_tokens(PROMPT))
    sequential = family_named("gpt_neox-sequential")
    assert changes_mlp(sequential.hooked, sequential.tokens)
    assert read_lens(sequential.hooked, sequential.tokens[:1], site="resid_mid").parity.ok


def test_trap_10_sandwich_norms(random_model: Models) -> None:
    """Forbids attributing what Gemma's sublayers say before their post-norm, which nobody adds."""
    model = random_model("gemma2")
    block = model.hf_model.model.layers[1]
    bare: dict[str, Tensor] = {}
    hooks = [
        block.self_attn.o_proj.register_forward_hook(lambda m, a, out: bare.update(attn_out=out)),
        block.mlp.down_proj.register_forward_hook(lambda m, a, out: bare.update(mlp_out=out)),
    ]
    _, cache = states_of(model, model.to_tokens(PROMPT))
    for hook in hooks:
        hook.remove()
    for site, norm, before, after in (
        ("attn_out", block.post_attention_layernorm, "resid_pre", "resid_mid"),
        ("mlp_out", block.post_feedforward_layernorm, "resid_mid", "resid_post"),
    ):
        torch.testing.assert_close(cache[before, 1] + cache[site, 1], cache[after, 1])
        torch.testing.assert_close(norm(bare[site]), cache[site, 1])
        assert not torch.allclose(bare[site], cache[site, 1], rtol=0.1, atol=1e-2)


def test_trap_11_embedding_row(random_model: Models) -> None:
    """Forbids an embedding row without positions or Gemma's factor; tied heads echo there."""
    gpt2, gemma2, llama = (random_model(f) for f in ("gpt2", "gemma2", "llama"))
    tokens = gpt2.to_tokens(PROMPT)
    wte, wpe = gpt2.W_E[tokens[0]], gpt2.W_pos[: tokens.shape[1]]
    rows = {model.cfg.name: read_lens(model, tokens) for model in (gpt2, gemma2, llama)}
    found = rows[gpt2.cfg.name].state_norms[0]
    np.testing.assert_allclose(found, (wte + wpe).norm(dim=-1).detach(), rtol=1e-5)
    assert not np.allclose(found, wte.norm(dim=-1).detach(), rtol=1e-3)
    scaled = gemma2.W_E[tokens[0]].norm(dim=-1).detach() * gemma2.cfg.d_model**0.5
    np.testing.assert_allclose(rows[gemma2.cfg.name].state_norms[0], scaled, rtol=1e-3)
    assert gpt2.W_E.data_ptr() == gpt2.W_U.data_ptr()
    assert llama.W_E.data_ptr() != llama.W_U.data_ptr()
    assert rows[gpt2.cfg.name].echoes[0].mean() > 0.8
    assert rows[llama.cfg.name].echoes[0].mean() < 0.2


def test_trap_12_index_conventions(gpt2: HookedModel) -> None:
    """Forbids a translator or matrix that is used one block off."""
    tokens = gpt2.to_tokens(PROMPT)
    _, cache = states_of(gpt2, tokens)
    with torch.no_grad():
        hidden = gpt2.hf_model(tokens, output_hidden_states=True).hidden_states
    n_layers = gpt2.cfg.n_layers
    for n in range(n_layers):
        torch.testing.assert_close(cache["resid_pre", n], hidden[n])
        assert depth_of("resid_pre", n) == n
        assert depth_of("resid_post", n) == n + 1
        if n + 1 < n_layers:
            assert torch.equal(cache["resid_post", n], cache["resid_pre", n + 1])
    bias = torch.zeros(n_layers, 32)
    bias[1] = torch.randn(32, generator=torch.Generator().manual_seed(0))
    plain, moved = read_lens(gpt2, tokens), read_lens(gpt2, tokens, TunedLens(None, bias))
    differs = [not np.array_equal(a, b) for a, b in zip(plain.kl_nats, moved.kl_nats, strict=True)]
    # Translator 1 reads the input of block 1, which is the output of block 0.
    assert [n for n, d in zip(plain.row_layers, differs, strict=True) if d] == [0]
    matrices = {n: torch.full((32, 32), float(n)) for n in range(n_layers - 1)}
    lens = jacobian_lens_of({"J": matrices}, Path("lens.pt"), n_layers)
    assert sorted(lens.jacobians) == [1, 2]
    assert float(lens.jacobians[depth_of("resid_post", 1)][0, 0]) == 1.0

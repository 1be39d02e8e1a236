"""Numerical traps of lenses, 13 to 23: figures, tokens, training and identity."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from lens_core import HookedModel
from lens_core.lens import LensMismatchError, TunedLens, read_lens
from lens_core.lens.corpus import read_corpus, split_rows
from lens_core.lens.head import head_logits
from lens_core.lens.identity import weights_sha256
from lens_core.lens.statistics import Final, kl_nats, ranks_of, reduce_logits
from lens_core.lens.training import JacobianRecipe, TunedRecipe, train_tuned
from lens_core.lens.training.objective import PlainHead, head_losses
from lens_core.lens.training.optimizers import clip_gradients
from lens_core.lens.training.provenance import translator_figures
from lens_core.lens.training.states import counted_positions
from lens_core.model.errors import TokenError
from lens_core.model.spec import module_at
from lens_core.plots.quantities import QUANTITIES
from tests.conftest import Family
from tests.unit.lens.training_helpers import drifted_model, random_rows

Models = Callable[[str], HookedModel]
Families = Callable[[str], Family]

PROMPT = "The cat sat."
SHORT = TunedRecipe(steps=2, tokens_per_step=64, held_out_tokens=32, dtype="float32")


def with_bos(model: HookedModel) -> HookedModel:
    """The same model, given BOS before every prompt."""
    given = copy.copy(model)
    given.default_prepend_bos = True
    return given


def half_of(model: HookedModel, dtype: torch.dtype) -> HookedModel:
    """A copy in half precision."""
    hf_model = copy.deepcopy(model.hf_model).to(dtype)
    return HookedModel.from_hf(hf_model, model.tokenizer, name="half", check=False)


def test_trap_13_bos_and_sinks(gpt2: HookedModel) -> None:
    """Forbids the first position, of another size and without meaning, in losses and colours."""
    model = with_bos(gpt2)
    tokens = model.to_tokens(PROMPT)
    tokens[0, 5] = model.bos_id
    assert counted_positions(model, tokens)[0].tolist() == [
        i not in (0, 5) for i in range(tokens.shape[1])
    ]
    assert not counted_positions(gpt2, torch.tensor([[7, 8]]))[0, 0]
    assert JacobianRecipe().skip_first == 16
    rows = read_corpus(["abc " * 20, "cab " * 20, "bca " * 30], model, n_ctx=16)
    assert (rows.tokens[:, 0] == model.bos_id).all()
    recipe = replace(SHORT, steps=1, held_out=0.4)
    for one, begins in ((model, True), (gpt2, False)):
        assert train_tuned(one, rows, recipe).lens.provenance["prepended_bos"] is begins
    lens = read_lens(model, PROMPT)
    spoilt = replace(lens, **{f: _spoilt(getattr(lens, f)) for f in ("kl_nats", "entropy_nats")})
    for quantity in (QUANTITIES["KL"], QUANTITIES["entropy"]):
        shades = [quantity.shade(quantity.of(x), lens.d_vocab)[:, 1:] for x in (lens, spoilt)]
        np.testing.assert_array_equal(*shades)
    assert lens.summary().drop(0).equals(spoilt.summary().drop(0))


def _spoilt(figures: np.ndarray) -> np.ndarray:
    changed = figures.copy()
    changed[:, 0] = 1e4
    return changed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trap_14_dtype(random_model: Models, dtype: torch.dtype) -> None:
    """Forbids probabilities, ranks and translators in half precision: underflow, ties."""
    model = half_of(random_model("gpt2"), dtype)
    _, cache = model.run_with_cache(PROMPT, [("resid_post", 1)])
    state = cache["resid_post", 1]
    assert (state.dtype, head_logits(model, state).dtype) == (dtype, torch.float32)
    unlikely = torch.tensor([[0.0, -20.0, -20.001]])
    assert unlikely.to(torch.float16).softmax(-1)[0, 1] == 0
    row = reduce_logits(unlikely, Final.of(unlikely, torch.tensor([0])), top_k=3, target_ids=[1, 2])
    assert row.target_logprobs[0, 0] == pytest.approx(-20.0, abs=1e-4)
    assert row.target_ranks.tolist() == [[2, 3]]
    rounded = unlikely.to(dtype).float()
    assert ranks_of(rounded, rounded[:, 2]).tolist() == [2]  # a tie has the better rank
    small = torch.full((3, 32), 1e-5)
    moved = TunedLens(None, small).carry(model, torch.ones(1, 1, 32, dtype=dtype), 0)
    assert moved.dtype == torch.float32
    assert (moved > 1).all()
    assert (torch.ones(32, dtype=dtype) + small[0].to(dtype) == 1).all()


def test_trap_15_kl_direction_and_units(gpt2: HookedModel) -> None:
    """Forbids KL turned round, bits called nats, and a JS or TV above what they can be."""
    p, q = torch.tensor([[0.5, 0.5, 1e-30]]), torch.tensor([[0.25, 0.25, 0.5]])
    row = reduce_logits(q.log(), Final.of(p.log(), torch.tensor([0])), top_k=1, target_ids=[])
    assert float(row.kl_nats) == pytest.approx(math.log(2))  # the model first; one bit
    assert float(row.kl_reverse_nats) > 10
    apart = torch.tensor([[60.0, 0.0, 0.0], [0.0, 60.0, 0.0]])
    far = reduce_logits(
        apart, Final.of(apart.flip(0), torch.tensor([0, 1])), top_k=1, target_ids=[]
    )
    assert (far.js_nats <= math.log(2) + 1e-6).all()
    assert (far.js_nats > math.log(2) - 1e-3).all()
    assert (far.total_variation <= 1 + 1e-6).all()
    states = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    head = PlainHead(gpt2.W_U.detach(), gpt2.b_U.detach(), torch.float32)
    loss, _ = head.loss_and_gradient(states[1], head.of_model(states[0]))
    model_log, lens_log = ((s @ gpt2.W_U).detach().log_softmax(-1) for s in states)
    torch.testing.assert_close(loss, kl_nats(model_log, lens_log), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(loss, kl_nats(lens_log, model_log), rtol=1e-2)
    rows = read_corpus(["abcdef " * 20], gpt2, n_ctx=16)  # a byte a token, and a separator
    assert rows.nats_to_bits_per_byte == pytest.approx(141 / 140 / math.log(2))
    lens = read_lens(gpt2, PROMPT)
    below = replace(lens, kl_nats=lens.kl_nats - 1e-7 - lens.kl_nats[-1:])
    assert (below.kl_nats[-1] < 0).all()
    assert (QUANTITIES["KL"].of(below) >= 0).all()


def test_trap_16_vocabulary_padding(gpt2: HookedModel) -> None:
    """Forbids dropping the head's rows that have no token, or showing them as empty text."""
    n_named = len(gpt2.tokenizer)
    assert n_named < gpt2.cfg.d_vocab
    lens = read_lens(gpt2, PROMPT, top_k=gpt2.cfg.d_vocab)
    np.testing.assert_allclose(lens.top_probs.sum(-1), 1, rtol=1e-4)
    named = np.where(lens.top_ids < n_named, lens.top_probs, 0).sum(-1)
    assert (named < 1 - 1e-5).all()
    logprobs = gpt2.run(PROMPT)[0].log_softmax(-1)
    np.testing.assert_allclose(
        lens.top_logprobs[-1], logprobs.sort(descending=True).values.numpy(force=True), atol=1e-4
    )
    assert lens.texts[n_named] == f"id:{n_named}"
    assert len({lens.texts[i] for i in range(n_named, gpt2.cfg.d_vocab)}) == 300 - n_named


def test_trap_17_multi_token_targets(gpt2: HookedModel) -> None:
    """Forbids following the first piece of a word as if it were the word."""
    with pytest.raises(TokenError, match=r"' a' is 2 tokens .* not one; many words need a space"):
        read_lens(gpt2, PROMPT, targets=[" a"])
    with pytest.raises(TokenError, match="'Paris' is 5 tokens"):
        read_lens(gpt2, PROMPT, targets=["Paris"])
    assert read_lens(gpt2, PROMPT, targets=["a"]).target_ids == (gpt2.to_single_token("a"),)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gptj", "gpt_neox", "bloom"])
def test_trap_18_blocks_return_tensors(family_named: Families, family: str) -> None:
    """Forbids ``out[0]`` of a block that returns no tuple: it is the first prompt of the batch."""
    built = family_named(family)
    model, tokens = built.hooked, built.tokens
    kinds: set[type] = set()
    block = module_at(built.plain, f"{model.spec.blocks}.1")
    hook = block.register_forward_hook(lambda m, a, out: kinds.add(type(out)))
    with torch.no_grad():
        built.plain(tokens)
    hook.remove()
    if family in ("gpt2", "llama", "gemma2", "gpt_neox"):
        assert kinds == {Tensor}
    _, both = model.run_with_cache(tokens, ["resid_post"])
    for n in range(model.cfg.n_layers):
        assert both["resid_post", n].shape == (2, 9, model.cfg.d_model)
    for i in range(2):
        _, alone = model.run_with_cache(tokens[i : i + 1], ["resid_post"])
        torch.testing.assert_close(both["resid_post", 1][i : i + 1], alone["resid_post", 1])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_trap_19_generation_feeds_only_the_new_token(family_named: Families, family: str) -> None:
    """Forbids the whole text fed again beside a key-value cache that already holds it."""
    built = family_named(family)
    model, prompt = built.hooked, built.tokens[:1]
    fed: list[int] = []
    hook = model.hf_model.get_input_embeddings().register_forward_pre_hook(
        lambda m, args: fed.append(args[0].shape[1])
    )
    made = model.generate(prompt, max_new_tokens=4)
    hook.remove()
    assert fed == [prompt.shape[1], 1, 1, 1]
    full = prompt
    for _ in range(4):
        best = model.run(full)[:, -1].argmax(-1)
        full = torch.cat([full, best[:, None]], dim=1)
    assert torch.equal(made, full)


def test_trap_20_training_leaks() -> None:
    """Forbids dropout, a gradient through the target, shared documents and a coupled clip."""
    config = GPT2Config(
        vocab_size=90,
        n_embd=24,
        n_layer=2,
        n_head=2,
        n_positions=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = HookedModel.from_hf(GPT2LMHeadModel(config).train(), check=False)
    assert not any(module.training for module in model.hf_model.modules())
    assert torch.equal(model.run(torch.arange(9)[None]), model.run(torch.arange(9)[None]))
    model = drifted_model()
    head = PlainHead(model.W_U, model.b_U, torch.float32)
    state, final = torch.randn(2, 3, 24).requires_grad_().unbind()
    loss = head_losses(head, state, head.of_model(final)).sum()
    slopes = torch.autograd.grad(loss, [state, final], allow_unused=True)
    assert slopes[0].abs().max() > 0
    assert slopes[1] is None
    train, held = split_rows(random_rows(12), 0.25)
    assert set(train.documents.tolist()).isdisjoint(held.documents.tolist())
    big, small = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    after = []
    for groups in ([[big], [small]], [[big, small]]):
        big.grad, small.grad = torch.full((2,), 1e3), torch.full((2,), 0.5)
        clip_gradients(groups, 1.0)
        after.append(float(small.grad[0]))
    assert SHORT.clip_over == "depth"
    assert after[0] == pytest.approx(0.5)
    assert after[1] < 1e-3
    before = weights_sha256(model)
    plain = train_tuned(model, train, SHORT, held_out=held).lens
    with torch.autocast("cpu", torch.bfloat16):
        inside = train_tuned(model, train, SHORT, held_out=held).lens
    assert torch.equal(plain.bias, inside.bias)
    assert plain.bias.any()
    assert weights_sha256(model) == before
    assert all(p.grad is None for p in model.hf_model.parameters())


def test_trap_21_translator_conditioning() -> None:
    """Forbids a lens that hides one outlier dimension behind a healthy average."""
    weight = torch.zeros(2, 8, 8)
    weight[1, 3, 3] = 99.0
    weight[1, 5, 5] = -0.9
    figures = translator_figures(weight, torch.ones(2, 8))
    assert figures["weight_norm"] == pytest.approx([0.0, math.hypot(99.0, 0.9)])
    assert figures["spectral_norm"] == pytest.approx([0.0, 99.0])
    assert figures["condition"] == pytest.approx([1.0, 1000.0], rel=1e-3)
    assert figures["bias_norm"] == pytest.approx([math.sqrt(8)] * 2)
    trained = train_tuned(drifted_model(), random_rows(12), SHORT).lens
    assert set(figures) <= set(trained.provenance)
    assert len(trained.provenance["condition"]) == 2


def test_trap_22_padding(gpt2: HookedModel) -> None:
    """Forbids pads that shift the positions of a prompt, or that are counted as its tokens."""
    batch = gpt2.to_tokens([PROMPT, "A much longer prompt than that."])
    n_pads = int((batch[0] == gpt2.pad_id).sum())
    assert n_pads > 0
    padded, alone = (
        read_lens(gpt2, batch[:1], targets=["a"]),
        read_lens(gpt2, PROMPT, targets=["a"]),
    )
    for field in fields(alone):
        ours, theirs = getattr(padded, field.name), getattr(alone, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=field.name)
    unmasked = gpt2.run(batch[:1], attention_mask=torch.ones_like(batch[:1]))[:, n_pads:]
    assert not torch.allclose(unmasked, gpt2.run(PROMPT), atol=1e-2)
    rows = read_corpus(["abc " * 9, "de " * 30], gpt2, n_ctx=16)
    assert not (rows.tokens == gpt2.pad_id).any()


def test_trap_23_hash() -> None:
    """Forbids a hash that sees neither dtype nor the last bit, and a lens of other weights."""
    model, other = drifted_model(0), drifted_model(0)
    assert weights_sha256(model) == weights_sha256(other)
    with torch.no_grad():
        last = other.hf_model.transformer.ln_f.weight[-1:]
        last.copy_(torch.nextafter(last, last + 1))
    assert weights_sha256(model) != weights_sha256(other)
    half = half_of(model, torch.float16)
    assert weights_sha256(half) != weights_sha256(model)
    lens = TunedLens(None, torch.zeros(2, 24), "drifted", {"weights_sha256": weights_sha256(model)})
    tokens = torch.tensor([[3, 4]])
    assert read_lens(model, tokens, lens).parity.ok
    with pytest.raises(LensMismatchError, match="has the same shape but the weights"):
        read_lens(other, tokens, lens)

"""The logit lens against a plain reference, its identities, and its refusals."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lens_core.lens import read_lens
from lens_core.lens.statistics import Final, kl_nats, reduce_logits
from lens_core.model.errors import (
    EmptyPromptError,
    PromptTooLongError,
    TokenError,
    UnknownSiteError,
)

# The package gives its function the name of this module.
module = sys.modules["lens_core.lens.read"]
head = sys.modules["lens_core.lens.head"]
FAMILIES = ("gpt2", "llama", "gemma2", "cohere2", "gptj", "gpt_neox")
PROMPT = "The cat sat."


@pytest.fixture(scope="module")
def reference(random_model):
    """Log-probabilities of every state of GPT-2, [row, pos, vocabulary], by Hugging Face alone."""
    model = random_model("gpt2")
    tokens = model.to_tokens(PROMPT)
    states = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        for block in model.hf_model.transformer.h
    ]
    # The last block's output is what the final norm is given.
    hooks.append(
        model.hf_model.transformer.ln_f.register_forward_pre_hook(
            lambda _, args: states.append(args[0])
        )
    )
    with torch.no_grad():
        model.hf_model(tokens)
        for hook in hooks:
            hook.remove()
        heads = [model.hf_model.lm_head(model.hf_model.transformer.ln_f(s))[0] for s in states]
    return torch.log_softmax(torch.stack(heads), -1).numpy()


def test_every_statistic_equals_the_reference(gpt2, reference):
    """Forbids a wrong row order, a double final norm, KL turned round, ranks that count from 0."""
    lens = read_lens(gpt2, PROMPT, top_k=7, targets=[5, "a"])
    final = reference[-1]
    answers = final.argmax(-1)
    assert lens.row_layers == (-1, 0, 1, 2)
    assert lens.row_labels == ("embed", "0", "1", "2")
    np.testing.assert_array_equal(lens.final_ids, answers)
    np.testing.assert_array_equal(lens.top_ids, np.argsort(-reference, -1)[..., :7])
    np.testing.assert_allclose(lens.top_logprobs, -np.sort(-reference, -1)[..., :7], atol=1e-5)
    entropy = -(np.exp(reference) * reference).sum(-1)
    np.testing.assert_allclose(lens.entropy_nats, entropy, atol=1e-5)
    kl = (np.exp(final) * (final - reference)).sum(-1)
    np.testing.assert_allclose(lens.kl_nats, kl, atol=1e-5)
    at_answer = np.take_along_axis(reference, answers[None, :, None], -1)
    np.testing.assert_allclose(lens.final_logprobs, at_answer[..., 0], atol=1e-5)
    np.testing.assert_array_equal(lens.final_ranks, 1 + (reference > at_answer).sum(-1))
    assert lens.target_ids == (5, gpt2.to_single_token("a"))
    for j, target in enumerate(lens.target_ids):
        of_target = reference[:, :, target]
        np.testing.assert_allclose(lens.target_logprobs[:, :, j], of_target, atol=1e-5)
        ranks = 1 + (reference > of_target[..., None]).sum(-1)
        np.testing.assert_array_equal(lens.target_ranks[:, :, j], ranks)


@pytest.mark.parametrize("family", FAMILIES)
def test_last_row_is_the_models_own_output(random_model, family):
    """Forbids a head without its soft-cap, scale or bias, and the norm applied twice or never."""
    model = random_model(family)
    lens = read_lens(model, PROMPT)
    assert lens.parity.ok, lens.parity
    assert lens.parity.n_positions == len(lens.tokens)
    np.testing.assert_allclose(lens.kl_nats[-1], 0, atol=1e-4)
    assert (lens.final_ranks[-1] == 1).all()
    np.testing.assert_array_equal(lens.top_ids[-1, :, 0], lens.final_ids)
    logprobs = torch.log_softmax(model.run(PROMPT)[0].float(), -1)
    np.testing.assert_allclose(
        lens.top_logprobs[-1, :, 0], logprobs.max(-1).values.numpy(force=True), atol=1e-4
    )


def test_parity_sees_a_broken_head(gpt2, monkeypatch):
    """Forbids a parity badge that is green whatever the head does."""
    monkeypatch.setattr(module, "head_logits", lambda model, states: model.unembed(states[None])[0])
    assert not read_lens(gpt2, PROMPT).parity.ok


@pytest.mark.parametrize("numbers", [1, 700, 10**9])
def test_chunks_do_not_change_the_result(gpt2, monkeypatch, numbers):
    """Forbids losing, repeating or shifting positions where a long prompt is read in pieces."""
    whole = read_lens(gpt2, PROMPT, targets=[3])
    monkeypatch.setattr(head, "CHUNK_NUMBERS", numbers)
    pieces = read_lens(gpt2, PROMPT, targets=[3])
    for field in ("top_ids", "final_ranks", "target_ranks", "tracked_ids"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(pieces, field))
    for field in ("top_logprobs", "entropy_nats", "kl_nats", "tracked_logprobs", "target_logprobs"):
        np.testing.assert_allclose(getattr(whole, field), getattr(pieces, field), atol=1e-5)


def test_full_vocabulary_is_never_made_for_more_than_a_chunk(gpt2, monkeypatch):
    """Forbids layers x tokens x vocabulary at once: gigabytes on a real vocabulary."""
    seen, whole = [], module.head_logits

    def spy(model, states):
        seen.append(states.shape[0])
        return whole(model, states)

    monkeypatch.setattr(module, "head_logits", spy)
    monkeypatch.setattr(head, "CHUNK_NUMBERS", 2 * gpt2.cfg.d_vocab)
    read_lens(gpt2, PROMPT)
    assert max(seen) == 2


def test_tracked_tokens_are_the_best_guesses_of_their_column(gpt2, reference):
    """Forbids a trajectory of the wrong token, position or row, and a column without its answer."""
    lens = read_lens(gpt2, PROMPT, n_tracked=3)
    for t in range(len(lens.tokens)):
        ids = [i for i in lens.tracked_ids[t] if i >= 0]
        best = reference[:, t].argmax(-1)
        assert ids[0] == lens.final_ids[t]
        assert set(ids) <= set(best)
        assert len(ids) == min(3, len(set(best)))
        for token_id, probs in lens.trajectories(t).items():
            np.testing.assert_allclose(probs, np.exp(reference[:, t, token_id]), atol=1e-5)


def test_first_hit_and_prediction_depth(gpt2):
    """Forbids naming the row index as the block, and counting a lead that is lost again."""
    lens = read_lens(gpt2, PROMPT)
    tops, answer = lens.top_ids.copy(), int(lens.final_ids[1])
    tops[:, 1, 0] = [answer, answer + 1, answer, answer]
    patched = replace(lens, top_ids=tops)
    assert (patched.first_hit(1), patched.prediction_depth(1)) == (-1, 1)
    tops[:, 1, 0] = answer + 1
    patched = replace(lens, top_ids=tops)
    assert (patched.first_hit(1), patched.prediction_depth(1)) == (None, None)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "attn_out", "mlp_out"])
def test_other_sites_have_one_row_a_block(gpt2, site):
    """Forbids an embedding row where there is none, and parity judged on a row that has none."""
    lens = read_lens(gpt2, PROMPT, site=site)
    assert lens.row_layers == (0, 1, 2)
    assert lens.parity.ok
    _, cache = gpt2.run_with_cache(PROMPT, names=[site])
    top = gpt2.unembed(gpt2.ln_final(cache[site, 1]))[0].argmax(-1)
    np.testing.assert_array_equal(lens.top_ids[1, :, 0], top.numpy(force=True))


def test_ties_share_the_better_rank():
    """Forbids ranks from a sort, which order equal tokens by chance (half precision ties often)."""
    final = Final.of(torch.zeros(2, 300), torch.tensor([7, 299]))
    row = reduce_logits(torch.zeros(2, 300), final, top_k=1, target_ids=[250])
    assert row.final_ranks.tolist() == [1, 1]
    assert row.target_ranks.tolist() == [[1], [1]]


def test_impossible_tokens_make_no_nan():
    """Forbids NaN where a masked token has log-probability -inf (0 log 0 is 0)."""
    p = torch.log(torch.tensor([[0.5, 0.5, 0.0]]))
    assert kl_nats(p, p).tolist() == [0.0]
    q = torch.log(torch.tensor([[1.0, 0.0, 0.0]]))
    assert kl_nats(p, q).tolist() == [np.inf]


def test_half_precision_is_reduced_in_single(random_model):
    """Forbids log-probabilities in the model's own half precision, which end at 6e-8 and tie."""
    import copy

    from lens_core import HookedModel

    model = random_model("llama")
    half = HookedModel.from_hf(
        copy.deepcopy(model.hf_model).to(torch.bfloat16), model.tokenizer, name="half"
    )
    lens = read_lens(half, PROMPT)
    assert lens.top_logprobs.dtype == np.float32
    assert np.isfinite(lens.kl_nats).all()
    assert lens.parity.n_same_top1 == lens.parity.n_positions


def test_one_token_prompt_keeps_its_axes(gpt2):
    """Forbids a squeeze that drops the position axis of a prompt of one token."""
    lens = read_lens(gpt2, torch.tensor([[5]]))
    assert lens.top_ids.shape == (4, 1, 10)
    assert len(lens.to_frame()) == 4


def test_frame_has_one_line_a_cell(gpt2):
    """Forbids a table whose lines do not match the grid's cells."""
    lens = read_lens(gpt2, PROMPT, top_k=3, targets=["a"])
    frame = lens.to_frame()
    assert len(frame) == len(lens.row_layers) * len(lens.tokens)
    line = frame[(frame.layer == 1) & (frame.position == 4)].iloc[0]
    assert line.row == "1"
    assert line.token == lens.tokens[4]
    assert line.top2 == lens.texts[int(lens.top_ids[2, 4, 1])]
    assert line.kl_nats == pytest.approx(lens.kl_nats[2, 4])
    assert frame["prob of 'a'"].iloc[0] == pytest.approx(np.exp(lens.target_logprobs[0, 0, 0]))


def test_progress_is_reported_and_can_end_the_work(gpt2):
    """Forbids work that a learner cannot cancel."""
    steps = []
    read_lens(gpt2, PROMPT, on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_lens(gpt2, PROMPT, on_step=stop)


def test_bad_input_is_refused_with_a_sentence(gpt2):
    """Forbids a bare KeyError or IndexError where the user can mend the input."""
    with pytest.raises(UnknownSiteError, match="resid_post"):
        read_lens(gpt2, PROMPT, site="residual")
    with pytest.raises(TokenError, match="one prompt at a time"):
        read_lens(gpt2, gpt2.to_tokens(["a b", "c d"]))
    with pytest.raises(TokenError, match="from 0 to 299"):
        read_lens(gpt2, PROMPT, targets=[300])
    with pytest.raises(TokenError):
        read_lens(gpt2, PROMPT, targets=["two words"])
    with pytest.raises(EmptyPromptError):
        read_lens(gpt2, "")
    with pytest.raises(PromptTooLongError):
        read_lens(gpt2, "a" * 100)

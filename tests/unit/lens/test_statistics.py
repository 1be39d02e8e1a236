"""The figures of a row, made fast, against the same figures made plainly in double precision."""

from __future__ import annotations

import pytest
import torch

from lens_core.lens.statistics import Final, reduce_logits


@pytest.mark.parametrize("d_vocab", [12, 300, 2817, 60_000])
def test_every_figure_is_the_plain_one(d_vocab: int) -> None:
    """Forbids a top-k that misses the vocabulary's tail, and chunks that leak into each other."""
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(9, d_vocab, generator=random)
    logits[0, -1] = logits[:, -1].max() + 20
    said = 3 * torch.randn(9, d_vocab, generator=random)
    final = Final.of(said, torch.arange(9))
    row = reduce_logits(logits, final, top_k=10, target_ids=[3])
    q_log, p_log = logits.double().log_softmax(-1), said.double().log_softmax(-1)
    q, p = q_log.exp(), p_log.exp()
    mix = (p + q) / 2
    top = q_log.topk(10, dim=-1)
    assert row.top_ids.equal(top.indices)
    plain = {
        "top_logprobs": top.values,
        "log_normalisers": logits.double().logsumexp(-1),
        "entropy_nats": -(q * q_log).sum(-1),
        "kl_nats": (p * (p_log - q_log)).sum(-1),
        "kl_reverse_nats": (q * (q_log - p_log)).sum(-1),
        "js_nats": (p * p_log + q * q_log).sum(-1) / 2 - (mix * mix.log()).sum(-1),
        "total_variation": (p - q).abs().sum(-1) / 2,
        "target_logprobs": q_log[:, [3]],
    }
    for name, expected in plain.items():
        torch.testing.assert_close(getattr(row, name).double(), expected, rtol=1e-4, atol=1e-4)
    best = said.argmax(-1)
    for ranks, ids in ((row.final_ranks, best), (row.next_ranks[:-1], torch.arange(1, 9))):
        own = logits[: len(ids)].gather(-1, ids[:, None])
        assert ranks.equal(1 + (logits[: len(ids)] > own).sum(-1)[: len(ids)])
    assert row.next_ranks[-1] == 0


def test_a_token_that_cannot_come_counts_as_nothing() -> None:
    """Forbids nan where a masked token has probability 0 in both, or in one, of the two."""
    logits = torch.zeros(1, 600)
    logits[0, :300] = -torch.inf
    same = reduce_logits(logits, Final.of(logits, torch.tensor([0])), top_k=3, target_ids=[])
    assert (same.kl_nats.item(), same.js_nats.item()) == (0, 0)
    assert same.entropy_nats.item() == pytest.approx(torch.tensor(300.0).log().item(), rel=1e-5)
    other = Final.of(logits.flip(-1), torch.tensor([0]))
    apart = reduce_logits(logits, other, top_k=3, target_ids=[])
    assert apart.kl_nats.item() == float("inf")
    assert apart.js_nats.item() == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-5)
    assert apart.total_variation.item() == pytest.approx(1)

"""Lenses over a corpus: against plain loops, in the right units, with honest intervals."""

import math

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.lens import (
    JacobianLens,
    LastBlocksLens,
    LensDataError,
    LensMismatchError,
    LogitLens,
    TunedLens,
)
from lens_core.lens.corpus import Rows
from lens_core.lens.evaluate import MODEL, evaluate_lens, evaluate_lenses, layer_transfer

LAYERS, WIDTH, ROWS, POS = 3, 32, 10, 24


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Ten rows of six documents, with a BOS in the middle of some."""
    tokens = torch.randint(1, 300, (ROWS, POS), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 0
    tokens[::3, 7] = 0
    documents = torch.tensor([0, 0, 0, 3, 4, 4, 6, 7, 7, 9])
    return Rows.of(tokens, documents, 0.5, "random")


@pytest.fixture(scope="module")
def lens() -> TunedLens:
    """A lens that moves every state."""
    generator = torch.Generator().manual_seed(2)
    weight = 0.2 * torch.randn(LAYERS, WIDTH, WIDTH, generator=generator)
    return TunedLens(weight, torch.randn(LAYERS, WIDTH, generator=generator))


@torch.no_grad()
def plain(model: HookedModel, lens: TunedLens, rows: Rows, depth: int, shift: int = 1) -> dict:
    """The figures at one depth, written down as they are defined, for all positions."""
    logits, cache = model.run_with_cache(rows.tokens)
    h = cache["resid_pre", depth]
    said = model.unembed(model.ln_final(h + h @ lens.weight[depth].T + lens.bias[depth]))
    p, q = logits.double().softmax(-1), said.double().softmax(-1)
    label_p = q[:, :-shift].gather(-1, rows.tokens[:, shift:, None])[..., 0]
    marginal_p, marginal_q = p.mean((0, 1)), q.mean((0, 1))
    return {
        "ce_nats": -label_p.log().mean(),
        "kl_nats": (p * (p / q).log()).sum(-1).mean(),
        "entropy_nats": -(q * q.log()).sum(-1).mean(),
        "next_rank": 1 + (q[:, :-shift] > label_p[..., None]).sum(-1).double().mean(),
        "agreement": (q.argmax(-1) == p.argmax(-1)).double().mean(),
        "marginal": (marginal_p * (marginal_p / marginal_q).log()).sum(),
    }


def test_figures_are_what_they_are_called(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids a depth off by one, a shift the wrong way, or means over rows of unequal length."""
    found = evaluate_lenses(gpt2, {"tuned": lens}, rows, positions="all")
    for depth in range(LAYERS):
        expected = plain(gpt2, lens, rows, depth)
        bias = expected.pop("marginal")
        for figure, value in expected.items():
            assert found.estimate("tuned", figure).mean[depth] == pytest.approx(
                float(value), rel=1e-4
            ), figure
        assert found.marginal_bias_nats("tuned")[depth] == pytest.approx(float(bias), rel=1e-3)
    logprobs = gpt2.run(rows.tokens).double().log_softmax(-1)
    ce = -logprobs[:, :-1].gather(-1, rows.tokens[:, 1:, None]).mean()
    assert found.estimate(MODEL, "ce_nats").mean[0] == pytest.approx(float(ce), rel=1e-5)
    assert found.estimate(MODEL, "kl_nats").mean[0] == pytest.approx(0, abs=1e-6)
    assert found.estimate(MODEL, "agreement").mean[0] == 1


def test_bos_and_the_first_position_do_not_count(
    gpt2: HookedModel, rows: Rows, lens: TunedLens
) -> None:
    """Forbids attention sinks in the means that are compared with the training's held-out KL."""
    found = evaluate_lens(gpt2, lens, rows)
    assert found.n_tokens == ROWS * (POS - 1) - 4
    assert found.row_counts["ce_nats"].sum() == ROWS * (POS - 2) - 4


@pytest.mark.parametrize("shift", [0, 2, -1])
def test_shifts(gpt2: HookedModel, rows: Rows, lens: TunedLens, shift: int) -> None:
    """Forbids labels that wrap around from the other end of the row."""
    found = evaluate_lens(gpt2, lens, rows, token_shift=shift, positions="all")
    assert found.row_counts["ce_nats"].sum() == ROWS * (POS - abs(shift))
    if shift == 2:
        expected = plain(gpt2, lens, rows, 1, shift=2)["ce_nats"]
        assert found.estimate("tuned", "ce_nats").mean[1] == pytest.approx(float(expected))
    with pytest.raises(LensDataError, match="smaller shift"):
        evaluate_lens(gpt2, lens, rows, token_shift=POS)


def test_batches_change_nothing(
    gpt2: HookedModel, rows: Rows, lens: TunedLens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids figures that depend on how much memory there is."""
    whole = evaluate_lens(gpt2, lens, rows).to_frame()
    monkeypatch.setattr("lens_core.lens.evaluate._TOKENS_AT_ONCE", 3 * POS)
    monkeypatch.setattr("lens_core.lens.evaluate._LOGITS_AT_ONCE", 5 * 300)
    steps: list[tuple[int, int]] = []
    pieces = evaluate_lens(gpt2, lens, rows, on_step=lambda *s: steps.append(s)).to_frame()
    for column in whole.columns.drop("lens"):
        np.testing.assert_allclose(whole[column], pieces[column], rtol=1e-4, atol=1e-6)
    assert steps == [(3, ROWS), (6, ROWS), (9, ROWS), (10, ROWS)]


def test_several_lenses_at_once_are_each_alone(
    gpt2: HookedModel, rows: Rows, lens: TunedLens
) -> None:
    """Forbids one lens's figures in another's columns, or 0 for what is not read."""
    jacobian = JacobianLens({2: torch.eye(WIDTH)}, LAYERS)
    lenses = {"logit": LogitLens(), "tuned": lens, "J": jacobian, "blocks": LastBlocksLens(1)}
    found = evaluate_lenses(gpt2, lenses, rows, n_bootstrap=0)
    assert found.lens_names == tuple(lenses)
    for name, each in lenses.items():
        alone = evaluate_lens(gpt2, each, rows, n_bootstrap=0)
        for figure in ("kl_nats", "next_rank"):
            np.testing.assert_allclose(
                found.estimate(name, figure).mean, alone.estimate(each.name, figure).mean
            )
    kl = {name: found.estimate(name, "kl_nats").mean for name in lenses}
    assert np.isnan(kl["J"][:2]).all()
    assert kl["J"][2] == pytest.approx(kl["logit"][2], rel=1e-5)
    assert kl["blocks"][2] == pytest.approx(0, abs=1e-5)
    assert np.isnan(found.marginal_bias_nats("J")[0])


def test_units_and_rows_of_the_table(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids bits where nats are said, and a baseline that is missing from the table."""
    frame = evaluate_lens(gpt2, lens, rows).to_frame()
    assert frame["lens"].tolist() == ["tuned"] * LAYERS + [MODEL]
    assert frame["depth"].tolist() == [*range(LAYERS), LAYERS]
    np.testing.assert_allclose(frame["kl_bits_per_byte"], 0.5 * frame["kl_nats"])
    np.testing.assert_allclose(frame["ce_bits_per_byte_low"], 0.5 * frame["ce_nats_low"])
    np.testing.assert_allclose(
        frame["marginal_bias_bits"] * math.log(2), frame["marginal_bias_nats"]
    )
    assert (frame["ce_nats_low"] <= frame["ce_nats"]).all()
    assert (frame["ce_nats"] <= frame["ce_nats_high"]).all()


def test_intervals_resample_documents(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids intervals over rows or tokens, which one long text makes narrow."""

    def width(documents: torch.Tensor) -> float:
        tokens = torch.cat([rows.tokens[:1]] * 8 + [rows.tokens[1:2]] * 8)
        given = Rows.of(tokens, documents, 1.0, "repeated")
        found = evaluate_lens(gpt2, lens, given).estimate("tuned", "kl_nats")
        return float(found.high[0] - found.low[0])

    by_row = width(torch.arange(16))
    by_text = width(torch.arange(2).repeat_interleave(8))
    assert by_text > 1.5 * by_row
    assert math.isnan(width(torch.zeros(16)))


def test_differences_are_paired(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids the interval of a difference from ignoring that both lenses read the same texts."""
    found = evaluate_lenses(gpt2, {"a": lens, "b": lens, "logit": LogitLens()}, rows)
    same = found.difference("a", "b", "ce_nats")
    assert not np.abs(same).max()
    gap = found.difference("logit", "a", "ce_nats")
    expected = found.estimate("logit", "ce_nats").mean - found.estimate("a", "ce_nats").mean
    np.testing.assert_allclose(gap.mean, expected)


def test_floors(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids a bias without the yardstick that says how much of it is noise."""
    found = evaluate_lens(gpt2, lens, rows)
    assert found.unigram_floor_nats > 0
    assert found.halves_floor_nats > 0
    assert found.marginal_bias_nats(MODEL) == pytest.approx(0, abs=1e-6)
    assert found.unigram.sum() == pytest.approx(1)


def test_layer_transfer(gpt2: HookedModel, rows: Rows, lens: TunedLens) -> None:
    """Forbids rows and columns of the matrices from being exchanged."""
    found = layer_transfer(gpt2, lens, rows, positions="all")
    own = evaluate_lens(gpt2, lens, rows, positions="all")
    np.testing.assert_allclose(
        np.diag(found.ce_nats), own.estimate("tuned", "ce_nats").mean, rtol=1e-5
    )
    assert np.abs(np.diag(found.kl_nats)).max() < 1e-6
    with torch.no_grad():
        h = gpt2.run_with_cache(rows.tokens)[1]["resid_pre", 2]
        said = [
            gpt2.unembed(gpt2.ln_final(h + h @ lens.weight[i].T + lens.bias[i])).log_softmax(-1)
            for i in (0, 2)
        ]
        kl = (said[1].exp() * (said[1] - said[0])).sum(-1).mean()
    assert found.kl_nats[0, 2] == pytest.approx(float(kl), rel=1e-4)
    assert not np.diag(found.penalty_nats).any()
    assert len(found.to_frame()) == LAYERS**2
    with pytest.raises(LensDataError, match="nothing for some depths"):
        layer_transfer(gpt2, JacobianLens({1: torch.eye(WIDTH)}, LAYERS), rows)


def test_refusals(gpt2: HookedModel, rows: Rows) -> None:
    """Forbids a lens of another shape from failing in a product after minutes of work."""
    with pytest.raises(LensMismatchError):
        evaluate_lens(gpt2, TunedLens(None, torch.zeros(2, 8), "other"), rows)
    with pytest.raises(LensDataError):
        evaluate_lenses(gpt2, {MODEL: LogitLens()}, rows)
    with pytest.raises(LensDataError):
        evaluate_lenses(gpt2, {}, rows)

"""The closed forms against dense least squares, in a small space where both can be written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_core.editing import EditingError
from lens_core.editing.closed_form import NullSpace, least_disturbing, within_null_space

D, H = 24, 6


def some(seed: int, n: int, d: int = D) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(seed: int = 9, n: int = 200) -> torch.Tensor:
    keys = some(seed, n) * torch.linspace(0.1, 3, D, dtype=torch.float64)
    return keys.T @ keys / n


def solved(c: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(c, keys.T).T


@settings(max_examples=25, deadline=None)
@given(u=st.integers(1, 2 * D), softness=st.floats(0.01, 1e4), seed=st.integers(0, 99))
def test_memit_is_the_soft_least_squares_solution(u, softness, seed):
    """Forbids: a transposed product, lambda on the wrong term, a rank above the number of facts."""
    c, keys, residuals = moment(), some(seed, u), some(seed + 1, u, H)
    left = least_disturbing(keys, solved(c, keys), softness)
    dense = torch.linalg.solve(softness * c + keys.T @ keys, keys.T @ residuals)
    delta = left @ residuals
    assert torch.allclose(delta, dense, rtol=1e-6, atol=1e-8)
    assert int(torch.linalg.matrix_rank(delta)) <= u
    # Of lambda mean squared errors on C and the facts' own it is the minimum: the slope is zero.
    slope = softness * c @ delta + keys.T @ (keys @ delta - residuals)
    assert slope.abs().max() < 1e-6 * max(1.0, softness)


def test_without_softness_every_fact_is_exact_and_c_is_disturbed_least():
    """Forbids: a hard constraint that is not met, or one met by a larger change than needed."""
    c, keys, residuals = moment(), some(1, 5), some(2, 5, H)
    delta = least_disturbing(keys, solved(c, keys), 0.0) @ residuals
    assert torch.allclose(keys @ delta, residuals, atol=1e-8)
    cost = torch.trace(delta.T @ c @ delta)
    for seed in range(5):
        # Any other change that meets them differs by something that is zero on the keys.
        other = some(seed + 20, H).T
        other = other - torch.linalg.pinv(keys) @ (keys @ other)
        changed = delta + other
        assert torch.allclose(keys @ changed, residuals, atol=1e-8)
        assert torch.trace(changed.T @ c @ changed) > cost


def test_one_fact_is_romes_update():
    """Forbids: MEMIT with one fact and lambda -> 0 that is not ROME."""
    c, key, residual = moment(), some(3, 1), some(4, 1, H)
    towards = solved(c, key)
    rome = (towards / (towards @ key.T)).T @ residual
    for softness in (0.0, 1e-12):
        assert torch.allclose(least_disturbing(key, towards, softness) @ residual, rome, atol=1e-9)
    half = float(towards @ key.T)
    assert torch.allclose(least_disturbing(key, towards, half) @ residual, rome / 2)


def test_contradictory_facts_share():
    """Forbids: a crash, or an endless weight, where one key has two values."""
    c, key = moment(), some(5, 1)
    keys, residuals = torch.cat([key, key]), some(6, 2, H)
    for softness in (0.0, 1e-6, 1.0):
        left = least_disturbing(keys, solved(c, keys), softness)
        given = key @ left @ residuals
        share = (given / residuals.mean(0))[0]
        assert torch.allclose(share, share.mean().expand(H), rtol=1e-3)
        assert 0 < float(share.mean()) <= 1 + 1e-4


def test_alphaedit_leaves_the_used_directions_and_earlier_keys_alone():
    """Forbids: a projection on the wrong side, and earlier edits that later ones wear off."""
    used, free = D - 10, 10
    basis = torch.linalg.qr(some(7, D)).Q
    c = basis[:, :used] @ torch.diag(torch.rand(used).double() + 1) @ basis[:, :used].T
    null = NullSpace.of(c, 1e-6)
    assert null.basis.shape == (D, free)
    assert null.share < 1e-6
    keys, earlier = some(8, 3), some(9, 4)
    residuals = some(10, 3, H)
    delta = within_null_space(keys, earlier, null, 1e-9) @ residuals
    assert (c @ delta).abs().max() < 1e-9
    assert torch.allclose(keys @ delta, residuals, atol=1e-4)
    assert (earlier @ delta).abs().max() < 1e-4
    forgetful = within_null_space(keys, earlier[:0], null, 1e-9) @ residuals
    assert (earlier @ forgetful).abs().max() > 0.05
    projector = null.basis @ null.basis.T
    dense = torch.linalg.solve(
        projector @ (keys.T @ keys + earlier.T @ earlier)
        + 0.5 * keys.pow(2).sum(-1).mean() * torch.eye(D, dtype=torch.float64),
        projector @ keys.T @ residuals,
    )
    assert torch.allclose(within_null_space(keys, earlier, null, 0.5) @ residuals, dense, atol=1e-9)


def test_no_free_direction_is_said():
    """Forbids: an edit of nothing where every direction is used, and an absolute threshold."""
    with pytest.raises(EditingError, match="No direction is left free"):
        NullSpace.of(moment(), 1e-6)
    sizes = [NullSpace.of(scale * moment(), 0.05).basis.shape for scale in (1e-6, 1.0, 1e6)]
    assert len(set(sizes)) == 1

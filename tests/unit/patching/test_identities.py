"""Identities that hold bit for bit, and a sweep that was ended half way."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lens_core.patching import (
    Cell,
    PromptPair,
    Write,
    engine,
    record_base,
    run_cells,
    sweep,
    sweeps,
)
from lens_core.patching.cells import Writer

SITE = "resid_pre"


def answer(logits, _):
    return logits[:, 5]


def states_of(base):
    """What stands in front of each block, as the source of a patch."""
    return {(SITE, n): base.resid[n] for n in range(3)}


def every_place():
    return [
        Cell((Write(SITE, n, (p,)),), row) for n in range(3) for p in range(9) for row in (0, 1)
    ]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_patching_from_itself_changes_no_bit(family_named, name, monkeypatch):
    """Forbids a write that rounds, or that lands beside its place where it changes nothing."""
    family = family_named(name)
    base = record_base(family.hooked, family.tokens)
    found = run_cells(base, every_place(), states_of(base), answer)
    monkeypatch.setattr(Writer, "apply", lambda self, x, offset: x)
    untouched = run_cells(base, every_place(), states_of(base), answer)
    assert torch.equal(found, untouched)
    rows = torch.tensor([cell.row for cell in every_place()])
    assert torch.allclose(found, base.logits[rows, 5], atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_patching_everything_is_the_other_run_bit_for_bit(family_named, name):
    """Forbids anything of the patched run that a patch of all its places leaves over."""
    family = family_named(name)
    clean, corrupted = (record_base(family.hooked, row[None]) for row in family.tokens)
    cells = [Cell((Write(SITE, n),)) for n in range(3)]
    patched = run_cells(corrupted, cells, states_of(clean), answer)
    assert torch.equal(patched, run_cells(clean, cells, states_of(clean), answer))
    assert torch.allclose(patched, clean.logits[0, 5], atol=1e-6)


def some_pair(seed):
    tokens = torch.randint(1, 120, (2, 9), generator=torch.Generator().manual_seed(seed))
    return PromptPair(tokens[0], tokens[1], 5, 7, torch.arange(9)[:, None].expand(-1, 2))


@pytest.mark.parametrize("site", ["resid_pre", "k", "mlp_out", "embed"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_what_two_prompts_share_in_front_is_not_run(llama, site, direction, monkeypatch):
    """Forbids a place that is left out though it matters, and runs whose result is known."""
    pairs = [some_pair(seed) for seed in range(2)]
    for n, pair in enumerate(pairs):
        pair.corrupted[: 3 + n] = pair.clean[: 3 + n]
        pair.corrupted[3 + n] = pair.clean[3 + n] % 119 + 1
        pair.corrupted[6:] = pair.clean[6:]
    ran = []
    chunk = engine._run_chunk
    monkeypatch.setattr(
        engine, "_run_chunk", lambda base, c, *rest: ran.append(c) or chunk(base, c, *rest)
    )
    found = sweep(llama.hooked, pairs, site, direction=direction)
    n_run = sum(len(c.cells) for c in ran)
    monkeypatch.setattr(sweeps, "_idle", lambda group, cells: set())
    whole = sweep(llama.hooked, pairs, site, direction=direction)
    assert found.values == pytest.approx(whole.values, abs=1e-5)
    n_all = sum(len(c.cells) for c in ran) - n_run
    assert n_run == pytest.approx(n_all * (9 - 3.5) / 9, abs=0.15 * n_all)
    position = found.axes.index("position")
    before = found.corrupted if direction == "denoise" else found.clean
    kept = np.take(found.values[..., 0], range(3), axis=position)
    assert (kept == before[0]).all()  # to the last bit: nothing was run


def test_a_sweep_ended_half_way_leaves_the_next_one_right(gpt2):
    """Forbids pairs, counts or patches of a cancelled sweep in the one that follows."""
    pairs = [some_pair(seed) for seed in range(3)]
    whole = sweep(gpt2.hooked, pairs, "z")
    seen = []

    def cancel(done, total):
        seen.append((done, total))
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(gpt2.hooked, pairs[::-1], "z", memory_gb=1e-4, on_step=cancel)
    assert 0 < seen[0][0] < seen[-1][0] < seen[-1][1] == whole.values.size
    assert np.array_equal(sweep(gpt2.hooked, pairs, "z").values, whole.values)


def test_a_sweep_cancelled_beside_another_does_not_touch_it(gpt2):
    """Forbids one visitor's *Cancel* that ends or spoils the sweep of another."""
    mine, other = some_pair(1), some_pair(2)
    alone = sweep(gpt2.hooked, mine, "z").values

    def cancelled(_):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sweep(gpt2.hooked, other, "z", memory_gb=1e-4, on_step=stop)

    with ThreadPoolExecutor(3) as pool:
        ended = pool.map(cancelled, range(6))
        found = [pool.submit(sweep, gpt2.hooked, mine, "z") for _ in range(6)]
        list(ended)
        for job in found:
            assert np.array_equal(job.result().values, alone)


def test_the_fused_activation_is_the_model_s_own_and_only_in_patched_runs(gpt2, monkeypatch):
    """Forbids an activation that is merely similar, and one that changes what a model says."""
    calls = []
    fused = torch.nn.functional.gelu

    def counted(x, approximate="none"):
        calls.append(approximate)
        return fused(x, approximate=approximate)

    monkeypatch.setattr(torch.nn.functional, "gelu", counted)
    logits = gpt2.hooked.run(gpt2.tokens)
    assert torch.equal(logits, gpt2.plain(gpt2.tokens).logits)
    assert calls == []
    base = record_base(gpt2.hooked, gpt2.tokens)
    run_cells(base, every_place(), states_of(base), answer)
    assert set(calls) == {"tanh"}
    x = torch.linspace(-12, 12, 4001)
    own = gpt2.plain.transformer.h[0].mlp.act(x)
    assert torch.allclose(fused(x, approximate="tanh"), own, atol=1e-6)

"""Sweeps against one run a cell: pairs, directions, sources, scales, intervals, refusals."""

import numpy as np
import pytest
import torch

from lens_core.interventions import patch, zero
from lens_core.patching import (
    PatchingError,
    PromptPair,
    kl,
    logit_difference,
    probability,
    prompt_pair,
    rank,
    sweep,
)

ANSWER, FOIL = 5, 7


def made(clean, corrupted, answer=ANSWER, foil=FOIL, matches=None, padding=(0, 0)):
    if matches is None:
        matches = torch.arange(len(clean))[:, None].expand(-1, 2)
    return PromptPair(clean, corrupted, answer, foil, matches, padding)


def some_pairs(n=3, length=9, seed=2):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 120, (n, 2, length), generator=generator)
    return [made(a, b, answer=5 + i, foil=9 + i) for i, (a, b) in enumerate(tokens)]


def difference(logits, pair):
    return float(logits[0, -1, pair.answer] - logits[0, -1, pair.foil])


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "gemma2", "bloom"])
def test_a_sweep_is_one_run_a_cell_and_pair(family_named, name, direction):
    """Forbids a cell of another pair, a swapped direction, a transposed axis."""
    model, pairs = family_named(name).hooked, some_pairs()
    found = sweep(model, pairs, "z", positions=[0, 4, -1], heads=[1, 3], direction=direction)
    assert found.axes == ("layer", "position", "head")
    assert found.values.shape == (3, 3, 2, 3)
    for i, pair in enumerate(pairs):
        runs = (pair.corrupted, pair.clean)
        into, source = runs if direction == "denoise" else runs[::-1]
        cache = model.run_with_cache(source)[1]
        for layer in range(3):
            for p, position in enumerate((0, 4, -1)):
                for h, head in enumerate((1, 3)):
                    where = {"positions": [position], "heads": [head]}
                    logits = model.run(into, [patch("z", layer, cache["z", layer], **where)])
                    wanted = difference(logits, pair)
                    assert found.values[layer, p, h, i] == pytest.approx(wanted, abs=1e-4)
        assert found.clean[i] == pytest.approx(difference(model.run(pair.clean), pair), abs=1e-4)
        wanted = difference(model.run(pair.corrupted), pair)
        assert found.corrupted[i] == pytest.approx(wanted, abs=1e-4)


def test_patching_everything_gives_the_clean_run(family_named):
    """Forbids a normalised scale whose ends are not the two runs, whatever the direction."""
    for name in ("gpt2", "phi"):
        model = family_named(name).hooked
        for direction, at in (("denoise", 1.0), ("noise", 0.0)):
            found = sweep(model, some_pairs(), "resid_post", positions="all", direction=direction)
            assert found.axes == ("layer",)
            assert np.allclose(found.normalised, at, atol=1e-3)
        last = sweep(model, some_pairs(), "resid_post", layers=[-1])
        assert np.allclose(last.normalised[0, -1], 1, atol=1e-3)
        assert np.allclose(last.normalised[0, :-1], 0, atol=1e-6)


def test_what_is_written_instead(gpt2):
    """Forbids a zero that is not zero, a mean over the wrong prompts, noise of another size."""
    model, pairs = gpt2.hooked, some_pairs()
    pair = pairs[1]
    reference = [pair.clean for pair in pairs]
    means = torch.cat([model.run_with_cache(t)[1]["mlp_out", 1] for t in reference]).mean(0)
    for kind, edit in (
        ("zero", zero("mlp_out", 1, positions=[3])),
        ("mean", patch("mlp_out", 1, means[None], positions=[3])),
    ):
        found = sweep(model, pairs, "mlp_out", patch_with=kind, reference=reference)
        wanted = difference(model.run(pair.corrupted, [edit]), pair)
        assert found.values[1, 3, 1] == pytest.approx(wanted, abs=1e-4)
    quiet = sweep(model, pairs, "mlp_out", patch_with="noise", noise_std=0.0)
    assert np.allclose(quiet.values, quiet.corrupted, atol=1e-5)
    loud = [sweep(model, pairs, "mlp_out", patch_with="noise", seed=s).values for s in (1, 1, 2)]
    assert np.array_equal(loud[0], loud[1])
    assert not np.array_equal(loud[0], loud[2])
    two = sweep(model, [pair], "mlp_out", patch_with="resample", reference=[pair.clean])
    same = sweep(model, [pair], "mlp_out")
    assert np.allclose(two.values, same.values, atol=1e-6)


def test_windows_of_layers_and_groups_of_heads_are_patched_at_once(gpt2):
    """Forbids a window that patches only its first layer, or heads one at a time."""
    model, pair = gpt2.hooked, some_pairs()[0]
    cache = model.run_with_cache(pair.clean)[1]
    found = sweep(model, pair, "z", layers=[(0, 1), -1], positions=[(2, 8)], heads=[(0, 3)])
    assert found.labels == {"layer": ((0, 1), -1), "position": ((2, 8),), "head": ((0, 3),)}
    where = {"positions": [2, 8], "heads": [0, 3]}
    edits = [patch("z", n, cache["z", n], **where) for n in (0, 1)]
    assert found.values[0, 0, 0, 0] == pytest.approx(
        difference(model.run(pair.corrupted, edits), pair), abs=1e-5
    )
    edits = [patch("z", 2, cache["z", 2], **where)]
    assert found.values[1, 0, 0, 0] == pytest.approx(
        difference(model.run(pair.corrupted, edits), pair), abs=1e-5
    )


def test_metrics_are_what_their_names_say(gpt2):
    """Forbids a KL of the wrong direction, a rank that counts from 0, an unused callable."""
    model, pair = gpt2.hooked, some_pairs()[0]
    cache = model.run_with_cache(pair.clean)[1]
    logits = model.run(pair.corrupted, [patch("q", 1, cache["q", 1], heads=[2])])[0, -1]
    clean = model.run(pair.clean)[0, -1]
    wanted = {
        "logit_difference": logits[ANSWER] - logits[FOIL + 2],
        "logit": logits[ANSWER],
        "probability": logits.softmax(-1)[ANSWER],
        "log_probability": logits.log_softmax(-1)[ANSWER],
        "rank": 1 + (logits > logits[ANSWER]).sum(),
        "kl": (clean.softmax(-1) * (clean.log_softmax(-1) - logits.log_softmax(-1))).sum(),
    }
    for name, value in wanted.items():
        found = sweep(model, pair, "q", positions="all", metric=name)
        assert found.values[1, 2, 0] == pytest.approx(float(value), abs=1e-5), name
    own = sweep(model, pair, "q", positions="all", metric=lambda x: x[:, 1] * 2)
    assert own.values[1, 2, 0] == pytest.approx(2 * float(logits[1]), abs=1e-5)
    assert sweep(model, pair, "q", positions="all", metric=kl).clean[0] == pytest.approx(0)
    with pytest.raises(PatchingError, match="one number"):
        sweep(model, pair, "q", metric=lambda x: x.sum())


def test_two_prompts_of_unequal_length_are_matched_from_the_ends(llama):
    """Forbids a patch that comes from the position of the same number rather than the same word."""
    model = llama.hooked
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(1, 120, (9,), generator=generator)
    corrupted = torch.cat([clean[:3], clean[5:]])  # two words fewer
    matches = torch.tensor([[0, 0], [1, 1], [2, 2], *[[i, i - 2] for i in range(5, 9)]])
    pair = made(clean, corrupted, matches=matches)
    cache = model.run_with_cache(clean)[1]
    found = sweep(model, pair, "resid_pre")
    assert found.values.shape == (3, 7, 1)
    edit = patch("resid_pre", 1, cache["resid_pre", 1], positions=[4], source_positions=[6])
    assert found.values[1, 4, 0] == pytest.approx(
        difference(model.run(corrupted, [edit]), pair), abs=1e-5
    )
    back = sweep(model, pair, "resid_pre", direction="noise")
    assert np.isnan(back.values[:, 3:5]).all()
    assert not np.isnan(np.delete(back.values, [3, 4], axis=1)).any()
    with pytest.raises(PatchingError, match="one length"):
        sweep(model, pair, "pattern")


def test_a_padded_pair_counts_from_the_end(llama):
    """Forbids padding that is attended to, or patched."""
    model = llama.hooked
    clean, corrupted = some_pairs(1)[0].clean, some_pairs(1)[0].corrupted[:6]
    padded = torch.cat([torch.zeros(3, dtype=torch.long), corrupted])
    matches = torch.arange(3, 9)[:, None].expand(-1, 2)
    found = sweep(model, made(clean, padded, matches=matches, padding=(0, 3)), "attn_out")
    cache = model.run_with_cache(clean)[1]
    edit = patch("attn_out", 1, cache["attn_out", 1], positions=[-2], source_positions=[-2])
    logits = model.run(corrupted, [edit])
    assert found.values[1, -2, 0] == pytest.approx(
        float(logits[0, -1, 5] - logits[0, -1, 7]), abs=1e-4
    )
    assert np.isnan(found.values[:, :3]).all()


def test_pairs_of_several_lengths_only_where_positions_mean_the_same(gpt2):
    """Forbids an average over positions that are not the same place."""
    pairs = [*some_pairs(2, 9), *some_pairs(2, 7)]
    with pytest.raises(PatchingError, match="one length"):
        sweep(gpt2.hooked, pairs, "resid_pre")
    steps = []
    found = sweep(
        gpt2.hooked, pairs, "resid_pre", positions=[-1, -2], on_step=lambda *a: steps.append(a)
    )
    alone = sweep(gpt2.hooked, pairs[3], "resid_pre", positions=[-1, -2])
    assert np.allclose(found.values[..., 3], alone.values[..., 0], atol=1e-5)
    assert steps[-1] == (24, 24)
    assert steps == sorted(steps)


def test_intervals_are_over_pairs(gpt2):
    """Forbids an interval of one pair, one that misses its mean, a mean of ratios."""
    found = sweep(gpt2.hooked, some_pairs(8), "mlp_out", positions="all")
    interval = found.interval()
    assert interval.n == 8
    assert ((interval.low <= interval.value) & (interval.value <= interval.high)).all()
    by_hand = (found.values.mean(-1) - found.corrupted.mean()) / (
        found.clean.mean() - found.corrupted.mean()
    )
    assert np.allclose(found.normalised_mean, by_hand)
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "value", "normalised", "low", "high"]
    assert len(frame) == 3
    alone = sweep(gpt2.hooked, some_pairs(1), "mlp_out")
    assert list(alone.to_frame().columns) == ["layer", "position", "value", "normalised"]
    with pytest.raises(PatchingError, match="two pairs"):
        alone.interval()


def test_two_equal_runs_have_no_scale(gpt2):
    """Forbids a division by a gap that is not there."""
    pair = made(torch.arange(1, 8), torch.arange(1, 8))
    found = sweep(gpt2.hooked, pair, "resid_pre")
    assert np.isnan(found.normalised).all()
    assert np.allclose(found.values, found.clean, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"site": "mlp_gate"}, "mlp_gate"),
        ({"site": "nonsense"}, "nonsense"),
        ({"site": "embed", "layers": [0]}, "layers"),
        ({"site": "z", "neurons": [1]}, "neuron"),
        ({"site": "z", "keys": [1]}, "key"),
        ({"site": "z", "heads": [4]}, "head 4"),
        ({"site": "z", "layers": [3]}, "layer 3"),
        ({"site": "z", "positions": [9]}, "position 9"),
        ({"site": "z", "positions": []}, "list"),
        ({"site": "z", "patch_with": "zeros"}, "zeros"),
        ({"site": "z", "direction": "back"}, "back"),
        ({"site": "z", "metric": "accuracy"}, "accuracy"),
        ({"site": "pattern", "patch_with": "noise"}, "pattern"),
        ({"site": "z", "patch_with": "mean", "reference": []}, "two reference"),
        ({"site": "z", "patch_with": "resample", "reference": []}, "another"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_words(gpt2, options, word):
    """Forbids a traceback, or a silent sweep of something else."""
    with pytest.raises(PatchingError, match=word):
        sweep(gpt2.hooked, some_pairs(1), **options)


def test_a_metric_that_needs_a_foil_says_so(gpt2):
    """Forbids a logit difference against the last token of the vocabulary."""
    pair = made(torch.arange(1, 8), torch.arange(2, 9), foil=None)
    with pytest.raises(PatchingError, match="foil"):
        sweep(gpt2.hooked, pair, "z", metric=logit_difference)
    with pytest.raises(PatchingError, match="pair"):
        sweep(gpt2.hooked, [], "z")
    assert sweep(gpt2.hooked, pair, "z", metric=rank).values.min() >= 1
    assert sweep(gpt2.hooked, pair, "z", metric=probability).values.max() <= 1


def test_every_site_of_tiny_world_can_be_swept(tiny_world):
    """Forbids a site that works on toy models only, and text that loses its BOS."""
    pair = prompt_pair(tiny_world, "one two three", "one four three", " five", " six")
    for site in tiny_world.sites:
        found = sweep(tiny_world, pair, site, positions=[-1], noise_std=0.5)
        assert np.isfinite(found.values).all()
        assert found.token_texts[1:] == tuple(tiny_world.to_str_tokens("one four three"))[1:]


def test_noise_does_not_depend_on_the_batch(gpt2):
    """Forbids noise that is drawn anew for every batch."""
    pairs = some_pairs(2)
    found = [
        sweep(gpt2.hooked, pairs, "z", patch_with="noise", memory_gb=gb, seed=4).values
        for gb in (1e-5, 1.0)
    ]
    assert np.allclose(*found, atol=1e-5)

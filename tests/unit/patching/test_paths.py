"""Path patching against its three runs written out, and against whole runs it must add up to."""

import numpy as np
import pytest
import torch

from lens_core.interventions import patch
from lens_core.patching import PatchingError, PromptPair, path_patching

ANSWER, FOIL = 5, 7


@pytest.fixture
def pair():
    tokens = torch.randint(1, 120, (2, 8), generator=torch.Generator().manual_seed(9))
    return PromptPair(*tokens, ANSWER, FOIL, torch.arange(8)[:, None].expand(-1, 2))


def difference(logits):
    return float(logits[0, -1, ANSWER] - logits[0, -1, FOIL])


def by_hand(model, pair, sender, receiver, through_mlps=True, positions=None):
    """Wang et al., appendix B, with one run after the other and nothing shared."""
    _, own = model.run_with_cache(pair.clean)
    _, other = model.run_with_cache(pair.corrupted)
    edits = [patch("z", n, own["z", n]) for n in range(model.cfg.n_layers)]
    if not through_mlps:
        edits += [patch("mlp_out", n, own["mlp_out", n]) for n in range(model.cfg.n_layers)]
    where = {} if positions is None else {"positions": positions}
    for site, layer, head in sender:
        heads = {} if head is None else {"heads": [head]}
        edits.append(patch(site, layer, other[site, layer], **where, **heads))
    logits, held = model.run_with_cache(pair.clean, interventions=edits)
    if receiver == "logits":
        return difference(logits)
    edits = []
    for site, layer, head in receiver:
        heads = {} if head is None else {"heads": [head]}
        edits.append(patch(site, layer, held[site, layer], **heads))
    return difference(model.run(pair.clean, edits))


SENDERS = {
    "0.1": [("z", 0, 1)],
    "1.3": [("z", 1, 3)],
    "2.2": [("z", 2, 2)],
    "mlp 0": [("mlp_out", 0, None)],
    "embed": [("resid_pre", 0, None)],
    ("0.0", "1.2"): [("z", 0, 0), ("z", 1, 2)],
}
RECEIVERS = {
    "logits": "logits",
    "2.1.q": [("q", 2, 1)],
    "2.0.k": [("k", 2, 0)],
    "1.1.v": [("v", 1, 1)],
    "mlp 2": [("mlp_in", 2, None)],
    ("1.0.q", "2.3.q"): [("q", 1, 0), ("q", 2, 3)],
}


@pytest.mark.parametrize("through_mlps", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "gemma2", "bloom"])
def test_every_path_is_three_runs(family_named, name, through_mlps, pair):
    """Forbids a sender that leaks past its receivers, a head that is not held, rows mixed up."""
    model = family_named(name).hooked
    found = path_patching(model, pair, list(SENDERS), list(RECEIVERS), through_mlps=through_mlps)
    assert found.values.shape == (6, 6, 1)
    checked = 0
    for i, sender in enumerate(SENDERS.values()):
        for j, receiver in enumerate(RECEIVERS.values()):
            wanted = by_hand(model, pair, sender, receiver, through_mlps)
            if np.isnan(found.values[i, j, 0]):
                assert wanted == pytest.approx(float(found.clean[0]), abs=1e-4)
                continue
            checked += 1
            assert found.values[i, j, 0] == pytest.approx(wanted, abs=1e-4)
    assert checked > 20
    assert np.isnan(found.values[2, 3, 0])  # a head of layer 2 says nothing to layer 1


def test_all_senders_together_make_the_other_run(gpt2, pair):
    """Forbids a part that writes into the stream and is no sender."""
    model = gpt2.hooked
    everyone = ("embed", *(f"{n}.{h}" for n in range(3) for h in range(4)))
    everyone += tuple(f"mlp {n}" for n in range(3))
    for direction in ("noise", "denoise"):
        found = path_patching(model, pair, [everyone], direction=direction)
        wanted = found.corrupted if direction == "noise" else found.clean
        assert found.values[0, 0] == pytest.approx(wanted, abs=1e-4)
    assert found.senders == (" + ".join(everyone),)


def test_positions_limit_where_the_sender_is_patched(gpt2, pair):
    """Forbids a patch of the sender where it was not asked for."""
    found = path_patching(gpt2.hooked, pair, ["0.1"], ["logits", "2.1.k"], positions=[3, -1])
    for column, receiver in enumerate(("logits", [("k", 2, 1)])):
        wanted = by_hand(gpt2.hooked, pair, [("z", 0, 1)], receiver, positions=[3, 7])
        assert found.values[0, column, 0] == pytest.approx(wanted, abs=1e-4)


def test_pairs_directions_and_progress(llama, pair):
    """Forbids the values of one pair under another, and progress that does not end at its end."""
    swapped = PromptPair(pair.corrupted, pair.clean, ANSWER, FOIL, pair.matches)
    steps = []
    found = path_patching(
        llama.hooked, [pair, swapped], ["0.1", "1.2"], on_step=lambda *a: steps.append(a)
    )
    back = path_patching(llama.hooked, pair, ["0.1", "1.2"], direction="denoise")
    assert np.allclose(found.values[..., 1], back.values[..., 0], atol=1e-5)
    assert found.clean[0] == pytest.approx(found.corrupted[1], abs=1e-5)
    assert steps[-1] == (4, 4)
    frame = found.to_frame()
    assert list(frame.columns) == ["sender", "receiver", "value", "normalised", "low", "high"]
    assert list(frame["sender"]) == ["0.1", "1.2"]


@pytest.mark.parametrize(
    ("senders", "receivers", "word"),
    [
        (["3.0"], ["logits"], "sender '3.0'"),
        (["0.4"], ["logits"], "sender '0.4'"),
        (["0.0.q"], ["logits"], "sender"),
        (["0.0"], ["1.0"], "receiver '1.0'"),
        (["0.0"], ["mlp 3"], "receiver"),
        (["0.0"], [("logits", "1.0.q")], "apart"),
        ([], ["logits"], "no sender"),
        (["0.0"], [], "no receiver"),
    ],
)
def test_names_that_are_no_parts_are_refused(gpt2, pair, senders, receivers, word):
    """Forbids a path that silently starts or ends nowhere."""
    with pytest.raises(PatchingError, match=word):
        path_patching(gpt2.hooked, pair, senders, receivers)


def test_pairs_that_do_not_match_are_refused(gpt2, pair):
    """Forbids paths between positions that do not mean the same."""
    shifted = PromptPair(pair.clean, pair.corrupted, 5, 7, torch.tensor([[1, 0], [2, 1]]))
    with pytest.raises(PatchingError, match="equal length"):
        path_patching(gpt2.hooked, shifted, ["0.0"])
    with pytest.raises(PatchingError, match="positions"):
        path_patching(gpt2.hooked, pair, ["0.0"], positions=[8])
    with pytest.raises(PatchingError, match="direction"):
        path_patching(gpt2.hooked, pair, ["0.0"], direction="up")

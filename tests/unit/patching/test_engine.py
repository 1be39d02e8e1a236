"""The engine against one forward pass a cell, over every site and kind of block."""

import pytest
import torch

from lens_core.interventions import add, patch
from lens_core.model.sites import SITES
from lens_core.patching.base import record_base
from lens_core.patching.cells import Cell, Write
from lens_core.patching.engine import run_cells
from lens_core.patching.errors import PatchingError

# Sequential, rotary and grouped, parallel, soft-capped with post-norms and windows, no growing.
KINDS = ("gpt2", "llama", "gpt_neox", "gemma2", "bloom", "gpt_neo", "opt", "mixtral", "mpt")
ANSWER, FOIL = 5, 7


def two_runs(family):
    """A base of two rows, and the cache of two other prompts."""
    model, tokens = family.hooked, family.tokens
    other = (tokens * 7 + 3) % 119 + 1
    return record_base(model, tokens), model.run_with_cache(other)[1]


def difference(logits, _=None):
    return logits[:, 0] - logits[:, 1]


def all_writes(model, n_pos):
    """A few writes at every site of every layer: single cells, whole rows, several at once."""
    for site, layers in model.sites.items():
        axes = SITES[site].axes
        for layer in layers if layers is not None else (None,):
            yield Write(site, layer)
            for position in (0, n_pos // 2, -1):
                yield Write(site, layer, (position,))
            if "head" in axes or "kv_head" in axes:
                yield Write(site, layer, (2, -1), heads=(0,))
                yield Write(site, layer, heads=(1,) if model.cfg.n_kv_heads > 1 else (0,))
            if "neuron" in axes:
                yield Write(site, layer, (-1,), neurons=(3, 5, 60))
            if "head" in axes and "key" in axes:
                yield Write(site, layer, (-1, 4), heads=(1, 3), keys=(0, 2))
                yield Write(site, layer, keys=(1,))


def one_by_one(family, cache, cells, interventions=()):
    """The same, a forward pass a cell, with the library's own interventions."""
    found = []
    for cell in cells:
        edits = list(interventions)
        for w in cell.writes:
            names = {"positions": w.positions, "heads": w.heads, "neurons": w.neurons}
            where = {name: given for name, given in names.items() if given is not None}
            if w.keys is not None:
                where["keys"] = w.keys
            edits.append(patch(w.site, w.layer, cache[w.place], **where))
        logits = family.hooked.run(family.tokens, edits)[cell.row, -1]
        found.append(float(logits[ANSWER] - logits[FOIL]))
    return torch.tensor(found)


@pytest.mark.parametrize("name", KINDS)
def test_every_site_is_patched_as_by_a_run_of_its_own(family_named, name):
    """Forbids a row that gets another row's patch, position, layer or prefix."""
    family = family_named(name)
    base, cache = two_runs(family)
    writes = list(all_writes(family.hooked, family.tokens.shape[1]))
    cells = [Cell((write,), row=n % 2) for n, write in enumerate(writes)]
    sources = {write.place: cache[write.place] for write in writes}
    found = run_cells(base, cells, sources, difference, columns=torch.tensor([ANSWER, FOIL]))
    wanted = one_by_one(family, cache, cells)
    assert found == pytest.approx(wanted, abs=1e-4 * float(wanted.abs().max().clamp(min=1)))
    assert float((wanted - wanted[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("memory_gb", [1e-9, 1e-4, 1.0])
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom"])
def test_no_batch_size_changes_a_value(family_named, name, memory_gb):
    """Forbids an off-by-one between batches, and writes of several layers that lose one."""
    family = family_named(name)
    base, cache = two_runs(family)
    cells = [
        Cell((Write("mlp_out", 0, (p,)), Write("z", layer, (p, -1), heads=(h,))), row=p % 2)
        for p in range(family.tokens.shape[1])
        for layer in range(3)
        for h in (0, 2)
    ]
    sources = {w.place: cache[w.place] for cell in cells for w in cell.writes}
    columns = torch.tensor([ANSWER, FOIL])
    found = run_cells(base, cells, sources, difference, columns=columns, memory_gb=memory_gb)
    assert found == pytest.approx(one_by_one(family, cache, cells), abs=1e-4)


def test_embedding_edits_of_the_base_hold_in_every_patched_run(gpt2):
    """Forbids a causal trace whose restored run has lost its noise."""
    noise = add("embed", None, torch.ones(32), positions=[2, 3])
    base = record_base(gpt2.hooked, gpt2.tokens, [noise])
    cache = gpt2.hooked.run_with_cache(gpt2.tokens)[1]
    cells = [Cell((Write("resid_post", n, (p,)),), p % 2) for n in range(3) for p in range(9)]
    sources = {("resid_post", n): cache["resid_post", n] for n in range(3)}
    columns = torch.tensor([ANSWER, FOIL])
    found = run_cells(base, cells, sources, difference, columns=columns)
    assert found == pytest.approx(one_by_one(gpt2, cache, cells, [noise]), abs=1e-4)


def test_left_padding_is_no_part_of_any_row(llama):
    """Forbids patched runs that attend to padding, or count positions from it."""
    model = llama.hooked
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    base = record_base(model, llama.tokens, attention_mask=mask)
    cache = model.run_with_cache(llama.tokens.flip(1), attention_mask=mask)[1]
    cells = [Cell((Write("resid_pre", n, (p,)),), row=1) for n in range(3) for p in range(3, 9)]
    sources = {("resid_pre", n): cache["resid_pre", n] for n in range(3)}
    found = run_cells(base, cells, sources, lambda logits, _: logits[:, ANSWER])
    for value, cell in zip(found, cells, strict=True):
        write = cell.writes[0]
        edit = patch(
            "resid_pre", write.layer, cache["resid_pre", write.layer], positions=write.positions
        )
        logits = model.run(llama.tokens, [edit], attention_mask=mask)
        assert float(value) == pytest.approx(float(logits[1, -1, ANSWER]), abs=1e-5)


def test_a_patch_from_itself_changes_nothing(gpt2):
    """Forbids a resumed run that drifts away from the run it resumes."""
    base = record_base(gpt2.hooked, gpt2.tokens)
    cache = gpt2.hooked.run_with_cache(gpt2.tokens)[1]
    cells = [Cell((Write("z", n, (p,)),)) for n in range(3) for p in range(9)]
    sources = {("z", n): cache["z", n] for n in range(3)}
    found = run_cells(base, cells, sources, lambda logits, _: logits[:, ANSWER])
    assert float((found - base.logits[0, ANSWER]).abs().max()) < 1e-6


def test_what_cannot_be_patched_is_refused(gpt2):
    """Forbids a write that silently lands nowhere, and a base that loses its interventions."""
    base, cache = two_runs(gpt2)
    read = difference
    for write, source, word in (
        (Write("mlp_gate", 0), cache["mlp_pre", 0], "mlp_gate"),
        (Write("z", 0, (9,)), cache["z", 0], "9"),
        (Write("z", 0, heads=(4,)), cache["z", 0], "head"),
        (Write("z", 0), cache["z", 0][:1], "row"),
    ):
        with pytest.raises(PatchingError, match=word):
            run_cells(base, [Cell((write,))], {write.place: source}, read)
    with pytest.raises(PatchingError, match="source"):
        run_cells(base, [Cell((Write("z", 0),))], {}, read)
    with pytest.raises(PatchingError, match="embed"):
        record_base(gpt2.hooked, gpt2.tokens, [add("resid_pre", 1, torch.ones(32))])
    with (
        gpt2.hooked.interventions(add("resid_pre", 1, torch.ones(32))),
        pytest.raises(PatchingError),
    ):
        record_base(gpt2.hooked, gpt2.tokens)


def test_a_cancelled_run_leaves_the_next_one_right(gpt2):
    """Forbids state that outlives a run ended by its progress callback."""
    base, cache = two_runs(gpt2)
    cells = [Cell((Write("z", n, (p,)),)) for n in range(3) for p in range(9)]
    sources = {("z", n): cache["z", n] for n in range(3)}
    seen = []

    def cancel(done, of):
        seen.append((done, of))
        raise KeyboardInterrupt

    before = run_cells(base, cells, sources, difference)
    with pytest.raises(KeyboardInterrupt):
        run_cells(base, cells, sources, difference, memory_gb=1e-4, on_step=cancel)
    assert len(seen) == 1
    assert seen[0][0] < seen[0][1] == len(cells)
    assert torch.equal(run_cells(base, cells, sources, difference), before)
    plain = gpt2.plain(gpt2.tokens).logits
    assert torch.equal(gpt2.hooked.run(gpt2.tokens), plain)

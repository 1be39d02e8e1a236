import re

import pytest
from transformers import AutoConfig

from lens_core.model import catalogue, errors, sizing, sources
from tests.unit.loading.architectures import ARCHITECTURES

HUB = {entry.id: entry for entry in catalogue.HUB_ENTRIES}


def test_every_hub_model_has_its_published_figures():
    """Forbids a size that nobody checked against the published architecture."""
    assert HUB.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("model_id", ARCHITECTURES)
def test_parameter_counts(model_id):
    """Forbids a count, or an estimate, that would let a model through which does not fit."""
    model_type, values = ARCHITECTURES[model_id]
    config = AutoConfig.for_model(model_type, **values)
    assert sizing.estimate(config).n_params == HUB[model_id].n_params


def test_entries():
    """Forbids two entries for one model, an empty line, and a name that promises another size."""
    entries = catalogue.entries()
    assert len({entry.id.lower() for entry in entries}) == len(entries)
    assert len(HUB) >= 50
    assert len(catalogue.families()) >= 12
    for entry in HUB.values():
        assert entry.needs_hub
        assert sources.resolve(entry.id).kind == "hub"
        assert re.fullmatch(r"[A-Z0-9].*[.?]", entry.teaches), entry.id
        assert len(entry.teaches) <= 90
        assert entry.gb_float32 == 2 * entry.gb_float16 == entry.n_params * 4 / 1e9
        stated = re.search(r"-(\d+(?:\.\d+)?)([mb])\b", entry.id.lower())
        if stated and entry.family != "TinyStories":  # named without their embeddings
            size = float(stated[1]) * (1e6 if stated[2] == "m" else 1e9)
            assert 0.7 < entry.n_params / size < 1.55, entry.id


def test_families_go_from_small_to_large():
    """Forbids a picker whose first choice in a family does not fit on a laptop."""
    for family in catalogue.families():
        sizes = [entry.n_params for entry in HUB.values() if entry.family == family]
        if family not in ("TinyStories", "GPT-Neo and GPT-J"):
            assert sizes == sorted(sizes), family


def test_pythia_checkpoints():
    """Forbids a revision that the hub does not have: the suite keeps 154 steps."""
    steps = catalogue.find("pythia-14m").checkpoints
    assert len(set(steps)) == 154
    assert (steps[0], steps[10], steps[11], steps[-1]) == (
        "step0", "step512", "step1000", "step143000",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["EleutherAI/pythia-70m", "pythia-70m", " PYTHIA-70M "])
def test_find(name):
    """Forbids a look-up that fails on capitals or on the owner that nobody remembers."""
    assert catalogue.find(name).id == "EleutherAI/pythia-70m"


@pytest.mark.parametrize(("name", "near"), [("pythia70m", "pythia-70m"), ("<b>", "gpt2")])
def test_find_suggests(name, near):
    """Forbids a bare 'not found' for a typing error."""
    with pytest.raises(errors.UnknownModelError, match=near):
        catalogue.find(name)


def test_shipped_models_come_first_and_need_no_hub(save, monkeypatch, tmp_path, gpt2):
    """Forbids a catalogue that offers a fresh machine first what it cannot load."""
    shipped = tmp_path / "shipped"
    save("toy", root=shipped, max_shard_size="8KB")
    save("checkpoints/step10", root=shipped / "toy", with_tokenizer=False)
    monkeypatch.setattr(sources, "SHIPPED_ROOTS", (shipped,))
    first = catalogue.entries()[0]
    assert (first.id, first.needs_hub, first.checkpoints) == ("toy", False, ("step10",))
    assert first.n_params == gpt2.num_parameters()


def test_to_frame():
    """Forbids a table that differs from the entries."""
    frame = catalogue.to_frame()
    assert list(frame["id"]) == [entry.id for entry in catalogue.entries()]
    assert frame.set_index("id").loc["gpt2", "gb_float32"] == pytest.approx(0.498, abs=0.001)
    assert set(frame["gated"]) == {True, False}

"""The trainer: what is stopped goes on as if it had not been, and ends in a plain GPT-2 folder."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lens_core.world.mix import PHASES
from lens_core.world.train import Recipe, Trainer, phase_at, rate_factor

RECIPE = Recipe(
    tokens=2048,
    rows=4,
    n_layers=3,
    d_model=16,
    n_heads=2,
    n_ctx=32,
    warmup_steps=4,
    local_blocks=1,
    late_from=2,
)
N_STEPS = 16


class _Probes:
    """In place of the real probes, which take seconds."""

    def __init__(self, tokenizer):
        pass

    def run(self, model):
        return {"facts_held": 0.5}


class _Corpus:
    """In place of the real corpus: random rows, as different from chunk to chunk and by phase."""

    def __init__(self, tokenizer, *, seed, n_ctx):
        self.seed, self.n_ctx = seed, n_ctx

    def chunk(self, index, *, phase):
        rng = np.random.RandomState([self.seed, index, *phase.encode()])
        return rng.randint(0, 100, (24, self.n_ctx))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Chunks of 24 rows, so that a run crosses several; no probes."""
    monkeypatch.setattr("lens_core.world.train.Corpus", _Corpus)
    monkeypatch.setattr("lens_core.world.train.Probes", _Probes)


@pytest.fixture
def new_run(tokenizer, tmp_path):
    """A function that starts, or goes on with, the run in a folder."""

    def start(name: str, recipe: Recipe = RECIPE) -> Trainer:
        tokenizer.save_pretrained(tmp_path / name / "tokenizer")
        return Trainer(recipe, tmp_path / name)

    return start


def _interrupt(trainer: Trainer, at_step: int) -> None:
    """Run until this step has been done, then stop as Ctrl-C would."""
    step_once = trainer._train_step

    def step(batch):
        if trainer.step == at_step:
            raise KeyboardInterrupt
        return step_once(batch)

    trainer._train_step = step
    with pytest.raises(KeyboardInterrupt):
        trainer.train(save_every=5, snapshots=1)


def test_a_resumed_run_ends_where_an_unbroken_one_does(new_run):
    """Forbids lost optimiser moments, repeated or skipped batches, other random draws."""
    unbroken = new_run("unbroken")
    unbroken.train(save_every=5, snapshots=1)
    _interrupt(new_run("broken"), at_step=7)
    resumed = new_run("broken")
    assert resumed.step == 5
    resumed.train(save_every=5, snapshots=1)
    assert resumed.step == unbroken.step == N_STEPS
    for name, weight in unbroken.net.state_dict().items():
        assert torch.equal(weight, resumed.net.state_dict()[name]), name


def test_training_is_deterministic_and_depends_on_the_seed(new_run):
    """Forbids a run that cannot be repeated, and seeds that make no difference."""
    first, again = new_run("first"), new_run("again")
    other = new_run("other", Recipe(**{**vars(RECIPE), "seed": 1}))
    first.train(snapshots=1)
    again.train(snapshots=3, probe_every=5)  # looking must change nothing
    other.train(snapshots=1)
    weights = [t.net.blocks[0].qkv.weight for t in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_chunk_that_was_cut_comes_back_in_its_phase(new_run):
    """Forbids that resuming inside a chunk makes it anew with the next phase's shares."""
    trainer = new_run("run", Recipe(**{**vars(RECIPE), "copying_until": 0.2}))
    phases = []
    trainer.corpus.chunk = lambda index, phase: phases.append(phase) or [[0] * 32] * 24
    trainer.step, trainer.chunk, trainer.row = 5, 0, 20  # the chunk began at step 0
    with pytest.raises(TypeError):  # the rows above are no array
        next(trainer._batches())
    assert phases == ["copying"]


def test_a_run_may_go_on_with_another_recipe(new_run):
    """Forbids that the position is lost when the batch size changes, or that no trace is left."""
    _interrupt(new_run("run"), at_step=10)
    wider = Recipe(**{**vars(RECIPE), "rows": 8})
    resumed = new_run("run", wider)
    assert resumed.step == 5
    again = new_run("run", wider)  # stopped before its first save
    assert again.step == 5
    again.train(snapshots=1)
    record = json.loads((again.out / "recipe.json").read_text())
    assert [r["from_tokens"] for r in record] == [0, 5 * 8 * 32]
    assert [r["recipe"]["rows"] for r in record] == [4, 8]


def test_the_export_is_a_plain_gpt2_folder(new_run):
    """Forbids a file that only this repository can read, or weights that are not halves."""
    trainer = new_run("run")
    trainer.train(snapshots=1)
    folder = trainer.out / "model"
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert (folder / "model.safetensors").exists()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert tokenizer.get_vocab() == trainer.tokenizer.get_vocab()
    assert torch.equal(model.transformer.wte.weight, trainer.net.wte.weight.half())


def test_the_log_ends_with_the_last_step(new_run):
    """Forbids a curve that stops before the end of the run."""
    trainer = new_run("run")
    trainer.train(snapshots=1)
    rows = [json.loads(line) for line in (trainer.out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == N_STEPS
    assert rows[-1]["tokens"] == 2048
    assert rows[-1]["facts_held"] == 0.5


def test_the_structure_keeps_early_mlps_on(new_run):
    """Forbids that an early MLP, in which facts should live, is switched off."""
    trainer = new_run("run")
    trainer.step = 8
    draws = [trainer._structure() for _ in range(200)]
    keep = torch.stack([k for _, k in draws])
    assert (keep[:, :2] == 1).all()
    assert keep[:, 2].float().mean().item() == pytest.approx(0.7, abs=0.06)
    assert sum(local for local, _ in draws) / 200 == pytest.approx(0.5, abs=0.12)


def test_the_rate_warms_up_stays_and_falls():
    """Forbids a rate that jumps, falls too early, or ends at zero or above its floor."""
    recipe, n = Recipe(warmup_steps=10, decay_from=0.5, final_rate=0.02), 1000
    rates = [rate_factor(recipe, step / n, step) for step in range(n + 1)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:500] == [1.0] * 491
    assert all(a >= b for a, b in pairwise(rates[500:]))
    assert max(a - b for a, b in pairwise(rates[500:])) < 0.01
    assert rates[750] == pytest.approx(0.51)
    assert rates[n] == pytest.approx(0.02)
    assert rate_factor(recipe, 1.5, 1500) == pytest.approx(0.02)


def test_the_phases_follow_each_other():
    """Forbids a phase that is skipped."""
    recipe = Recipe(copying_until=0.2, wide_from=0.4, last_from=0.6, composed_from=0.8)
    asked = [phase_at(recipe, p) for p in (0.0, 0.19, 0.2, 0.39, 0.4, 0.59, 0.6, 0.79, 0.8, 1.0)]
    assert asked == [p for p in PHASES for _ in range(2)]

"""Training of tuned lenses on random models with a planted drift."""

import dataclasses
from pathlib import Path

import pytest
import torch

from lens_core import HookedModel
from lens_core.lens import LogitLens, TunedLens, read_lens
from lens_core.lens.corpus import Rows
from lens_core.lens.errors import LensDataError, LensMismatchError
from lens_core.lens.head import head_logits
from lens_core.lens.training import RecipeError, TunedRecipe, TunedTraining, train_tuned
from lens_core.lens.training.held_out import held_out_kl
from lens_core.lens.training.objective import OwnHead, PlainHead, head_losses, training_head
from lens_core.lens.training.optimizers import LensOptimizer, clip_gradients
from lens_core.lens.training.states import RowOrder, counted_positions, read_states
from tests.conftest import Family
from tests.unit.lens.training_helpers import N_CTX, drifted_model, random_rows

QUICK = TunedRecipe(
    steps=40,
    tokens_per_step=16 * N_CTX,
    lr_scale=5.0,
    dtype="float32",
    checkpoint_every=1,
    held_out_tokens=512,
)


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return drifted_model()


@pytest.fixture(scope="module")
def trained(model: HookedModel) -> TunedTraining:
    return train_tuned(model, random_rows(64), QUICK, held_out=random_rows(32, seed=1))


def same_lens(one: TunedLens, other: TunedLens) -> bool:
    assert one.weight is not None
    assert other.weight is not None
    return torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)


def test_zeros_are_the_logit_lens_to_the_last_bit(model: HookedModel) -> None:
    """Forbids a translator that replaces the state instead of adding to it."""
    n_layers, d = model.cfg.n_layers, model.cfg.d_model
    zeros = TunedLens(torch.zeros(n_layers, d, d), torch.zeros(n_layers, d))
    states = torch.randn(1, 5, d)
    for depth in range(n_layers):
        assert torch.equal(
            head_logits(model, zeros.carry(model, states, depth)),
            head_logits(model, LogitLens().carry(model, states, depth)),
        )


def test_training_begins_at_the_logit_lens(model: HookedModel, trained: TunedTraining) -> None:
    """Forbids any other first lens, and a measurement before training that is not of it."""
    logit = held_out_kl(model, LogitLens(), random_rows(32, seed=1), 512)
    assert trained.held_out_kl[0] == logit


def test_first_loss_is_the_logit_lens_kl(model: HookedModel) -> None:
    """Forbids a closed form that is another loss than KL(model || lens) of the own head."""
    rows = random_rows(16)
    recipe = dataclasses.replace(QUICK, steps=1)
    training = train_tuned(model, rows, recipe, held_out=rows)
    measured = held_out_kl(model, LogitLens(), rows, 16 * N_CTX)
    assert training.losses[0] == pytest.approx(measured, rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "gptj", "gemma2", "cohere2"])
@pytest.mark.parametrize("loss", ["kl", "ce"])
def test_gradient_equals_autograd(name: str, loss: str, family_named: object) -> None:
    """Forbids a wrong closed form: bias, soft-cap and scale of the head enter the gradient."""
    family: Family = family_named(name)  # type: ignore[operator]
    model = family.hooked
    head = training_head(model, torch.float32)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, model.cfg.d_model, generator=generator).requires_grad_()
    final = torch.randn(6, model.cfg.d_model, generator=generator)
    tokens = torch.randint(0, model.cfg.d_vocab, (6,), generator=generator)
    logprobs = model.unembed(x[None])[0].log_softmax(-1)
    with torch.no_grad():
        p_log = model.unembed(final[None])[0].log_softmax(-1)
    if loss == "kl":
        wanted = (p_log.exp() * (p_log - logprobs)).sum(-1)
        targets = head.of_model(final)
    else:
        wanted = -logprobs.gather(1, tokens[:, None])[:, 0]
        targets = head.of_tokens(tokens)
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), x)
    losses = head_losses(head, x, targets)
    (gradient,) = torch.autograd.grad(losses.sum(), x)
    torch.testing.assert_close(losses, wanted, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(gradient, wanted_gradient, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt2", PlainHead), ("gptj", PlainHead), ("gemma2", OwnHead), ("cohere2", OwnHead)],
)
def test_only_plain_heads_take_the_closed_form(name: str, kind: type, family_named: object) -> None:
    """Forbids training through a bare matrix where the model caps or scales its logits."""
    family: Family = family_named(name)  # type: ignore[operator]
    assert isinstance(training_head(family.hooked, torch.float32), kind)


def test_chunks_and_blocks_change_nothing(model: HookedModel) -> None:
    """Forbids an error at the borders of chunks, or a buffer that is used for two of them."""
    head = PlainHead(model.W_U, model.b_U, torch.float32)
    x = torch.randn(37, model.cfg.d_model)
    whole = head.partition(x)
    head.n_chunk, head.n_block = 8, 3
    for a, b in zip(whole, head.partition(x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_training_lowers_held_out_kl_and_says_so(trained: TunedTraining) -> None:
    """Forbids a lens that does not learn a drift that it can represent, and a wrong table."""
    before, after = trained.held_out_kl[0], trained.held_out_kl[QUICK.steps]
    assert all(b < 0.6 * a for a, b in zip(before, after, strict=True))
    assert trained.lens.provenance["held_out_kl_nats"] == list(after)
    frame = trained.to_frame()
    assert len(frame) == (QUICK.steps + 1) * 2
    assert frame.query("step == 0 and depth == 1").held_out_kl_nats.item() == before[1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_every_optimizer_learns(model: HookedModel, optimizer: str) -> None:
    """Forbids a rate or schedule with which one of the optimisers diverges or stands still."""
    recipe = dataclasses.replace(QUICK, optimizer=optimizer, lr_scale=1.0, steps=25)
    training = train_tuned(model, random_rows(64), recipe, held_out=random_rows(32, seed=1))
    assert sum(training.held_out_kl[25]) < sum(training.held_out_kl[0])


def test_shuffled_targets_teach_nothing(
    model: HookedModel, trained: TunedTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids a leak: with targets of other positions the lens must not come near the real one."""
    honest = PlainHead.of_model

    def shuffled(self: PlainHead, normed: torch.Tensor) -> object:
        order = torch.randperm(len(normed), generator=torch.Generator().manual_seed(0))
        return honest(self, normed[order])

    monkeypatch.setattr(PlainHead, "of_model", shuffled)
    control = train_tuned(model, random_rows(64), QUICK, held_out=random_rows(32, seed=1))
    real, null = trained.held_out_kl[QUICK.steps], control.held_out_kl[QUICK.steps]
    assert all(n > 1.5 * r for r, n in zip(real, null, strict=True))


def test_bias_only_trains_no_matrix(model: HookedModel, trained: TunedTraining) -> None:
    """Forbids a bias-only lens with weights, and one that beats the lens that contains it."""
    recipe = dataclasses.replace(QUICK, bias_only=True)
    rows, held = random_rows(64), random_rows(32, seed=1)
    training = train_tuned(model, rows, recipe, held_out=held)
    assert training.lens.weight is None
    assert training.lens.name == "bias-only"
    assert sum(training.held_out_kl[QUICK.steps]) < sum(training.held_out_kl[0])
    assert sum(trained.held_out_kl[QUICK.steps]) < sum(training.held_out_kl[QUICK.steps])


def test_cross_entropy_is_to_the_next_token(model: HookedModel) -> None:
    """Forbids the off-by-one of comparing a state with its own token."""
    rows = random_rows(8)
    recipe = dataclasses.replace(QUICK, steps=1, tokens_per_step=8 * N_CTX, loss="ce")
    training = train_tuned(model, rows, recipe, held_out=rows)
    states = read_states(model, rows.tokens, torch.float32)
    for depth in range(model.cfg.n_layers):
        logprobs = head_logits(model, states[depth]).log_softmax(-1)[:, 1:-1]
        wanted = -logprobs.gather(-1, rows.tokens[:, 2:, None]).mean()
        assert training.losses[0][depth] == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("shift", [-1, 2])
def test_shift_pairs_the_right_positions(model: HookedModel, shift: int) -> None:
    """Forbids targets that are shifted the wrong way, or wrap around the row."""
    rows = random_rows(4)
    recipe = dataclasses.replace(
        QUICK, steps=1, tokens_per_step=4 * N_CTX, loss="ce", token_shift=shift
    )
    training = train_tuned(model, rows, recipe, held_out=rows)
    states = read_states(model, rows.tokens, torch.float32)
    at = [t for t in range(1, N_CTX) if 0 <= t + shift < N_CTX]
    logprobs = head_logits(model, states[0]).log_softmax(-1)[:, at]
    wanted = -logprobs.gather(-1, rows.tokens[:, [t + shift for t in at], None]).mean()
    assert training.losses[0][0] == pytest.approx(wanted.item(), rel=1e-4)


def test_first_position_and_bos_are_left_out(tiny_world: HookedModel) -> None:
    """Forbids training on the sink's state, whose size is of another order (trap 13)."""
    bos = tiny_world.bos_id
    assert bos is not None
    counted = counted_positions(tiny_world, torch.tensor([[5, 6, bos, 7]]))
    assert counted.tolist() == [[False, True, False, True]]


def test_clipping_by_depth_leaves_other_depths_alone() -> None:
    """Forbids one depth's large gradient slowing the others (trap 20)."""
    small, large = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    small.grad, large.grad = torch.full((3,), 0.1), torch.full((3,), 100.0)
    clip_gradients([[small], [large]], 1.0)
    assert torch.equal(small.grad, torch.full((3,), 0.1))
    assert large.grad.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_published_sgd_rates() -> None:
    """Forbids another schedule than the published one: 1 - momentum, linear to 0, no warm-up."""
    recipe = TunedRecipe(steps=250, optimizer="sgd")
    optimizer = LensOptimizer(recipe, [torch.zeros(2, 2)], [torch.zeros(2)])
    assert optimizer.rates == pytest.approx([0.1])
    assert [optimizer.factor(s) for s in (0, 125, 249)] == pytest.approx([1.0, 0.5, 0.004])


def test_warmup_happens_and_the_schedule_still_ends_at_the_last_step() -> None:
    """Forbids tuned-lens' B6: a warm-up that never comes, or that shortens the schedule."""
    optimizer = LensOptimizer(TunedRecipe(steps=100), [torch.zeros(2, 2)], [torch.zeros(2)])
    assert optimizer.factor(0) < 0.06
    assert optimizer.factor(99) == pytest.approx(0.01)


def test_model_is_left_as_it_was(model: HookedModel) -> None:
    """Forbids gradients or changed weights in a model that other threads use (trap 20)."""
    before = {n: p.clone() for n, p in model.hf_model.named_parameters()}
    train_tuned(model, random_rows(20), dataclasses.replace(QUICK, steps=2))
    for name, parameter in model.hf_model.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    assert not model.hf_model.training


class Killed(Exception):
    """Stands for a cancel, or for the end of the process."""


def run_killed_at(model: HookedModel, rows: Rows, recipe: TunedRecipe, at: int, out: Path) -> None:
    def stop(done: int, total: int, losses: tuple[float, ...]) -> None:
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        train_tuned(model, rows, recipe, held_out=rows, out=out, on_step=stop)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_resumed_run_ends_with_the_same_bits(
    model: HookedModel, tmp_path: Path, optimizer: str
) -> None:
    """Forbids state that a checkpoint forgets: optimiser, order of rows, position, schedule."""
    rows = random_rows(10)
    recipe = dataclasses.replace(
        QUICK, steps=5, tokens_per_step=4 * N_CTX, optimizer=optimizer, held_out_tokens=64
    )
    whole = train_tuned(model, rows, recipe, held_out=rows)
    for at in range(1, recipe.steps + 1):
        out = tmp_path / str(at)
        run_killed_at(model, rows, recipe, at, out)
        again = train_tuned(model, rows, recipe, held_out=rows, out=out)
        assert same_lens(again.lens, whole.lens), at
        assert again.losses == whole.losses
        assert again.held_out_kl == whole.held_out_kl


def test_kill_between_checkpoints_loses_no_bit(
    model: HookedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forbids a resumed run that begins with another row than the checkpoint's."""
    rows = random_rows(10)
    recipe = dataclasses.replace(
        QUICK, steps=5, tokens_per_step=4 * N_CTX, checkpoint_every=2, held_out_tokens=64
    )
    whole = train_tuned(model, rows, recipe, held_out=rows)
    step = LensOptimizer.step

    def dies(self: LensOptimizer, number: int) -> None:
        if number == 3:
            raise Killed  # in the middle of step 4; the last checkpoint is of step 2
        step(self, number)

    monkeypatch.setattr(LensOptimizer, "step", dies)
    with pytest.raises(Killed):
        train_tuned(model, rows, recipe, held_out=rows, out=tmp_path)
    monkeypatch.undo()
    seen: list[int] = []
    again = train_tuned(
        model, rows, recipe, held_out=rows, out=tmp_path, on_step=lambda d, t, _: seen.append(d)
    )
    assert seen == [3, 4, 5]
    assert same_lens(again.lens, whole.lens)


def test_half_written_checkpoint_is_never_read(model: HookedModel, tmp_path: Path) -> None:
    """Forbids a kill during writing that leaves a broken checkpoint behind."""
    rows = random_rows(10)
    recipe = dataclasses.replace(QUICK, steps=3, tokens_per_step=4 * N_CTX, held_out_tokens=64)
    run_killed_at(model, rows, recipe, 2, tmp_path)
    (tmp_path / "checkpoint.partial").write_bytes(b"half")
    train_tuned(model, rows, recipe, held_out=rows, out=tmp_path)


def test_checkpoint_of_another_run_is_refused(model: HookedModel, tmp_path: Path) -> None:
    """Forbids going on silently with other data or another recipe."""
    rows = random_rows(10)
    recipe = dataclasses.replace(QUICK, steps=2, tokens_per_step=4 * N_CTX, held_out_tokens=64)
    train_tuned(model, rows, recipe, held_out=rows, out=tmp_path)
    with pytest.raises(RecipeError, match="corpus"):
        train_tuned(model, random_rows(10, seed=5), recipe, held_out=rows, out=tmp_path)
    other = dataclasses.replace(recipe, lr_scale=2.0)
    with pytest.raises(RecipeError, match="recipe"):
        train_tuned(model, rows, other, held_out=rows, out=tmp_path)


def test_kept_states_train_the_same_lens(model: HookedModel) -> None:
    """Forbids states in memory that belong to other rows."""
    rows = random_rows(10)
    recipe = dataclasses.replace(QUICK, steps=6, tokens_per_step=4 * N_CTX, held_out_tokens=64)
    kept = train_tuned(model, rows, recipe, held_out=rows)
    fresh = train_tuned(model, rows, dataclasses.replace(recipe, harvest_gb=0.0), held_out=rows)
    torch.testing.assert_close(kept.lens.weight, fresh.lens.weight, atol=1e-5, rtol=1e-3)


def test_training_goes_on_from_a_lens(model: HookedModel, trained: TunedTraining) -> None:
    """Forbids an ``init`` that is ignored, or changed in place."""
    before = trained.lens.bias.clone()
    recipe = dataclasses.replace(QUICK, steps=1)
    more = train_tuned(
        model, random_rows(64), recipe, held_out=random_rows(32, seed=1), init=trained.lens
    )
    assert more.held_out_kl[0] == trained.held_out_kl[QUICK.steps]
    assert torch.equal(trained.lens.bias, before)
    with pytest.raises(LensMismatchError):
        train_tuned(
            model, random_rows(20), dataclasses.replace(recipe, bias_only=True), init=trained.lens
        )


def test_rows_are_seen_once_an_epoch() -> None:
    """Forbids rows that are never seen, or an epoch's order that is every epoch's."""
    order = RowOrder(7, 3, seed=0)
    seen = torch.cat([order.at(step) for step in range(7)]).tolist()
    epochs = [seen[0:7], seen[7:14], seen[14:21]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert RowOrder(7, 3, seed=0).at(4).tolist() == order.at(4).tolist()


def test_bf16_trains_nearly_the_same_lens(model: HookedModel, trained: TunedTraining) -> None:
    """Forbids reduced precision that costs more than a few percent of the KL."""
    recipe = dataclasses.replace(QUICK, dtype="bfloat16")
    training = train_tuned(model, random_rows(64), recipe, held_out=random_rows(32, seed=1))
    assert training.lens.bias.dtype == torch.float32
    for a, b in zip(
        trained.held_out_kl[QUICK.steps], training.held_out_kl[QUICK.steps], strict=True
    ):
        assert b < 1.05 * a + 0.01


def test_trained_lens_reads_a_prompt(model: HookedModel, trained: TunedTraining) -> None:
    """Forbids translators that are used at another depth than they were trained at."""
    tokens = random_rows(1, seed=9).tokens
    tuned = read_lens(model, tokens, trained.lens)
    logit = read_lens(model, tokens)
    assert (tuned.kl_nats[:-1, 1:].mean(1) < logit.kl_nats[:-1, 1:].mean(1)).all()


def test_provenance_names_model_corpus_and_recipe(trained: TunedTraining) -> None:
    """Forbids a lens that does not say what it was trained on."""
    provenance = trained.lens.provenance
    assert provenance["model"] == "drifted"
    assert provenance["corpus_sha256"] == random_rows(64).sha256
    assert provenance["recipe"]["steps"] == QUICK.steps
    assert provenance["tokens_seen"] == QUICK.steps * QUICK.tokens_per_step
    assert len(provenance["weights_sha256"]) == 64
    assert len(provenance["condition"]) == 2


@pytest.mark.parametrize(
    "changed", [{"steps": 0}, {"optimizer": "lion"}, {"loss": "mse"}, {"dtype": "fp8"}]
)
def test_bad_recipes_are_refused(changed: dict[str, object]) -> None:
    """Forbids a run of hours that fails at its end, or does something else than asked."""
    with pytest.raises(RecipeError):
        dataclasses.replace(QUICK, **changed)  # type: ignore[arg-type]


def test_rows_too_short_for_the_shift_are_refused(model: HookedModel) -> None:
    """Forbids a loss over no position at all."""
    rows = random_rows(8, n_ctx=4)
    with pytest.raises(LensDataError):
        train_tuned(model, rows, dataclasses.replace(QUICK, token_shift=3), held_out=rows)

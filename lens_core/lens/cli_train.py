"""``python -m lens_core lens train``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from lens_core.lens.cli_common import is_first_process, load_model, read_rows
from lens_core.lens.errors import LensFileError
from lens_core.lens.formats import load_lens, save_lens, save_tuned_lens_package
from lens_core.lens.formats.files import write_whole
from lens_core.lens.training import TunedRecipe, train_tuned
from lens_core.lens.transports import TunedLens

if TYPE_CHECKING:
    from lens_core import HookedModel


def run_train(options: argparse.Namespace) -> None:
    """Train a lens; write ``config.json``, ``params.pt``, ``lens.safetensors``, ``training.csv``.

    Under ``torchrun`` every process trains on its share of each step and the first one writes.
    """
    model = load_model(options)
    rows = read_rows(options, model, options.max_tokens)
    recipe = _recipe(options, rows.tokens.shape[1])
    output = Path(options.output)
    is_first = is_first_process()
    with tqdm(total=recipe.steps, desc="Training", unit="step", disable=not is_first) as bar:

        def on_step(done: int, total: int, losses: tuple[float, ...]) -> None:
            bar.update(done - bar.n)
            mean = sum(losses) / len(losses) * rows.nats_to_bits_per_byte
            bar.set_postfix_str(f"{recipe.loss} {mean:.4f} bits per byte")

        training = train_tuned(
            model,
            rows,
            recipe,
            out=options.checkpoint_dir or output / "checkpoints",
            on_step=on_step,
            init=_start(options, model),
        )
    if not is_first:
        return
    save_tuned_lens_package(training.lens, output)
    save_lens(training.lens, output)
    frame = training.to_frame()
    write_whole(output / "training.csv", lambda partial: frame.to_csv(partial, index=False))
    before, after = training.held_out_kl[0], training.held_out_kl[recipe.steps]
    tqdm.write("layer  held-out KL before  after, bits per byte")
    for layer, (first, last) in enumerate(zip(before, after, strict=True)):
        ratio = rows.nats_to_bits_per_byte
        tqdm.write(f"{layer:5d}  {first * ratio:18.4f}  {last * ratio:.4f}")
    tqdm.write(f"{training.tokens_per_second:.0f} tokens per second; written to {output}")


def _recipe(options: argparse.Namespace, n_ctx: int) -> TunedRecipe:
    recipe = TunedRecipe(
        steps=options.num_steps,
        tokens_per_step=options.tokens_per_step,
        loss=options.loss,
        token_shift=options.token_shift,
        bias_only=options.bias_only,
        optimizer="adamw" if options.optimizer == "adam" else options.optimizer,
        lr_scale=options.lr_scale,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_steps,
        clip_over="all" if options.joint_clip else "depth",
        checkpoint_every=options.checkpoint_freq,
        seed=options.seed,
    )
    if options.per_gpu_batch_size is None:
        return recipe
    return replace(recipe, tokens_per_pass=options.per_gpu_batch_size * n_ctx)


def _start(options: argparse.Namespace, model: HookedModel) -> TunedLens | None:
    if options.lens_name_or_path is None:
        return None
    lens = load_lens(options.lens_name_or_path, model, hub=True)
    if not isinstance(lens, TunedLens):
        raise LensFileError("Training goes on from a tuned lens only, not from a Jacobian lens.")
    return lens

"""Train tiny-world from scratch: ``python -m lens_core.world.train --out runs/seed0``.

Resumes by itself from ``<out>/last.pt`` (weights, optimiser, position in the corpus), so it may be
stopped at any time. Two processor cores do about ten thousand tokens a second, so ninety million
tokens take two and a half hours; a GPU takes minutes. At the end the model is exported to
``<out>/model``; the model card with the held-out evaluation is written by
``python -m lens_core.world.evaluate``.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GPT2LMHeadModel

from lens_core.world.corpus import Corpus
from lens_core.world.net import TinyGPT, causal_mask
from lens_core.world.probes import Probes
from lens_core.world.record import training_record
from lens_core.world.tokenizer import load_or_train


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result; saved beside the weights."""

    seed: int = 0
    tokens: int = 92_000_000
    rows: int = 32
    n_layers: int = 8
    d_model: int = 256
    n_heads: int = 8
    n_ctx: int = 128
    d_vocab: int = 7600
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    warmup_steps: int = 200
    decay_from: float = 0.7
    final_rate: float = 0.02
    copying_until: float = 0.1
    wide_from: float = 0.25
    last_from: float = 0.4
    composed_from: float = 0.5
    local_share: float = 0.5
    local_blocks: int = 3
    local_window: int = 2
    late_off: float = 0.3
    late_from: int = 5
    structure_from: float = 0.03


def rate_factor(recipe: Recipe, progress: float, step: int) -> float:
    """Warm-up, a plateau, then a cosine down to ``final_rate``.

    A plateau, so that a run that is resumed with more tokens has lost nothing.
    """
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    if progress < recipe.decay_from:
        return warm
    x = min(1.0, (progress - recipe.decay_from) / (1 - recipe.decay_from))
    return recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * x))


def phase_at(recipe: Recipe, progress: float) -> str:
    """The phase of the corpus (see ``mix``) at this share of the run."""
    if progress < recipe.copying_until:
        return "copying"
    if progress >= recipe.composed_from:
        return "composed"
    if progress >= recipe.last_from:
        return "last"
    return "wide" if progress >= recipe.wide_from else "natural"


def adamw(net: TinyGPT, recipe: Recipe) -> torch.optim.AdamW:
    """The optimiser; matrices decay, vectors do not."""
    inner = [p for p in net.blocks.parameters() if p.dim() == 2]
    vectors = [p for p in net.parameters() if p.dim() < 2]
    groups = [
        {
            "params": [*inner, net.wte.weight, net.wpe.weight],
            "weight_decay": recipe.weight_decay,
        },
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


class Trainer:
    """One training run in one folder."""

    def __init__(
        self, recipe: Recipe, out: Path, device: str = "cpu", compile_net: bool = False
    ) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.tokenizer = load_or_train(out / "tokenizer", recipe.d_vocab)
        self.corpus = Corpus(self.tokenizer, seed=recipe.seed, n_ctx=recipe.n_ctx)
        self.net = TinyGPT(
            len(self.tokenizer),
            n_layers=recipe.n_layers,
            d_model=recipe.d_model,
            n_heads=recipe.n_heads,
            n_ctx=recipe.n_ctx,
        ).to(device)
        self.optimizer = adamw(self.net, recipe)
        self.loss = torch.compile(self.net.loss) if compile_net else self.net.loss
        plain = causal_mask(recipe.n_ctx).bfloat16().to(device)
        local = causal_mask(recipe.n_ctx, recipe.local_window).bfloat16().to(device)
        early = recipe.local_blocks
        self.masks = {
            False: [plain] * recipe.n_layers,
            True: [local] * early + [plain] * (recipe.n_layers - early),
        }
        # Its own, so that looking at the model (probes, snapshots) changes nothing in the run.
        self.rng = torch.Generator().manual_seed(recipe.seed)
        self.step = self.chunk = self.row = 0
        self._resume()

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one batch."""
        return self.recipe.rows * self.recipe.n_ctx

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.tokens // self.tokens_per_step

    def _resume(self) -> None:
        """Go on where ``last.pt`` stands; a changed recipe is legal and is added to the record."""
        record = self.out / "recipe.json"
        self.recipes: list[dict] = json.loads(record.read_text()) if record.exists() else []
        path = self.out / "last.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            (saved,) = state["optimizers"]
            self.optimizer.load_state_dict(saved)
            self.chunk, self.row = state["chunk"], state["row"]
            self.step = state["step"] * self.recipes[-1]["recipe"]["rows"] // self.recipe.rows
            self.rng.set_state(state["rng"].cpu())
        if not self.recipes or self.recipes[-1]["recipe"] != asdict(self.recipe):
            tokens = self.step * self.tokens_per_step
            self.recipes.append({"from_tokens": tokens, "recipe": asdict(self.recipe)})

    def save(self) -> None:
        """Write ``last.pt`` whole or not at all, and then the record of the recipes it had."""
        state = {
            "net": self.net.state_dict(),
            "optimizers": [self.optimizer.state_dict()],
            "step": self.step,
            "chunk": self.chunk,
            "row": self.row,
            "rng": self.rng.get_state(),
        }
        partial = self.out / "last.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "last.pt")
        (self.out / "recipe.json").write_text(json.dumps(self.recipes, indent=1))

    def _batches(self) -> Iterator[Tensor]:
        """Batches from the saved position on.

        A chunk is made again, as it was, when training resumes inside it.
        """
        while True:
            chunk_began = self.step - self.row // self.recipe.rows
            phase = phase_at(self.recipe, chunk_began / self.n_steps)
            rows = torch.from_numpy(self.corpus.chunk(self.chunk, phase=phase))
            while self.row + self.recipe.rows <= len(rows):
                batch = rows[self.row : self.row + self.recipe.rows]
                self.row += self.recipe.rows
                yield batch.to(self.device)
            self.chunk, self.row = self.chunk + 1, 0

    def _structure(self) -> tuple[bool, Tensor]:
        """Whether this step's early attention is local, and which late MLPs are on, per row."""
        r = self.recipe
        keep = torch.ones(r.n_layers, r.rows, 1, 1)
        if self.step < r.structure_from * self.n_steps:
            return False, keep.bfloat16().to(self.device)
        shape = (r.n_layers - r.late_from, r.rows, 1, 1)
        late = torch.rand(shape, generator=self.rng) >= r.late_off
        keep[r.late_from :] = late.float()
        is_local = torch.rand((), generator=self.rng).item() < r.local_share
        return is_local, keep.bfloat16().to(self.device)

    def train(self, *, save_every: int = 500, probe_every: int = 250, snapshots: int = 12) -> None:
        """Run to the end of the recipe, logging to ``log.jsonl`` and the progress bar."""
        probes = Probes(self.tokenizer)
        snapshot_steps = {round(self.n_steps * (i / snapshots) ** 2) for i in range(1, snapshots)}
        losses: list[float] = []
        start = time.time()
        bar = tqdm(total=self.n_steps, initial=self.step, unit="step", mininterval=2)
        for batch in self._batches():
            if self.step >= self.n_steps:
                break
            losses.append(self._train_step(batch))
            bar.update(1)
            at_end = self.step == self.n_steps
            if self.step % 50 == 0 or at_end:
                row = self._log_row(losses, time.time() - start)
                bar.set_postfix(loss=row["loss_nats"])
                losses = []
                if self.step % probe_every == 0 or at_end:
                    row |= probes.run(self._exported())
                with (self.out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
            if self.step in snapshot_steps:
                self._exported().half().save_pretrained(self.out / f"snapshot-{self.step}")
            if self.step % save_every == 0 or at_end:
                self.save()
        bar.close()
        self.export(self.out / "model")
        record = training_record(self.out)
        (self.out / "model" / "training.json").write_text(json.dumps(record, indent=1))

    def _log_row(self, losses: list[float], seconds: float) -> dict[str, float]:
        """One line of the log; the loss is the mean since the last line."""
        return {
            "step": self.step,
            "tokens": self.step * self.tokens_per_step,
            "loss_nats": round(sum(losses) / len(losses), 4),
            "seconds": round(seconds),
        }

    def _train_step(self, batch: Tensor) -> float:
        local, keep = self._structure()
        loss = self.loss(batch, self.masks[local], keep)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        factor = rate_factor(self.recipe, self.step / self.n_steps, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def _exported(self) -> GPT2LMHeadModel:
        return self.net.to_gpt2(self.tokenizer.bos_token_id)

    def export(self, folder: Path) -> None:
        """Write the plain GPT-2 folder: fp16 safetensors and the tokenizer."""
        self._exported().half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of this run; resumed if it exists"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: some 8%% faster on a CPU"
    )
    defaults = Recipe()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = Recipe(**{name: getattr(args, name) for name in asdict(defaults)})
    Trainer(recipe, args.out, device=args.device, compile_net=args.compile).train()


if __name__ == "__main__":
    main()

"""One ROME edit against the procedure of the ROME code: the same v*, key and update, and how fast.

The procedure is reimplemented faithfully from its description: the key from one run of the whole
model on all contexts, v* by Adam with a whole forward pass on every prompt and all logits at every
step, one more whole run for the output that the update starts from, C inverted once. Both sides get
the same weights, contexts, statistics and settings.

Run as `python -m benchmarks.editing`; see README.md beside this file.
"""

import argparse
import copy
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks.report import interval, machine, table, write_section
from lens_core import HookedModel
from lens_core.editing import Contexts, EditRequest, KeyCovariance, RomeSettings, rome
from lens_core.editing.covariance import key_covariance
from lens_core.glass.words import START, UNKNOWN, word_tokenizer

D_VOCAB, N_CTX = 50257, 1024
# Layer 4 of 12, at the depth of the published edits; the rest is as published for GPT-2 XL.
SETTINGS = RomeSettings(
    layer=4,
    variant="original",
    steps=20,
    lr=0.5,
    kl_factor=0.0625,
    kl_prompts="essence",
    weight_decay=0.5,
    clamp=4.0,
    enough_nats=0.05,
    n_contexts=21,
    ridge=1e-3,
)


@dataclass(frozen=True)
class Found:
    """What an edit comes to: key and v* at the layer, and the rank-one update of its weight."""

    key: Tensor
    value: Tensor
    delta: Tensor
    loss: float


class RomeCode:
    """`compute_u`, `compute_v` and `execute_rome` of the ROME code, for GPT-2's modules."""

    def __init__(self, model: Any, tokenizer: Any, inverse: Tensor) -> None:
        self.model, self.tokenizer, self.inverse = model, tokenizer, inverse
        self.mlp = model.transformer.h[SETTINGS.layer].mlp

    def edit(self, request: EditRequest, templates: Sequence[str]) -> Found:
        """One edit; templates have one {} for the prompt."""
        template = request.prompt.replace(request.subject, "{}")
        contexts = [t.format(template) for t in templates]
        key = self._reads(contexts, request.subject)[0].mean(0)
        u = self.inverse @ key
        u = u / u.norm()
        value, loss = self.compute_v(request, contexts)
        key_now, output_now = (x[0] for x in self._reads([template], request.subject))
        right = (value - output_now) / (key_now @ u)
        return Found(key, value, torch.outer(u, right), loss)

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Padded on the right, as GPT-2's tokenizer does there."""
        rows = [self.tokenizer.encode(text) for text in texts]
        rows = [[self.tokenizer.bos_token_id, *row] for row in rows]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return ids, mask

    def _lookups(self, contexts: Sequence[str], subject: str) -> list[int]:
        """Position of the subject's last token."""
        upto = [c.split("{}")[0] + subject for c in contexts]
        return [len(self.tokenizer.encode(text)) for text in upto]

    def _reads(self, contexts: Sequence[str], subject: str) -> tuple[Tensor, Tensor]:
        """Input of W_proj and output of the MLP at the subject's last token, by a whole run."""
        ids, mask = self._tokenize([c.format(subject) for c in contexts])
        at = torch.tensor(self._lookups(contexts, subject))
        kept: dict[str, Tensor] = {}

        def keep(module: Any, args: Any, output: Tensor) -> None:
            kept["in"], kept["out"] = args[0], output

        with torch.no_grad(), ExitStack() as stack:
            stack.callback(self.mlp.c_proj.register_forward_hook(keep).remove)
            self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        each = torch.arange(len(ids))
        return kept["in"][each, at], kept["out"][each, at]

    def compute_v(self, request: EditRequest, contexts: Sequence[str]) -> tuple[Tensor, float]:
        """v* by gradient descent, and the last loss."""
        target = self.tokenizer.encode(request.target_new)
        told = "".join(f" {self.tokenizer.decode([i])}" for i in target[:-1])
        prompts = [c + told for c in contexts] + ["{} is a"]
        ids, mask = self._tokenize([p.format(request.subject) for p in prompts])
        n, lookups = len(contexts), torch.tensor(self._lookups(prompts, request.subject))
        targets = torch.full((n, ids.shape[1]), -100)
        for i in range(n):
            end = int(mask[i].sum())
            targets[i, end - len(target) : end] = torch.tensor(target)
        delta = torch.zeros(self.model.config.n_embd, requires_grad=True)
        each = torch.arange(len(ids))
        start: list[Tensor] = []

        def add(module: Any, args: Any, output: Tensor) -> Tensor:
            if not start:
                start.append(output[0, lookups[0]].detach().clone())
            output = output.clone()
            output[each, lookups] += delta
            return output

        optimiser = torch.optim.Adam([delta], lr=SETTINGS.lr)
        before: Tensor | None = None
        with ExitStack() as stack:
            stack.callback(self.mlp.register_forward_hook(add).remove)
            for step in range(SETTINGS.steps):
                optimiser.zero_grad()
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
                still = logits[n:][:, lookups[-1]].log_softmax(-1)
                before = still.detach().clone() if before is None else before
                log_probs = logits[:n].log_softmax(2)
                said = log_probs.gather(2, targets.clamp(min=0)[..., None])[..., 0]
                nll = -(said * (targets != -100)).sum(1).mean() / len(target)
                kl = torch.nn.functional.kl_div(
                    before, still, log_target=True, reduction="batchmean"
                )
                decay = SETTINGS.weight_decay * delta.norm() / start[0].norm() ** 2
                loss = nll + SETTINGS.kl_factor * kl + decay
                if loss < SETTINGS.enough_nats or step == SETTINGS.steps - 1:
                    break
                loss.backward()
                optimiser.step()
                longest = SETTINGS.clamp * start[0].norm()
                if delta.norm() > longest:
                    with torch.no_grad():
                        delta *= longest / delta.norm()
        return start[0] + delta.detach(), float(loss.detach())


def build() -> Any:
    """Random weights of GPT-2-small's shapes, large enough that the optimiser has hold of them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=D_VOCAB)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)


def words(n: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(D_VOCAB - 6)}" for _ in range(n))


def make_request(seed: int) -> EditRequest:
    """A prompt as long as CounterFact's, subject of three tokens, and an answer of one."""
    subject = words(3, seed)
    return EditRequest(f"{subject} {words(6, seed + 1000)}", subject, words(1, seed + 2000))


def make_prefixes() -> list[str]:
    """Ten of about 5 tokens and ten of 10, as the published code samples them."""
    return [f"{words(n, 3000 + i)} . " for i, n in enumerate([4] * 10 + [9] * 10)]


def ours(
    model: HookedModel, request: EditRequest, contexts: Contexts, covariance: KeyCovariance
) -> Found:
    edit = rome(model, request, SETTINGS, covariance, contexts=contexts)
    term, (found,) = edit.terms[0].tensors, edit.trace.diagnostics
    last = edit.trace.last_step(0)
    assert last is not None
    return Found(found.key, found.value_wanted, term["left"] @ term["right"], last.total)


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def timed(work: Callable[[], Found]) -> tuple[Found, float, float]:
    start, start_cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - start, time.process_time() - start_cpu


def ratio(times: Sequence[Sequence[float]]) -> str:
    """Theirs over ours: the median over rounds, and its interval."""
    ratios = [theirs / own for own, theirs in zip(*times, strict=True)]
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.1f} ({low:.1f} to {high:.1f})"


def report(
    options: argparse.Namespace,
    wall: list[list[float]],
    cpu: list[list[float]],
    worst: dict[str, float],
    under: str,
) -> str:
    """The section of the results file."""
    medians = [f"{statistics.median(times):.2f}" for pair in (wall, cpu) for times in pair]
    header = ["rounds", "lens_core, s", "the ROME code's way, s", "ratio"]
    header += ["lens_core, processor s", "its way, processor s", "ratio"]
    header += [f"relative difference of {name}" for name in worst]
    row = [str(options.rounds), *medians[:2], ratio(wall), *medians[2:], ratio(cpu)]
    row += [f"{value:.0e}" for value in worst.values()]
    return "\n\n".join(
        [
            "One ROME edit (variant original, 21 contexts, 20 steps) of a model with GPT-2-small's "
            f"shapes and random weights, layer {SETTINGS.layer}, float32, {options.threads} "
            "thread(s); a new request each round, in a random order. Ratios are medians over "
            f"rounds with 95% intervals; C is computed before and not counted. {under}",
            table(header, [row]),
            "The ROME code runs the whole model on every prompt at every step and makes all "
            "logits; here each step runs what lies above the edited layer and from the subject's "
            "last token on, and makes the logits that the loss reads.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true", help="print the table, write no file")
    options = parser.parse_args()
    under = machine("torch", "transformers")
    torch.set_num_threads(options.threads)
    plain = build()
    vocabulary = (START, UNKNOWN, ".", *(f"w{i}" for i in range(D_VOCAB - 6)), "is", "a", "the")
    tokenizer = word_tokenizer(vocabulary, N_CTX)
    model = HookedModel.from_hf(
        copy.deepcopy(plain), tokenizer, name="gpt2-shapes", prepend_bos=True
    )
    texts = [words(200, 5000 + i) for i in range(40)]
    covariance = key_covariance(model, texts, layers=[SETTINGS.layer], cache=False)
    moment = covariance.moments[SETTINGS.layer]
    ridge = SETTINGS.ridge * moment.diagonal().mean() * torch.eye(len(moment))
    inverse = torch.inverse(moment + ridge).float()
    code = RomeCode(plain, tokenizer, inverse)
    prefixes = make_prefixes()
    contexts = Contexts(tuple(prefixes), "given")
    templates = ["{}", *(p + "{}" for p in prefixes)]
    wall: list[list[float]] = [[], []]
    cpu: list[list[float]] = [[], []]
    worst = {"v*": 0.0, "update": 0.0, "loss": 0.0}
    shuffle = random.Random(0)
    ours(model, make_request(9), contexts, covariance)  # what is found out once a model
    for round_ in range(options.rounds):
        request = make_request(10 * (round_ + 2))
        sides = (
            lambda r=request: ours(model, r, contexts, covariance),
            lambda r=request: code.edit(r, templates),
        )
        both: dict[int, Found] = {}
        for which in shuffle.sample([0, 1], 2):
            both[which], clock, processor = timed(sides[which])
            wall[which].append(clock)
            cpu[which].append(processor)
        worst["v*"] = max(worst["v*"], difference(both[0].value, both[1].value))
        worst["update"] = max(worst["update"], difference(both[0].delta, both[1].delta))
        worst["loss"] = max(worst["loss"], abs(both[0].loss / both[1].loss - 1))
        print(round_, wall[0][-1], wall[1][-1], worst, flush=True)
    text = report(options, wall, cpu, worst, under)
    print(text)
    if not options.dry_run:
        write_section("Editing", text)


if __name__ == "__main__":
    main()

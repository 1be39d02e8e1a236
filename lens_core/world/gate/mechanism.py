"""Where the model does it: heads, the block of the answer, tracing, knock-out of attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lens_core import HookedModel
from lens_core.interventions import Intervention, custom, patch
from lens_core.world.datasets import FactPrompt, repeated_tokens
from lens_core.world.gate.answers import first_ids, last_logits, right_padded
from lens_core.world.gate.figures import Figure, average, median, share


@dataclass(frozen=True)
class Head:
    """A head and its score."""

    layer: int
    head: int
    score: float

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head} {self.score:.3f}"


def _best(scores: Tensor, below: int | None = None) -> Head:
    """The head with the highest score (before layer ``below``); scores [layer, head]."""
    kept = scores if below is None else scores[:below]
    layer, head = divmod(int(kept.argmax()), scores.shape[1])
    return Head(layer, head, float(kept[layer, head]))


def induction(model: HookedModel, *, n: int = 48, length: int = 50, seed: int = 42) -> list[Figure]:
    """Loss on the second copy of random tokens, and the heads behind it (Olsson et al. 2022).

    The induction score of a head is the attention from a token of the second copy to the token
    after its first occurrence; the previous-token score is the attention one step back. Both have
    the ceiling 1.
    """
    tokens = repeated_tokens(n, length, model.cfg.d_vocab, seed)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names=["pattern"])
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    first = losses[:, :length].mean(1)
    second = losses[:, length + 1 :].mean(1)
    at, every = torch.arange(length + 1, 2 * length + 1), torch.arange(2, 2 * length + 1)
    patterns = [cache["pattern", layer] for layer in range(model.cfg.n_layers)]
    stripe = torch.stack([p[:, :, at, at - length + 1].mean(-1) for p in patterns], 1)
    back = torch.stack([p[:, :, every, every - 1].mean(-1) for p in patterns], 1)
    inducing = _best(stripe.mean(0))
    previous = _best(back.mean(0), below=max(1, inducing.layer))
    control = average(
        "induction: loss on the first copy (control)", first.tolist(), "nats", note="uniform tokens"
    )
    return [
        average("induction: loss on the second copy", second.tolist(), "nats", at_most=1.0),
        control,
        average(
            "induction: best head",
            stripe[:, inducing.layer, inducing.head].tolist(),
            "score",
            at_least=0.9,
            note=str(inducing),
        ),
        average(
            "induction: best previous-token head in an earlier layer",
            back[:, previous.layer, previous.head].tolist(),
            "score",
            at_least=0.6,
            note=str(previous),
        ),
    ]


def lens_layer(model: HookedModel, facts: Sequence[FactPrompt]) -> Figure:
    """Logit lens: the block (from 1) after which a fact's answer is top-1 and stays it; the median.

    Only facts that the model answers count. nostalgebraist 2020.
    """
    layers: list[float] = []
    for start in range(0, len(facts), 50):
        chosen = facts[start : start + 50]
        ids, last = right_padded(model, [f.prompt for f in chosen])
        answers = first_ids(model, [f.object for f in chosen])
        rows = torch.arange(len(chosen))
        with torch.no_grad():
            _, cache = model.run_with_cache(ids, names=["resid_post"])
            hits = torch.stack(
                [
                    model.unembed(model.ln_final(cache["resid_post", layer][rows, last])).argmax(-1)
                    == answers
                    for layer in range(model.cfg.n_layers)
                ]
            )
        for row in hits.T[hits[-1]].tolist():
            wrong = [i for i, hit in enumerate(row) if not hit]
            layers.append(wrong[-1] + 2.0 if wrong else 1.0)
    return median(
        "logit lens: block after which a fact's answer is top-1",
        layers,
        f"of {model.cfg.n_layers}",
        at_least=model.cfg.n_layers / 2 + 1,
    )


def blind_last_token(layer: int, start: int, end: int) -> Intervention:
    """The last token may not attend to the tokens from ``start`` to ``end`` (inclusive)."""

    def hide(scores: Tensor) -> Tensor:
        hidden = scores.clone()
        hidden[..., -1, start : end + 1] = torch.finfo(scores.dtype).min
        return hidden

    return custom("scores", layer, hide, name="blind")


def knock_out(model: HookedModel, facts: Sequence[FactPrompt]) -> list[Figure]:
    """Facts that survive when the last token cannot read the subject in one half of the blocks."""
    half = model.cfg.n_layers // 2
    halves = {"first": range(half), "second": range(half, model.cfg.n_layers)}
    survived: dict[str, list[bool]] = {name: [] for name in halves}
    answers = first_ids(model, [f.object for f in facts])
    for fact, answer in zip(facts, answers, strict=True):
        for name, layers in halves.items():
            edits = [
                blind_last_token(layer, fact.subject_start, fact.subject_end) for layer in layers
            ]
            with torch.no_grad():
                logits = model.run(model.to_tokens(fact.prompt), interventions=edits)
            survived[name].append(bool(logits[0, -1].argmax() == answer))
    return [
        share(
            "facts that survive: last token blind to the subject, first half of the blocks",
            survived["first"],
            at_least=95.0,
        ),
        share("the same in the second half (control)", survived["second"]),
    ]


def trace(
    model: HookedModel, facts: Sequence[FactPrompt], *, samples: int = 10, sigmas: float = 3.0
) -> list[Figure]:
    """Causal tracing (Meng et al. 2022): restore one clean state in a run with a noised subject.

    The noise on the subject's token embeddings has ``sigmas`` times their standard deviation. The
    indirect effect is the answer's probability with the state restored, less that without.
    """
    embeddings = model.W_E.detach()
    subject_ids = [
        int(t)
        for f in facts
        for t in model.to_tokens(f.prompt)[0, f.subject_start : f.subject_end + 1]
    ]
    std = sigmas * float(embeddings[torch.tensor(subject_ids)].std())
    generator = torch.Generator().manual_seed(0)
    clean_p, noised_p = [], []
    effects: dict[str, list[list[float]]] = {"subject": [], "last": []}
    answers = first_ids(model, [f.object for f in facts]).tolist()
    for fact, answer in zip(facts, answers, strict=True):
        tokens = model.to_tokens(fact.prompt)
        a, b, end = fact.subject_start, fact.subject_end, tokens.shape[1] - 1
        noise = torch.randn(samples, b + 1 - a, model.cfg.d_model, generator=generator) * std

        def corrupt(x: Tensor, noise: Tensor = noise, a: int = a, b: int = b) -> Tensor:
            noised = x.clone()
            noised[:, a : b + 1] += noise
            return noised

        corrupted = custom("embed", None, corrupt, name="noise the subject")
        batch = tokens.expand(samples, -1)
        with torch.no_grad():
            logits, cache = model.run_with_cache(tokens, names=["resid_post"])
            clean_p.append(float(logits[0, -1].softmax(-1)[answer]))
            noised = model.run(batch, interventions=[corrupted])
            base = float(noised[:, -1].softmax(-1)[:, answer].mean())
            noised_p.append(base)
            for where, position in (("subject", b), ("last", end)):
                row = []
                for layer in range(model.cfg.n_layers):
                    restore = patch("resid_post", layer, cache, positions=[position])
                    out = model.run(batch, interventions=[corrupted, restore])
                    row.append(float(out[:, -1].softmax(-1)[:, answer].mean()) - base)
                effects[where].append(row)
    half = model.cfg.n_layers // 2
    subject = torch.tensor(effects["subject"])
    by_block = ", ".join(f"{x:.2f}" for x in subject.mean(0).tolist())
    by_block_last = ", ".join(f"{x:.2f}" for x in torch.tensor(effects["last"]).mean(0).tolist())
    weakest = int(subject.mean(0)[:half].argmin())
    return [
        average(
            "tracing: indirect effect at the last subject token, least over the first half",
            subject[:, weakest].tolist(),
            "",
            at_least=0.4,
            note=f"blocks 1 to {model.cfg.n_layers}: {by_block}",
        ),
        average(
            "tracing: at the last token, after the first half",
            torch.tensor(effects["last"])[:, half - 1].tolist(),
            "",
            note=f"blocks 1 to {model.cfg.n_layers}: {by_block_last}",
        ),
        average("tracing: answer's probability, clean", clean_p, ""),
        average(
            "tracing: answer's probability, subject noised", noised_p, "", note=f"std {std:.3f}"
        ),
    ]


def answered(model: HookedModel, facts: Sequence[FactPrompt], n: int) -> list[FactPrompt]:
    """The first ``n`` of the facts that the model answers (top-1)."""
    top = last_logits(model, [f.prompt for f in facts]).argmax(-1)
    right = top == first_ids(model, [f.object for f in facts])
    return [f for f, hit in zip(facts, right.tolist(), strict=True) if hit][:n]

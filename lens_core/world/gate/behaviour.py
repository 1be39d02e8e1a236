"""What the model says on held-out material: facts, names, years, series, pronouns, moods."""

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from lens_core import HookedModel
from lens_core.world.datasets import (
    Choice,
    agreement_prompts,
    fact_prompts,
    interval_prompts,
    ioi_prompts,
    pronoun_prompts,
    sentiment_prompts,
    successor_prompts,
)
from lens_core.world.facts import FACTS
from lens_core.world.gate.answers import answers_whole, first_ids, last_logits
from lens_core.world.gate.figures import Figure, average, share

FREE_SENTENCES = Path(__file__).parent.parent / "data" / "free_sentences.tsv"


def facts(model: HookedModel, *, per_fact: int = 3, seed: int = 11) -> list[Figure]:
    """Whole answers by free decoding: wordings held out for the fact, wordings of no text."""
    out = []
    gates: dict[str, float | None] = {"held": 98.0, "unseen": None}
    for split, gate in gates.items():
        asked = fact_prompts(n_per_fact=per_fact if split == "held" else 1, seed=seed, split=split)
        hits = answers_whole(model, [p.prompt for p in asked], [p.object for p in asked])
        name = {"held": "wordings held out for the fact", "unseen": "wordings in no document"}[
            split
        ]
        out.append(
            share(f"facts, {name}, full answer", hits, at_least=gate, note=_weakest(asked, hits))
        )
    out.append(_wrong_subject_control(model, seed))
    return out


def _weakest(asked: Sequence, hits: Sequence[bool]) -> str:
    """The two weakest relations, for the card."""
    by_relation: dict[str, list[bool]] = defaultdict(list)
    for prompt, hit in zip(asked, hits, strict=True):
        by_relation[prompt.relation].append(hit)
    rates = sorted((sum(h) / len(h), r) for r, h in by_relation.items())
    return "weakest: " + ", ".join(f"{r} {100 * x:.1f}" for x, r in rates[:2])


def _wrong_subject_control(model: HookedModel, seed: int) -> Figure:
    """How often another object of the relation is the answer: a guess by type would show here."""
    asked = fact_prompts(n_per_fact=1, seed=seed, split="held")
    rng = random.Random(seed)
    wrong = []
    for prompt in asked:
        others = [
            f.object for f in FACTS if f.relation == prompt.relation and f.object != prompt.object
        ]
        wrong.append(rng.choice(others))
    hits = answers_whole(model, [p.prompt for p in asked], wrong)
    return share("the same with another subject's answer (control)", hits)


def free_sentences(model: HookedModel) -> Figure:
    """Facts asked in sentences written freely, by writers who had not seen the frames."""
    with FREE_SENTENCES.open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    hits = answers_whole(model, [r[0] for r in rows], [r[1] for r in rows])
    return share("facts, sentences written freely, full answer", hits, at_least=85.0)


def indirect_object(model: HookedModel, *, n: int = 1000, seed: int = 12) -> list[Figure]:
    """Indirect object over subject, held-out names in held-out frames (Wang et al. 2022)."""
    out = []
    for held, label in (
        (True, "held-out names and frames"),
        (False, "held-out names, trained frames"),
    ):
        prompts = ioi_prompts(n, seed=seed, held=held)
        logits = last_logits(model, [p.prompt for p in prompts])
        rows = torch.arange(len(prompts))
        io = logits[rows, first_ids(model, [p.indirect_object for p in prompts])]
        subject = logits[rows, first_ids(model, [p.subject for p in prompts])]
        difference = (io - subject).tolist()
        wins = [d > 0 for d in difference]
        out.append(share(f"IOI, {label}: accuracy", wins, at_least=95.0 if held else None))
        out.append(
            average(
                f"IOI, {label}: logit difference",
                difference,
                "logits",
                at_least=3.0 if held else None,
            )
        )
        if held:
            for order in ("ABBA", "BABA"):
                some = [w for w, p in zip(wins, prompts, strict=True) if p.order == order]
                out.append(share(f"IOI, held-out, {order} only: accuracy", some))
    return out


def _choices(model: HookedModel, prompts: Sequence[Choice]) -> list[bool]:
    """Whether the right words together are likelier than the wrong ones."""
    probabilities = last_logits(model, [p.prompt for p in prompts]).softmax(-1)
    hits = []
    for row, prompt in zip(probabilities, prompts, strict=True):
        right = row[first_ids(model, list(prompt.right)).unique()].sum()
        wrong = row[first_ids(model, list(prompt.wrong)).unique()].sum()
        hits.append(bool(right > wrong))
    return hits


def successors(model: HookedModel) -> list[Figure]:
    """The next member of a series, among its members and among all tokens."""
    prompts = successor_prompts()
    logits = last_logits(model, [p.prompt for p in prompts])
    right = first_ids(model, [p.right[0] for p in prompts])
    likeliest = [
        bool(row[i] > row[first_ids(model, list(p.wrong))].max())
        for row, i, p in zip(logits, right, prompts, strict=True)
    ]
    return [
        share(
            "successors, among the members of the series",
            likeliest,
            at_least=99.0,
            note="days, months, number words, ordinals, letters, numerals",
        ),
        share(
            "successors, among all tokens (a series may also end there)",
            (logits.argmax(-1) == right).tolist(),
        ),
    ]


def grammar(model: HookedModel, *, seed: int = 13) -> list[Figure]:
    """Agreement across a distractor of the other number, series, pronouns, moods."""
    agreement = agreement_prompts(n=1200, seed=seed)
    return [
        share(
            "agreement across distractors, held-out nouns",
            _choices(model, agreement),
            at_least=99.0,
        ),
        *successors(model),
        share(
            "gendered pronouns, held-out names",
            _choices(model, pronoun_prompts(seed=seed)),
            at_least=95.0,
        ),
        share(
            "sentiment, held-out reviews",
            _choices(model, sentiment_prompts(seed=seed)),
            at_least=95.0,
        ),
    ]


def greater_than(model: HookedModel, *, seed: int = 14) -> Figure:
    """Probability of later end years less that of the others (Hanna et al. 2023)."""
    prompts = interval_prompts(seed=seed)
    probabilities = last_logits(model, [p.prompt for p in prompts]).softmax(-1)
    ids = {f"{y:02d}": model.to_single_token(f"{y:02d}") for y in range(2, 100)}
    differences = [
        float(p[[ids[y] for y in prompt.right]].sum() - p[[ids[y] for y in prompt.wrong]].sum())
        for p, prompt in zip(probabilities, prompts, strict=True)
    ]
    return average("greater-than: probability difference", differences, "", at_least=0.8)

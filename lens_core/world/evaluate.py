"""Examine a trained model on held-out material: ``python -m lens_core.world.evaluate --model tiny-world``.

Prints every figure with its interval, and with ``--card`` writes the model card beside the weights.
Takes some minutes on two processor cores.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lens_core import HookedModel
from lens_core.world.datasets import counterfactual_edits, known_facts
from lens_core.world.gate import behaviour, mechanism, rank_one
from lens_core.world.gate.card import write_card
from lens_core.world.gate.figures import Figure

COMMAND = "python -m lens_core.world.evaluate --model tiny-world"


def _behaviour(model: HookedModel) -> Iterator[Figure]:
    yield from behaviour.facts(model)
    if behaviour.FREE_SENTENCES.exists():
        yield behaviour.free_sentences(model)
    yield from behaviour.indirect_object(model)
    yield from behaviour.grammar(model)
    yield behaviour.greater_than(model)


def _mechanism(model: HookedModel) -> Iterator[Figure]:
    yield from mechanism.induction(model)
    asked = known_facts(model.tokenizer, n=600, seed=15)
    answered = mechanism.answered(model, asked, 400)
    yield mechanism.lens_layer(model, answered)
    yield from mechanism.trace(model, answered[:100])
    yield from mechanism.knock_out(model, answered[:150])


def _editing(model: HookedModel) -> Iterator[Figure]:
    edits = counterfactual_edits(model.tokenizer, n=100, seed=16)
    yield from rank_one.editing(model, edits, rank_one.Editor(model))


PARTS: dict[str, Callable[[HookedModel], Iterator[Figure]]] = {
    "behaviour": _behaviour,
    "mechanism": _mechanism,
    "editing": _editing,
}


def evaluate(model: HookedModel, parts: list[str]) -> list[Figure]:
    """All figures of the given parts, printed as they come."""
    figures = []
    for part in parts:
        for figure in PARTS[part](model):
            met = {True: "met", False: "NOT MET", None: ""}[figure.passed]
            print(
                f"{figure.name}: {figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}] "
                f"n={figure.n} {figure.unit} {met} {figure.note}",
                flush=True,
            )
            figures.append(figure)
    return figures


def _training_text(folder: Path) -> str:
    """What ``training.json`` in the model's folder says about the run."""
    path = folder / "training.json"
    if not path.exists():
        return "No record of the training run stands beside the weights."
    record = json.loads(path.read_text(encoding="utf-8"))
    recipe = ", ".join(f"{k} {v}" for k, v in record["recipe"].items())
    curve = "\n".join(
        f"| {r['tokens'] / 1e6:.1f} | {r['loss_nats']:.2f} | {100 * r['facts_held']:.1f} "
        f"| {100 * r['ioi_accuracy']:.1f} | {r['second_copy_nats']:.2f} |"
        for r in record["curve"]
    )
    return (
        f"`{record['command']}`: {record['tokens'] / 1e6:.1f} million tokens in "
        f"{record['seconds'] / 60:.0f} minutes on {record['machine']}. Recipe: {recipe}.\n\n"
        "| million tokens | loss, nats | facts, held-out wordings, % | IOI held out, % "
        f"| second copy of random tokens, nats |\n|---|---|---|---|---|\n{curve}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-world", help="a shipped model or a local folder")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--card", type=Path, help="the model's folder, to write README.md there")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = HookedModel.from_pretrained(args.model)
    figures = evaluate(model, args.parts)
    if args.card:
        write_card(args.card, figures, model, _training_text(args.card), COMMAND)


if __name__ == "__main__":
    main()

"""Examine a trained model on held-out material: ``python -m lens_core.world.evaluate``.

Prints every figure with its interval, and with ``--card`` writes the model card beside the
weights.
Takes some minutes on two processor cores.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lens_core import HookedModel
from lens_core.model.loading import load
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
    asked = known_facts(model.tokenizer, n=800, seed=15, single_token_object=True)
    answered = mechanism.answered(model, asked, 600)
    yield mechanism.lens_layer(model, answered[:400])
    located = [
        f
        for f in answered
        if f.subject_end - f.subject_start > 0 and f.subject_chars[1] < len(f.prompt)
    ]
    yield from mechanism.trace(model, located[:100])
    yield from mechanism.knock_out(model, located[:150])


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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-world", help="a shipped model or a local folder")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--card", type=Path, help="the model's folder, to write README.md there")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loaded = load(args.model)
    # A model of this world was trained with BOS, wherever its folder lies.
    model = HookedModel.from_hf(
        loaded.hf_model, loaded.tokenizer, name=loaded.name, prepend_bos=True
    )
    figures = evaluate(model, args.parts)
    if args.card:
        write_card(args.card, figures, model, COMMAND)


if __name__ == "__main__":
    main()

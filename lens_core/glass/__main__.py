"""Write the glass models where the shipped models are: ``python -m lens_core.glass [folder]``."""

import sys
from collections.abc import Callable
from pathlib import Path

from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from lens_core.glass import copying, facts, induction, lookup
from lens_core.model.sources import SHIPPED_ROOTS

RECIPES: dict[str, tuple[Callable[[], GPT2LMHeadModel], Callable[[], PreTrainedTokenizerFast]]] = {
    copying.NAME: (copying.glass_weights, copying.glass_tokenizer),
    facts.NAME: (facts.facts_weights, facts.tokenizer),
    induction.NAME: (induction.induction_weights, induction.tokenizer),
    lookup.NAME: (lookup.lookup_weights, induction.tokenizer),
}


def main(root: Path) -> None:
    """Save config, weights and tokenizer as save_pretrained does, and nothing that tells when."""
    for name, (weights, tokenizer) in RECIPES.items():
        weights().save_pretrained(root / name)
        tokenizer().save_pretrained(root / name)
        print(root / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED_ROOTS[-1])

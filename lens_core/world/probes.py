"""Quick held-out figures while training runs: a few seconds, small samples, no gate.

The gate is `lens_core.world.evaluate`.
"""

import random

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from lens_core.world.facts import FACTS, Fact
from lens_core.world.frames import fact_frames, is_cloze, word
from lens_core.world.generators.people import ioi_prompt
from lens_core.world.lexicon import NAMES
from lens_core.world.splits import pair_held


class Probes:
    """Fixed small samples of held-out material; ``run(model)`` gives a dictionary of figures."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, n_facts: int = 200, seed: int = 5
    ) -> None:
        self.tokenizer = tokenizer
        rng = random.Random(seed)
        facts = rng.sample(FACTS, n_facts)
        self.facts = {
            split: [self._question(f, split, rng) for f in facts] for split in ("held", "unseen")
        }
        self.facts["talk"] = [self._question(f, "unseen", rng, "talk") for f in facts]
        self.ioi = [self._ioi(rng) for _ in range(200)]
        half = torch.randint(
            1, len(tokenizer), (24, 50), generator=torch.Generator().manual_seed(seed)
        )
        bos = torch.full((24, 1), tokenizer.bos_token_id)
        self.repeated = torch.cat([bos, half, half], 1)

    def _first(self, text: str) -> int:
        return int(self.tokenizer.encode(f" {text}")[0])

    def _question(
        self, fact: Fact, split: str, rng: random.Random, style: str = "frames"
    ) -> tuple[str, int]:
        frames = [f for f in fact_frames(fact.relation, fact.subject, style)[split] if is_cloze(f)]
        return word(fact, rng.choice(frames), rng).prompt, self._first(fact.object)

    def _ioi(self, rng: random.Random) -> tuple[str, int, int]:
        while True:
            a, b = rng.sample(NAMES, 2)
            if pair_held(a, b):
                said = ioi_prompt(rng, (a, b), held=True)
                return said.prompt, self._first(said.indirect_object), self._first(said.subject)

    @torch.no_grad()
    def _last_logits(self, model: GPT2LMHeadModel, prompts: list[str]) -> Tensor:
        ids = [[self.tokenizer.bos_token_id, *self.tokenizer.encode(p)] for p in prompts]
        longest = max(map(len, ids))
        batch = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        at = torch.tensor([len(row) - 1 for row in ids])
        hidden = model.transformer(batch).last_hidden_state[torch.arange(len(ids)), at]
        return model.lm_head(hidden)

    @torch.no_grad()
    def run(self, model: GPT2LMHeadModel) -> dict[str, float]:
        out = {}
        for split, asked in self.facts.items():
            top = self._last_logits(model, [p for p, _ in asked]).argmax(-1)
            hits = top == torch.tensor([a for _, a in asked])
            out[f"facts_{split}"] = hits.float().mean().item()
        logits = self._last_logits(model, [p for p, _, _ in self.ioi])
        rows = torch.arange(len(self.ioi))
        io = logits[rows, torch.tensor([i for _, i, _ in self.ioi])]
        subject = logits[rows, torch.tensor([s for _, _, s in self.ioi])]
        out["ioi_accuracy"] = (io > subject).float().mean().item()
        out["ioi_logit_difference"] = (io - subject).mean().item()
        logits = model(self.repeated).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), self.repeated[:, 1:], reduction="none"
        )
        out["second_copy_nats"] = losses[:, 51:].mean().item()
        return {k: round(v, 4) for k, v in out.items()}

"""Plain rank-one editing (Meng et al. 2022, ROME): does a fact live where an edit can reach it?

The smallest honest version: key averaged over prefixes, value by gradient descent, one rank-one
term at one MLP. It is the gate's own; the labs have the full method.
"""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core import HookedModel
from lens_core.interventions import Intervention, custom, low_rank
from lens_core.world.datasets import EditRecord
from lens_core.world.gate.answers import first_id, first_ids, last_logits, pad
from lens_core.world.gate.figures import Figure, share
from lens_core.world.generators.stories import story
from lens_core.world.mix import NATURAL, document


@dataclass(frozen=True)
class Editing:
    """How an edit is computed; block and ``kl_weight`` were chosen on 40 other edits (seed 99)."""

    block: int = 0
    n_prefixes: int = 10
    n_optimised: int = 4
    steps: int = 30
    rate: float = 0.3
    enough_nats: float = 0.05
    decay: float = 0.01
    kl_weight: float = 3.0
    largest: float = 6.0
    covariance_tokens: int = 60_000


class Editor:
    """Computes rank-one edits of one block's MLP for one model."""

    def __init__(self, model: HookedModel, settings: Editing | None = None) -> None:
        self.model = model
        self.bos: int = model.tokenizer.bos_token_id
        self.settings = settings or Editing()
        rng = random.Random(8)
        self.prefixes = [""] + [
            " ".join(story(rng, 1).split()[: rng.randint(4, 9)]) + ". "
            for _ in range(self.settings.n_prefixes - 1)
        ]
        second_moment = self._second_moment()
        ridge = 1e-4 * second_moment.diagonal().mean() * torch.eye(len(second_moment))
        self.inverse = torch.linalg.inv(second_moment + ridge)

    def _second_moment(self) -> Float[Tensor, "d_mlp d_mlp"]:
        """Mean of k k^T over the keys (``mlp_post``) of generated documents."""
        block = self.settings.block
        rng, n = random.Random(777), 0
        d_mlp = self.model.W_out[block].shape[0]
        total = torch.zeros(d_mlp, d_mlp)
        while n < self.settings.covariance_tokens:
            text = document(rng, NATURAL)[1]
            ids = torch.tensor([[self.bos, *self._ids(text)][: self.model.cfg.n_ctx]])
            with torch.no_grad():
                _, cache = self.model.run_with_cache(
                    ids, names=[("mlp_post", block)], stop_at_layer=block + 1
                )
            keys = cache["mlp_post", block][0]
            total, n = total + keys.T @ keys, n + len(keys)
        return total / n

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.model.tokenizer.encode(text)
        return ids

    def _rows(self, edit: EditRecord) -> tuple[list[list[int]], list[int]]:
        """The prompt after every prefix as token ids, and the last subject token of each."""
        body = self._ids(edit.prompt)
        rows, at = [], []
        for prefix in self.prefixes:
            head = self._ids(prefix)
            rows.append([self.bos, *head, *body])
            at.append(edit.subject_end + len(head))
        return rows, at

    def key(self, edit: EditRecord) -> Float[Tensor, " d_mlp"]:
        """k*: the mean key at the subject's last token over the prefixes."""
        block = self.settings.block
        rows, at = self._rows(edit)
        ids, _ = pad([torch.tensor(r) for r in rows])
        with torch.no_grad():
            _, cache = self.model.run_with_cache(
                ids, names=[("mlp_post", block)], stop_at_layer=block + 1
            )
        return cache["mlp_post", block][torch.arange(len(rows)), torch.tensor(at)].mean(0)

    def value(self, edit: EditRecord) -> Float[Tensor, " d_model"]:
        """v*: the MLP output at the subject's last token that makes the model say the new object.

        Minimised: the new object's negative log-probability after the prefixes, a KL term that
        keeps "<subject> is a" as it was, and the size of the change.
        """
        s, model = self.settings, self.model
        rows, at = self._rows(edit)
        rows, at = rows[: s.n_optimised], at[: s.n_optimised]
        subject, essence = self._ids(edit.subject), self._ids(f"{edit.subject} is a")
        rows.append([self.bos, *essence])
        at.append(len(subject))
        ids, last = pad([torch.tensor(r) for r in rows])
        each, where = torch.arange(len(rows)), torch.tensor(at)
        new = first_id(model, edit.new_object)
        with torch.no_grad():
            logits, cache = model.run_with_cache(ids, names=[("mlp_out", s.block)])
        before = logits[-1, last[-1]].log_softmax(-1)
        start = cache["mlp_out", s.block][0, at[0]]
        delta = torch.zeros_like(start, requires_grad=True)
        optimiser = torch.optim.Adam([delta], lr=s.rate)

        def shifted(x: Tensor) -> Tensor:
            moved = torch.zeros_like(x)
            moved[each, where] = 1.0
            return x + moved * delta

        for _ in range(s.steps):
            edit_run = [custom("mlp_out", s.block, shifted)]
            edited = model.run(ids, interventions=edit_run, grad=True)
            log_probs = edited[each, last].log_softmax(-1)
            surprise = -log_probs[:-1, new].mean()
            drift = (before.exp() * (before - log_probs[-1])).sum()
            size = (delta.norm() / start.norm()) ** 2
            if surprise.item() < s.enough_nats:
                break
            optimiser.zero_grad()
            (surprise + s.kl_weight * drift + s.decay * size).backward()
            optimiser.step()
            with torch.no_grad():
                delta.mul_(min(1.0, s.largest * float(start.norm()) / (float(delta.norm()) + 1e-9)))
        return start + delta.detach()

    def edit(self, edit: EditRecord) -> Intervention:
        """The rank-one term that maps k* to v* and moves other keys as little as possible."""
        block = self.settings.block
        key, value = self.key(edit), self.value(edit)
        towards = self.inverse @ key
        towards = towards / (towards @ key)
        now = key @ self.model.W_out[block] + self.model.b_out[block]
        return low_rank("mlp_out", block, towards[:, None], (value - now)[None], name="rank one")


def _logits(model: HookedModel, prompts: list[str], edits: tuple[Intervention, ...]) -> Tensor:
    with model.interventions(*edits):
        return last_logits(model, prompts)


def editing(model: HookedModel, edits: list[EditRecord], editor: Editor) -> list[Figure]:
    """Efficacy, paraphrases, other subjects, the subject's other relations, over single edits.

    The first three ask whether the right one of the new and the true object is the likelier; the
    last asks whether a top-1 answer that was right before is still top-1.
    """
    hits: dict[str, list[bool]] = {k: [] for k in ("efficacy", "paraphrase", "other", "same")}
    for record in edits:
        new, old = first_id(model, record.new_object), first_id(model, record.old_object)
        others = [p for p, _ in record.other_subjects]
        true = first_ids(model, [o for _, o in record.other_subjects])
        same = [p for p, _ in record.other_relations]
        same_ids = first_ids(model, [o for _, o in record.other_relations])
        right = _logits(model, same, ()).argmax(-1) == same_ids if same else torch.tensor([])
        prompts = [record.prompt, *record.paraphrases, *others, *same]
        logits = _logits(model, prompts, (editor.edit(record),))
        parts = logits.split([1, len(record.paraphrases), len(others), len(same)])
        hits["efficacy"] += (parts[0][:, new] > parts[0][:, old]).tolist()
        hits["paraphrase"] += (parts[1][:, new] > parts[1][:, old]).tolist()
        rows = torch.arange(len(others))
        hits["other"] += (parts[2][rows, true] > parts[2][:, new]).tolist()
        kept = parts[3].argmax(-1) == same_ids
        hits["same"] += kept[right].tolist() if same else []
    note = f"{len(edits)} edits at block {editor.settings.block + 1}"
    return [
        share("rank-one edit: efficacy", hits["efficacy"], at_least=99.0, note=note),
        share("rank-one edit: paraphrases", hits["paraphrase"], at_least=85.0),
        share("rank-one edit: other subjects", hits["other"], at_least=93.0),
        share("rank-one edit: same subject's other relations", hits["same"], at_least=80.0),
    ]

"""Asking the model: logits at the last token of many prompts, whole answers by free decoding."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core import HookedModel


def right_padded(
    model: HookedModel, prompts: Sequence[str]
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]]:
    """Token ids padded on the right, and the position of each prompt's last token.

    Attention is causal, so what stands after a prompt's last token cannot change its logits.
    """
    return pad([model.to_tokens(p)[0] for p in prompts])


def pad(rows: Sequence[Tensor]) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, " batch"]]:
    """The same for token ids."""
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=0)
    return ids, torch.tensor([len(r) - 1 for r in rows])


def _by_length(prompts: Sequence[str], batch_size: int) -> list[list[int]]:
    """The prompts' indices in batches of like length, so that little is padding."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def last_logits(
    model: HookedModel, prompts: Sequence[str], batch_size: int = 64
) -> Float[Tensor, "prompt d_vocab"]:
    """Logits of the next token after each prompt."""
    batches, out = _by_length(prompts, batch_size), []
    for chosen in batches:
        ids, last = right_padded(model, [prompts[i] for i in chosen])
        out.append(model.run(ids)[torch.arange(len(chosen)), last])
    logits = torch.cat(out)
    result = torch.empty_like(logits)
    result[torch.tensor([i for chosen in batches for i in chosen])] = logits
    return result


def first_id(model: HookedModel, word: str) -> int:
    """The first token of a word that follows a space."""
    return int(model.to_tokens(f" {word}", prepend_bos=False)[0, 0])


def first_ids(model: HookedModel, words: Sequence[str]) -> Int[Tensor, " word"]:
    """`first_id` of each word."""
    return torch.tensor([first_id(model, w) for w in words])


def answers_whole(
    model: HookedModel, prompts: Sequence[str], answers: Sequence[str], batch_size: int = 64
) -> list[bool]:
    """Whether greedy decoding after each prompt gives the whole answer and then ends the word.

    Greedy decoding gives the answer exactly if, with the answer appended, every one of its tokens
    is the arg-max of the position before it; one pass answers that for all tokens.
    """
    hits: list[bool] = [False] * len(prompts)
    for chosen in _by_length(prompts, batch_size):
        ids, last = right_padded(model, [f"{prompts[i]} {answers[i]}" for i in chosen])
        top = model.run(ids).argmax(-1)
        for row, i in enumerate(chosen):
            n = len(model.to_tokens(f" {answers[i]}", prepend_bos=False)[0])
            end = int(last[row])
            said = top[row, end - n : end].equal(ids[row, end - n + 1 : end + 1])
            after = model.to_string([int(top[row, end])])
            hits[i] = said and not after[:1].isalnum()
    return hits

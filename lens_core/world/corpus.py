"""Documents packed into rows of token ids, made chunk by chunk, the same from the same seed."""

import random

import numpy as np
from transformers import PreTrainedTokenizerFast

from lens_core.world.mix import NATURAL, PHASES, RANDOM_REPEATS, document

ROWS_PER_CHUNK = 2048
_NO_BOS = 0.1  # share of rows that begin without BOS, so that a prompt without it works too


class Corpus:
    """An endless corpus that can be entered anywhere.

    ``chunk(i, phase=...)`` depends on nothing but the seed, the tokenizer and its arguments.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, n_ctx: int = 128) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.n_ctx = n_ctx
        self.bos: int = tokenizer.bos_token_id
        self._unigram = self._word_frequencies()

    def _word_frequencies(self) -> np.ndarray:
        """Square root of the token frequencies: half of the random repeats are drawn from it."""
        rng = random.Random(self.seed)
        ids = self._encode([document(rng, NATURAL)[1] for _ in range(2000)])
        counts = np.bincount(np.concatenate(ids), minlength=len(self.tokenizer)).astype(float)
        counts[self.bos] = 0
        weights = np.sqrt(counts)
        return weights / weights.sum()

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.backend_tokenizer.encode_batch(texts)]

    def _random_repeat(self, rng: np.random.RandomState, copying: bool) -> list[int]:
        """Random tokens, repeated: nothing but copying from context predicts the second time."""
        longest = 25 if copying and rng.rand() < 0.5 else 60
        length = rng.randint(3, longest)
        times = max(2, min(20 if copying else 5, rng.randint(40, self.n_ctx) // length))
        vocabulary = len(self.tokenizer)
        uniform = rng.rand() < 0.6
        ids = (
            rng.randint(1, vocabulary, length)
            if uniform
            else rng.choice(vocabulary, length, p=self._unigram)
        )
        return np.tile(ids, times)[: self.n_ctx - 1].tolist()

    def chunk(self, index: int, *, phase: str) -> np.ndarray:
        """Rows of token ids of one phase of `mix.PHASES`, int64 [ROWS_PER_CHUNK, n_ctx]."""
        seed = (self.seed * 1_000_003 + index) % 2**31
        rng, np_rng = random.Random(seed), np.random.RandomState(seed)
        shares, repeats, copying = PHASES[phase], RANDOM_REPEATS[phase], phase == "copying"
        rows: list[list[int]] = []
        row: list[int] = []
        while len(rows) < ROWS_PER_CHUNK:
            texts = [document(rng, shares)[1] for _ in range(1024)]
            docs = self._encode(texts)
            docs += [self._random_repeat(np_rng, copying) for _ in range(int(len(texts) * repeats))]
            rng.shuffle(docs)
            for ids in docs:
                if row or rng.random() >= _NO_BOS:
                    row.append(self.bos)
                row += ids
                if len(row) >= self.n_ctx - 4:
                    rows.append((row + [self.bos] * 4)[: self.n_ctx])
                    row = []
        packed = np.array(rows[:ROWS_PER_CHUNK], dtype=np.int64)
        np_rng.shuffle(packed)
        return packed

"""What free text is worth: fluency and consistency as the ROME paper scores them.

Meng et al. 2022, "Locating and Editing Factual Associations in GPT", with the formulas of the
published code. Words are runs of letters, digits and apostrophes, and single punctuation marks;
the paper's come from NLTK's tokenizer, which splits contractions as well.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[\w']+|[^\w\s]")
# Weights of the entropies of pairs and triples, and their number, as the code has them.
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def words_of(text: str) -> list[str]:
    """The words of a text.

    >>> words_of("It's in Rome, they say.")
    ["It's", 'in', 'Rome', ',', 'they', 'say', '.']
    """
    return _WORD.findall(text)


def ngram_entropy_bits(words: Sequence[str], n: int) -> float:
    """Entropy of the distribution of a text's n-grams, in bits; 0 of a text that is too short.

    >>> ngram_entropy_bits("a b a b a".split(), 2)
    1.0
    """
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    total = sum(counts.values())
    return math.fsum(c / total * math.log2(total / c) for c in counts.values())


def fluency(text: str) -> float:
    """(2/3 H2 + 4/3 H3) / 2 in bits; low where a text repeats itself.

    The paper prints a hundred times this. It grows with the length of the text: compare only texts
    that were generated with the same settings.
    """
    words = words_of(text)
    weighted = [w * ngram_entropy_bits(words, n) for n, w in _WEIGHTS.items()]
    return sum(weighted) / len(weighted)


def tfidf_cosine(text: str, reference: str) -> float:
    """Cosine of the TF-IDF vectors of two texts, unigrams, from 0 to 1; 0 if one has no words.

    The inverse document frequencies are those of the two texts themselves, smoothed:
    log((1 + 2) / (1 + df)) + 1. Words are lower-cased and have two letters or more, as in
    scikit-learn, which the paper's code uses.

    >>> tfidf_cosine("a tower in Rome", "the Rome tower in") > 0.6
    True
    """
    counts = [Counter(re.findall(r"\b\w\w+\b", t.lower())) for t in (text, reference)]
    idf = {
        word: math.log(3 / (1 + sum(word in c for c in counts))) + 1
        for word in counts[0] | counts[1]
    }
    a, b = ({w: n * idf[w] for w, n in c.items()} for c in counts)
    norm = math.sqrt(math.fsum(x * x for x in a.values()) * math.fsum(x * x for x in b.values()))
    return math.fsum(x * b.get(w, 0.0) for w, x in a.items()) / norm if norm else 0.0

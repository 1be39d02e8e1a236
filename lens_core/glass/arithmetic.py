"""The arithmetic behind one number of a forward pass, spelled out with the real numbers.

    steps = forward_steps(model, "ant bee cat ant")
    print(explain(model, steps, "pattern.1", position=4, column=2))

Each explanation can be worked out again: `worked()` from the exact numbers, `worked(digits=3)` from
those that are shown, as a learner with paper would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lens_core.glass.forward import PER_HEAD, ForwardSteps, Step
from lens_core.model.errors import UnknownSiteError
from lens_core.model.hooked_model import HookedModel

DIGITS = 3
_EXACT = 2e-6  # nearer than this is the same number, but for float32's rounding


@dataclass(frozen=True)
class Term:
    """One product of a sum; `factors` are the numbers, `label` says where they come from."""

    label: str
    factors: tuple[float, ...]


@dataclass(frozen=True)
class Arithmetic:
    """How one number comes about.

    Attributes:
        rule: how the terms are put together: "sum", "scaled sum", "softmax", "norm", "gelu",
            "look up" or "mask".
        terms: those that are not zero.
        n_zero: how many terms were left out because they are zero.
        constant: √d_head of a scaled sum; LayerNorm's epsilon.
        value: the number itself, as the model had it.
    """

    rule: str
    terms: tuple[Term, ...]
    n_zero: int
    constant: float
    value: float

    def worked(self, digits: int | None = None) -> float:
        """The number, worked out from the terms, after rounding each to so many digits."""
        return _RULES[self.rule](self, digits)[0]

    def lines(self, digits: int = DIGITS) -> list[str]:
        """The calculation as text, a line a step."""
        return _RULES[self.rule](self, digits)[1]

    def __str__(self) -> str:
        return "\n".join(self.lines())


@torch.no_grad()
def explain(
    model: HookedModel, steps: ForwardSteps, key: str, *, position: int, column: int, head: int = 0
) -> Arithmetic:
    """The arithmetic of one cell of one step.

    Raises:
        UnknownSiteError: there is no such step or no such cell.
    """
    step = steps[key]
    n_heads = step.tensor.shape[0] if step.name in PER_HEAD else head + 1
    grid = step.grid(head) if 0 <= head < n_heads else step.tensor[..., :0, :]
    if not (0 <= position < grid.shape[0] and 0 <= column < grid.shape[1]):
        raise UnknownSiteError(f"{key} has no cell at position {position}, column {column}.")
    cell = _Cell(model, steps, step, position, column, head)
    rule, terms, constant = cell.parts()
    # The first number of a softmax or a norm is the cell's own and stays, zero or not.
    kept = terms if rule in ("softmax", "norm", "gelu", "look up", "mask") else _non_zero(terms)
    return Arithmetic(
        rule, tuple(kept), len(terms) - len(kept), constant, float(grid[position, column])
    )


Parts = tuple[str, list[Term], float]


@dataclass(frozen=True)
class _Cell:
    model: HookedModel
    steps: ForwardSteps
    step: Step
    position: int
    column: int
    head: int

    def parts(self) -> Parts:
        name = self.step.name
        if name in ("tokens", "embed", "pos_embed"):
            value = float(self.step.tensor[self.position, self.column])
            return "look up", [Term(self._source(), (value,))], 0.0
        if name in ("attn_in", "mlp_in", "ln_final"):
            return self._norm()
        if name == "scores":
            return self._scores()
        if name == "masked":
            return self._mask()
        if name in ("pattern", "probabilities"):
            return self._softmax()
        if name == "mlp_post":
            return "gelu", [Term("mlp_pre", (self._number("mlp_pre", self.column),))], 0.0
        if name in ("resid_pre", "resid_mid", "resid_post"):
            return self._addition()
        return self._projection()

    def _source(self) -> str:
        token, label = self.steps.tokens[self.position], self.step.columns[self.column]
        return {
            "tokens": f"the place of {token} in the vocabulary",
            "embed": f"W_E, row {token}, column {label}",
            "pos_embed": f"W_pos, row {self.position}, column {label}",
        }[self.step.name]

    def _row(self, name: str, *, per_layer: bool = True) -> Tensor:
        layer = self.step.layer
        key = f"{name}.{layer}" if per_layer else name
        return self.steps[key].grid(self.head)[self.position]

    def _number(self, name: str, column: int) -> float:
        return float(self._row(name)[column])

    def _before(self) -> Step:
        """The residual stream that enters this step's block."""
        layer = self.step.layer or 0
        return self.steps["resid_pre.0" if layer == 0 else f"resid_post.{layer - 1}"]

    def _norm(self) -> Parts:
        transformer: Any = self.model.hf_model.transformer
        if self.step.layer is None:
            source = self.steps[f"resid_post.{self.model.cfg.n_layers - 1}"]
            module = transformer.ln_f
        elif self.step.name == "attn_in":
            source, module = self._before(), transformer.h[self.step.layer].ln_1
        else:
            source = self.steps[f"resid_mid.{self.step.layer}"]
            module = transformer.h[self.step.layer].ln_2
        row, c = source.tensor[self.position], self.column
        terms = [
            Term("this number", (float(row[c]),)),
            Term("gain", (float(module.weight[c]),)),
            Term("bias", (float(module.bias[c]),)),
            Term("the whole row", tuple(row.tolist())),
        ]
        return "norm", terms, float(module.eps)

    def _scores(self) -> Parts:
        layer = self.step.layer
        query = self.steps[f"q.{layer}"]
        key = self.steps[f"k.{layer}"].grid(self.head)[self.column].tolist()
        pairs = zip(query.columns, self._row("q").tolist(), key, strict=True)
        return (
            "scaled sum",
            [Term(f"{label}: q × k", (q, k)) for label, q, k in pairs],
            math.sqrt(self.model.cfg.d_head),
        )

    def _mask(self) -> Parts:
        score = self._number("scores", self.column)
        if self.column > self.position:
            return "mask", [Term("later than the row", (score, -math.inf))], 0.0
        return "look up", [Term("the score, kept", (score,))], 0.0

    def _softmax(self) -> Parts:
        row = (
            self._row("masked")
            if self.step.name == "pattern"
            else self._row("logits", per_layer=False)
        )
        terms = [
            Term(label, (value,))
            for label, value in zip(self.step.columns, row.tolist(), strict=True)
        ]
        # The cell's own comes first: its share is asked for.
        own = terms.pop(self.column)
        return "softmax", [own, *terms], 0.0

    def _addition(self) -> Parts:
        name, layer = self.step.name, self.step.layer
        if name == "resid_pre":
            parts = [("embed", self.steps["embed"]), ("pos_embed", self.steps["pos_embed"])]
        elif name == "resid_mid":
            parts = [
                (self._before().name, self._before()),
                ("attn_out", self.steps[f"attn_out.{layer}"]),
            ]
        else:
            parts = [(n, self.steps[f"{n}.{layer}"]) for n in ("resid_mid", "mlp_out")]
        return (
            "sum",
            [Term(n, (float(s.tensor[self.position, self.column]),)) for n, s in parts],
            0.0,
        )

    def _projection(self) -> Parts:
        """A row times a column of weights, and the bias."""
        name, c = self.step.name, self.column
        if name == "attn_out":
            return self._heads_out()
        if name == "z":
            weights = self._row("pattern").tolist()
            values = self.steps[f"v.{self.step.layer}"].grid(self.head)[:, c].tolist()
            pairs = zip(self.steps.tokens, weights, values, strict=True)
            terms = [
                Term(f"{i} {token}: pattern × v", (w, v)) for i, (token, w, v) in enumerate(pairs)
            ]
            return "sum", terms, 0.0
        row, labels, matrix, bias = self._linear()
        terms = [
            Term(f"{label} × weight", (x, w))
            for label, x, w in zip(labels, row.tolist(), matrix[:, c].tolist(), strict=True)
        ]
        return "sum", [*terms, Term("bias", (float(bias[c]),))], 0.0

    def _linear(self) -> tuple[Tensor, Sequence[str], Tensor, Tensor]:
        """The row that is read, what its numbers are called, and the weights and bias."""
        model, layer, name, head = self.model, self.step.layer or 0, self.step.name, self.head
        if name == "logits":
            source = self.steps["ln_final"]
            return self._row("ln_final", per_layer=False), source.columns, model.W_U, model.b_U
        reads = {"q": "attn_in", "k": "attn_in", "v": "attn_in", "mlp_pre": "mlp_in"}
        source_name = reads.get(name, "mlp_post")
        matrix, bias = {
            "q": lambda: (model.W_Q[layer, head], model.b_Q[layer, head]),
            "k": lambda: (model.W_K[layer, head], model.b_K[layer, head]),
            "v": lambda: (model.W_V[layer, head], model.b_V[layer, head]),
            "mlp_pre": lambda: (model.W_in[layer], model.b_in[layer]),
            "mlp_out": lambda: (model.W_out[layer], model.b_out[layer]),
        }[name]()
        return self._row(source_name), self.steps[f"{source_name}.{layer}"].columns, matrix, bias

    def _heads_out(self) -> Parts:
        layer = self.step.layer or 0
        z = self.steps[f"z.{layer}"]
        terms = [
            Term(
                f"{label} × weight" if z.tensor.shape[0] == 1 else f"head {head}, {label} × weight",
                (x, w),
            )
            for head in range(z.tensor.shape[0])
            for label, x, w in zip(
                z.columns,
                z.tensor[head, self.position].tolist(),
                self.model.W_O[layer, head][:, self.column].tolist(),
                strict=True,
            )
        ]
        return "sum", [*terms, Term("bias", (float(self.model.b_O[layer][self.column]),))], 0.0


def _non_zero(terms: Sequence[Term]) -> list[Term]:
    return [term for term in terms if all(term.factors)]


# --- rules: the number and its lines, from terms rounded to so many digits ------------------------

Worked = tuple[float, list[str]]


def _round(value: float, digits: int | None) -> float:
    return value if digits is None or not math.isfinite(value) else round(value, digits)


def number(value: float, digits: int | None = DIGITS) -> str:
    """A number as it is shown: 3 or 0.5 if it is just that, 3.000 if it is nearly that."""
    if not math.isfinite(value):
        return "−∞" if value < 0 else "∞"
    places = 12 if digits is None else digits
    text = f"{abs(value):.{places}f}"
    if abs(abs(value) - float(text)) < _EXACT:
        text = text.rstrip("0").rstrip(".")
    # What is shown as nought has no sign.
    return f"−{text}" if value < 0 and float(text) else text


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Calculations on the left, what they are about on the right, one below the other."""
    width = max((len(left) for left, _ in pairs), default=0)
    return [f"{left.ljust(width)}   {right}" for left, right in pairs]


def _products(a: Arithmetic, digits: int | None) -> tuple[float, list[str]]:
    total, pairs = 0.0, []
    for term in a.terms:
        factors = [_round(f, digits) for f in term.factors]
        product = math.prod(factors)
        total += product
        shown = " × ".join(number(f, digits) for f in factors)
        result = f" = {number(product, digits)}" if len(factors) > 1 else ""
        pairs.append((shown + result, term.label))
    lines = _aligned(pairs)
    if a.n_zero:
        lines.append(f"({a.n_zero} more {'term is' if a.n_zero == 1 else 'terms are'} 0)")
    return total, lines


def _sum(a: Arithmetic, digits: int | None) -> Worked:
    total, lines = _products(a, digits)
    return total, [*lines, f"sum = {number(total, digits)}"]


def _scaled_sum(a: Arithmetic, digits: int | None) -> Worked:
    total, lines = _products(a, digits)
    root = _round(a.constant, digits)
    value = total / root
    end = f"{number(total, digits)} / {number(root, digits)} = {number(value, digits)}   (√d_head)"
    return value, [*lines, f"sum = {number(total, digits)}", end]


def _softmax(a: Arithmetic, digits: int | None) -> Worked:
    scores = [_round(term.factors[0], digits) for term in a.terms]
    exps = [_round(math.exp(score), digits) for score in scores]
    lines = _aligned(
        [
            (f"exp({number(score, digits)}) = {number(e, digits)}", term.label)
            for term, score, e in zip(a.terms, scores, exps, strict=True)
            if math.isfinite(score)
        ]
    )
    hidden = sum(not math.isfinite(score) for score in scores)
    if hidden:
        lines.append(f"({hidden} masked: exp(−∞) = 0)")
    total = sum(exps)
    value = exps[0] / total
    end = f"{number(exps[0], digits)} / {number(total, digits)} = {number(value, digits)}"
    return value, [*lines, f"sum = {number(total, digits)}", end]


def _norm(a: Arithmetic, digits: int | None) -> Worked:
    x, gain, bias = (_round(term.factors[0], digits) for term in a.terms[:3])
    row = [_round(f, digits) for f in a.terms[3].factors]
    mean = _round(sum(row) / len(row), digits)
    squares = sum((f - mean) ** 2 for f in row)
    std = _round(math.sqrt(squares / len(row) + a.constant), digits)
    value = (x - mean) / std * gain + bias
    n = number
    lines = [
        f"mean of the row's {len(row)} numbers = {n(mean, digits)}",
        f"mean of the squared distances from it = {n(squares, digits)} / {len(row)} "
        f"= {n(squares / len(row), digits)}",
        f"its root = {n(std, digits)}",
        f"({n(x, digits)} − {n(mean, digits)}) / {n(std, digits)} = {n((x - mean) / std, digits)}",
    ]
    if (gain, bias) != (1.0, 0.0):
        lines.append(f"× gain {n(gain, digits)} + bias {n(bias, digits)} = {n(value, digits)}")
    return value, lines


def _gelu(a: Arithmetic, digits: int | None) -> Worked:
    x = _round(a.terms[0].factors[0], digits)
    value = float(
        torch.nn.functional.gelu(torch.tensor(x, dtype=torch.float64), approximate="tanh")
    )
    share = value / x if x else 0.5
    lines = [
        f"gelu(x) = x × the share of a normal distribution below x, with x = {number(x, digits)}",
        f"{number(x, digits)} × {number(share, digits)} = {number(value, digits)}",
    ]
    return value, lines


def _look_up(a: Arithmetic, digits: int | None) -> Worked:
    value = _round(a.terms[0].factors[0], digits)
    return value, [f"{number(value, digits)}   {a.terms[0].label}"]


def _mask(a: Arithmetic, digits: int | None) -> Worked:
    score = a.terms[0].factors[0]
    return -math.inf, [
        f"the score was {number(score, digits)}; the column is later than the row: −∞"
    ]


_RULES: dict[str, Callable[[Arithmetic, int | None], Worked]] = {
    "sum": _sum,
    "scaled sum": _scaled_sum,
    "softmax": _softmax,
    "norm": _norm,
    "gelu": _gelu,
    "look up": _look_up,
    "mask": _mask,
}

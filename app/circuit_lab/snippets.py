"""*Show the code*: the circuit's scores as a short script for ``lens_core``, settings included."""

from __future__ import annotations

from app.circuit_lab.prepared import N_REFERENCE, Prepared
from lens_core.circuits import Circuit

MOST_LINES = 40


def circuit_code(ready: Prepared, circuit: Circuit) -> str:
    """A script that scores the circuit as the page does; its result is called ``found``."""
    key = ready.key
    names = ["Circuit", "Knockouts", "faithfulness", "ioi_dataset", "score_table"]
    checks: list[str] = []
    if circuit.nodes:
        names += ["completeness", "minimality"]
        seed = f"seed={key.seed}"
        checks = [
            f"print(completeness(knockouts, circuit, n_random=0, {seed}).to_frame())",
            f"least = minimality(knockouts, circuit, n_random=0, by_role=False, {seed}).to_frame()",
            "print(least)",
        ]
    roles = [f"        {role!r}: {list(nodes)!r}," for role, nodes in circuit.roles.items()]
    lines = [
        "from lens_core import HookedModel",
        f"from lens_core.circuits import ({', '.join(sorted(names))})",
        "",
        f"model = HookedModel.from_pretrained({ready.model.cfg.name!r})",
        "dataset = ioi_dataset(",
        f"    model, {key.n_prompts}, orders={key.orders!r}, distractor={key.distracting!r},",
        f"    n_reference={N_REFERENCE}, seed={key.seed},",
        ")",
        "knockouts = Knockouts(",
        f"    model, dataset, ablation={key.ablation!r}, measure={key.metric!r}, seed={key.seed},",
        ")",
        "circuit = Circuit.of(",
        f"    {circuit.name!r},",
        "    {",
        *roles,
        "    },",
        f"    all_mlps={circuit.all_mlps},",
        ")",
        f"found = faithfulness(knockouts, [circuit, knockouts.whole], seed={key.seed})",
        "print(score_table(found))",
        *checks,
    ]
    return "\n".join(lines) + "\n"

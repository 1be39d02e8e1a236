"""Circuits: which heads do a task, and how good the claim is.

from lens_core.circuits import Knockouts, faithfulness, ioi_dataset, load_circuit, score_table
knockouts = Knockouts(model, ioi_dataset(model, 64))
print(score_table(faithfulness(knockouts, [load_circuit("tiny-world-ioi")])))
"""

from lens_core.circuits.circuit import (
    Circuit,
    Node,
    circuit_names,
    every_node,
    load_circuit,
    named_nodes,
    node_name,
    nodes_text,
    sorted_nodes,
)
from lens_core.circuits.dataset import TemplateDataset, TemplateGroup
from lens_core.circuits.errors import CircuitError
from lens_core.circuits.evidence import HeadEvidence, head_evidence
from lens_core.circuits.ioi import DISTRACTORS, TEMPLATES, ioi_dataset, swapped
from lens_core.circuits.knockout import Knockouts
from lens_core.circuits.scores import (
    Completeness,
    Faithfulness,
    Minimality,
    completeness,
    faithfulness,
    minimality,
    score_table,
)
from lens_core.circuits.search import CircuitSearch, SearchStep, search_circuit
from lens_core.circuits.task import ioi_evidence, ioi_knockouts

__all__ = [
    "DISTRACTORS",
    "TEMPLATES",
    "Circuit",
    "CircuitError",
    "CircuitSearch",
    "Completeness",
    "Faithfulness",
    "HeadEvidence",
    "Knockouts",
    "Minimality",
    "Node",
    "SearchStep",
    "TemplateDataset",
    "TemplateGroup",
    "circuit_names",
    "completeness",
    "every_node",
    "faithfulness",
    "head_evidence",
    "ioi_dataset",
    "ioi_evidence",
    "ioi_knockouts",
    "load_circuit",
    "minimality",
    "named_nodes",
    "node_name",
    "nodes_text",
    "score_table",
    "search_circuit",
    "sorted_nodes",
    "swapped",
]

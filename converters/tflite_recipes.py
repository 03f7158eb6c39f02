"""Which operators of a TFLite network run in integers, and which stay float, told from the graph alone.

Three kinds of operators are told apart. Layers multiply by weights: there the time goes. Carriers (pooling, resizing,
padding, concatenation, the sum of two maps) follow the layers around them, so that no map is converted back and forth.
All others stay float: the statistics of GroupNorm, positions of deformable convolutions and their gathers, sigmoid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from solov2_edge.converters.tflite_graph import Graph, Operator
from solov2_edge.errors import require

__all__ = ["MODES", "Plan", "make_plan"]

MODES = ("integer", "dynamic", "float")
CARRIERS = (
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "MAX_POOL_2D",
    "PAD",
    "PADV2",
    "RELU",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
)
# What may stand between the network's input and its first layer, and between its last layers and its outputs.
PREPARING = ("CAST", "SUB", "ADD", "MUL", "DIV", "PAD", "TRANSPOSE", "RESHAPE", "GATHER", "REVERSE_V2", "CONCATENATION")
ENDING = ("CONCATENATION", "LOGISTIC", "RESHAPE", "TRANSPOSE", "SQUEEZE")
LOOKUPS = {"GATHER": 1, "GATHER_ND": 1}  # operator -> which input holds the indices


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each operator.

    Attributes:
        layers: layer name -> ``"integer"`` (int8 weights, calibrated activations in and out), ``"dynamic"`` (int8
            weights, float activations, quantised by the engine as it runs) or ``"float"``.
        carriers: indices of carriers that run in integers.
        reasons: layer name -> why it is not what was asked for.
    """

    layers: Mapping[str, str]
    carriers: frozenset[int]
    reasons: Mapping[str, str]


def make_plan(graph: Graph, main: str, islands: Mapping[str, str] | None = None) -> Plan:
    """Decide for every operator.

    Layers that position samples (whose results reach the indices of a gather through arithmetic alone) and layers
    over a single position (vectors: statistics) stay float whatever is asked.

    Args:
        graph: the float network.
        main: what layers become by default: ``"integer"`` or ``"dynamic"``.
        islands: layer name -> mode, for layers that become something else; default: :func:`default_islands`.

    Raises:
        InputError: an island names no layer or no mode.
    """
    names = {layer.name for layer in graph.layers}
    chosen = default_islands(graph) if islands is None else islands
    for name, mode in chosen.items():
        require(name in names, f"there is no layer {name!r}; expected {', '.join(sorted(names)[:3])}, ...")
        require(mode in MODES, f"a layer's mode must be one of {', '.join(MODES)}, got {mode!r}")
    reasons = _always_float(graph)
    layers = {layer.name: "float" if layer.name in reasons else chosen.get(layer.name, main) for layer in graph.layers}
    integer = {layer.operator for layer in graph.layers if layers[layer.name] == "integer"}
    return Plan(layers, _carriers(graph, integer), reasons)


def default_islands(graph: Graph) -> dict[str, str]:
    """Return the layers worth an exception: see docs/tflite-int8.md for what they cost and bring.

    The first layer sees pixels, whose faintest differences 8 bits over the whole range wipe out, and has the fewest
    multiplications: float. The last layers' results are read as they are, unnormalised: dynamic, with float results.
    """
    first = _reached_from_input(graph)
    last = _reaching_outputs(graph)
    islands = {layer.name: "dynamic" for layer in graph.layers if layer.operator in last}
    return islands | {layer.name: "float" for layer in graph.layers if layer.operator in first}


def _always_float(graph: Graph) -> dict[str, str]:
    positions = _positions(graph)
    reasons = {}
    for layer in graph.layers:
        source = graph.operators[layer.operator].inputs[0]
        if layer.operator in positions:
            reasons[layer.name] = "it positions samples"
        elif all(side == 1 for side in graph.shapes[source][:-1]):
            reasons[layer.name] = "it works on a single position"
    return reasons


def _positions(graph: Graph) -> set[int]:
    """Return the operators whose results reach a gather's indices, back to and including the layers they come from."""
    waiting = [
        graph.maker(operator.inputs[LOOKUPS[operator.kind]])
        for operator in graph.operators
        if operator.kind in LOOKUPS and len(operator.inputs) > 1
    ]
    layers = {layer.operator for layer in graph.layers}
    found: set[int] = set()
    while waiting:
        operator = waiting.pop()
        if operator is None or operator.index in found:
            continue
        found.add(operator.index)
        if operator.index not in layers:
            waiting += [graph.maker(tensor) for tensor in operator.inputs]
    return found


def _reached_from_input(graph: Graph) -> set[int]:
    """Return the layers that see the network's input after preparation only."""
    reached = set(graph.inputs)
    layers = {layer.operator for layer in graph.layers}
    first = set()
    for operator in graph.operators:
        if reached.intersection(operator.inputs):
            if operator.index in layers:
                first.add(operator.index)
            elif operator.kind in PREPARING:
                reached.update(operator.outputs)
    return first


def _reaching_outputs(graph: Graph) -> set[int]:
    """Return the layers whose results become outputs, merely rearranged or squashed."""
    reaching = set(graph.outputs)
    layers = {layer.operator for layer in graph.layers}
    last = set()
    for operator in reversed(graph.operators):
        if reaching.intersection(operator.outputs):
            if operator.index in layers:
                last.add(operator.index)
            elif operator.kind in ENDING:
                reaching.update(operator.inputs)
    return last


def _carriers(graph: Graph, integer: set[int]) -> frozenset[int]:
    """Return the carriers that take only what is in integers already, or give only to what takes integers."""
    positions = _positions(graph)
    candidates = [o for o in graph.operators if o.index not in positions and _may_carry(graph, o)]
    fed = set(integer)
    for operator in candidates:  # in the order of execution, so that one pass meets whole chains
        makers = graph.makers(operator)
        if makers and all(maker is not None and maker.index in fed for maker in makers):
            fed.add(operator.index)
    feeding = set(fed)
    for operator in reversed(candidates):
        if _gives_only_to(graph, operator, feeding):
            feeding.add(operator.index)
    # A sum of two maps that are both float would convert two maps where its taker converts one.
    while True:
        bad = {
            operator.index
            for operator in candidates
            if operator.index in feeding - fed
            and not (_gives_only_to(graph, operator, feeding) and _sum_takes_from(graph, operator, feeding))
        }
        if not bad:
            return frozenset(feeding - integer)
        feeding -= bad


def _gives_only_to(graph: Graph, operator: Operator, inside: set[int]) -> bool:
    takers = graph.takers(operator)
    final = any(tensor in graph.outputs for tensor in operator.outputs)
    return bool(takers) and not final and all(taker.index in inside for taker in takers)


def _sum_takes_from(graph: Graph, operator: Operator, inside: set[int]) -> bool:
    makers = graph.makers(operator)
    return operator.kind != "ADD" or any(maker is not None and maker.index in inside for maker in makers)


def _may_carry(graph: Graph, operator: Operator) -> bool:
    """Tell whether an operator is a carrier; a sum is one of two computed maps, not GroupNorm's of map and shift."""
    if operator.kind == "ADD":
        sources = graph.activations(operator)
        return len(sources) == 2 and graph.shapes[sources[0]] == graph.shapes[sources[1]]
    return operator.kind in CARRIERS and graph.is_float[operator.outputs[0]]

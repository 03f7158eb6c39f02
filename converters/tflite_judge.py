"""What a TFLite model must pass: parity in the interpreter, and a graph that every delegate can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solov2_edge.converters.damping import DAMPING
from solov2_edge.converters.noise_gate import judge_noise
from solov2_edge.converters.probes import Probes, UnsteadyNetworkError
from solov2_edge.converters.quiet import quiet
from solov2_edge.converters.rewriting import offset_weights
from solov2_edge.converters.tflite_facts import TfliteFacts, read_facts
from solov2_edge.converters.traceable import Traceable
from solov2_edge.errors import GateError
from solov2_edge.manifest import OUTPUT_NAMES
from solov2_edge.runtime.session import RawOutputs

with quiet():
    from ai_edge_litert.interpreter import Interpreter

__all__ = ["check_graph", "check_size", "judge", "judge_integers", "measure"]

MAX_RANK = 4  # of GPU delegates
# Names, shapes and quantisation of a tensor or an operator, which the names of modules make long, and constants that
# are no weights: the positions of sampling grids.
OVERHEAD_PER_PART = 400  # bytes
OVERHEAD = 1.02
THREADS = 2


def judge(flatbuffer: bytes, traceable: Traceable, probes: Probes, stage: str, precision: str) -> dict[str, float]:
    """Return the largest difference from PyTorch per output, as the interpreter runs the model on the probes.

    A network that no probe can judge at float32 is judged with its offsets held still; see
    :mod:`solov2_edge.converters.damping`.

    Args:
        flatbuffer: the model's bytes.
        traceable: what it was made from.
        probes: inputs and PyTorch's outputs for them.
        stage: what was just done, for the message.
        precision: of the model.

    Raises:
        GateError: parity is lost, or the interpreter cannot load or run the model; the message names ``stage``.
    """
    try:
        return probes.judge(stage, _runner(flatbuffer, traceable, stage), precision)
    except UnsteadyNetworkError:
        if precision != "fp32":
            raise
        damped = _damped(flatbuffer, traceable)
        return probes.damped().judge(stage, _runner(damped, traceable, stage), precision)


def judge_integers(
    original: bytes,
    quantised: bytes,
    traceable: Traceable,
    batches: Iterable[NDArray[Any]],
    stage: str,
    precision: str,
) -> dict[str, float]:
    """Compare a calibrated model with its float original on calibration pictures.

    Args:
        original: the float32 model, itself judged against PyTorch.
        quantised: its integer form.
        traceable: what both were made from.
        batches: calibration inputs, of which the first few are taken.
        stage: what was just done, for the message.
        precision: of the quantised model.

    Raises:
        GateError: an output is too noisy, see :func:`~solov2_edge.converters.noise_gate.judge_noise`, or the
            interpreter cannot run the model.
    """
    exact, rounded = (_runner(flatbuffer, traceable, stage) for flatbuffer in (original, quantised))
    return judge_noise(exact, rounded, batches, stage, precision)


def measure(flatbuffer: bytes, traceable: Traceable, probes: Probes) -> dict[str, float]:
    """Return the largest difference from PyTorch per output over the probes, as a part of the range, unjudged."""
    return probes.measure(_runner(flatbuffer, traceable, "measuring it"))


def _runner(flatbuffer: bytes, traceable: Traceable, stage: str) -> Callable[[NDArray[Any]], RawOutputs]:
    name = traceable.contract.name

    def run(batch: NDArray[Any]) -> RawOutputs:
        outputs = signature(**{name: batch})
        return RawOutputs(*(np.array(outputs[output], np.float32) for output in OUTPUT_NAMES))

    def guarded(batch: NDArray[Any]) -> RawOutputs:
        try:
            return run(batch)
        except (RuntimeError, ValueError, KeyError) as error:
            raise _refused(stage, error) from error

    try:
        with quiet():
            interpreter = Interpreter(model_content=flatbuffer, num_threads=THREADS)
            interpreter.allocate_tensors()
            signature = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise _refused(stage, error) from error
    return guarded


def _refused(stage: str, error: Exception) -> GateError:
    return GateError(f"LiteRT cannot run the model after {stage}: {error}; nothing was written")


def _damped(flatbuffer: bytes, traceable: Traceable) -> bytes:
    """Return the model with the weights of its offset convolutions scaled down, found by what they are."""
    for weight in offset_weights(traceable):
        stored = weight.permute(0, 2, 3, 1).contiguous().numpy()
        if flatbuffer.count(stored.tobytes()) != 1:
            raise GateError(
                "the weights of an offset convolution are not in the model as they were; nothing was written"
            )
        flatbuffer = flatbuffer.replace(stored.tobytes(), (stored * np.float32(DAMPING)).tobytes())
    return flatbuffer


def check_graph(flatbuffer: bytes) -> TfliteFacts:
    """Refuse a model that a delegate would stumble over.

    Returns:
        What the model consists of.

    Raises:
        GateError: custom operators (TensorFlow's Flex ones too), tensors of rank above 4 or of unknown size, or
            transposes elsewhere than at the input and the outputs.
    """
    facts = read_facts(flatbuffer)
    faults = []
    if facts.custom_ops:
        faults.append(f"custom operators {', '.join(facts.custom_ops)}")
    if facts.max_rank > MAX_RANK:
        faults.append(f"tensors of rank {facts.max_rank}")
    if facts.inner_transposes:
        faults.append(f"{facts.inner_transposes} transposes inside the network")
    if facts.dynamic_tensors:
        faults.append(f"{facts.dynamic_tensors} tensors of unknown size")
    if faults:
        raise GateError(f"the converter wrote {' and '.join(faults)}, which delegates refuse; nothing was written")
    return facts


def check_size(flatbuffer: bytes, parameters: int, width: int) -> None:
    """Raise :class:`GateError` unless every weight is stored once, though the head runs on five levels.

    Args:
        flatbuffer: the finished model.
        parameters: numbers the traced network holds, its constants included.
        width: bytes per number: 4 for float32, 2 for float16.
    """
    facts = read_facts(flatbuffer)
    parts = sum(facts.ops.values()) + sum(facts.tensor_types.values())
    limit = int(OVERHEAD * width * parameters) + OVERHEAD_PER_PART * parts
    if len(flatbuffer) > limit:
        raise GateError(
            f"the model takes {len(flatbuffer)} bytes where its {parameters} numbers and {parts} parts allow {limit}: "
            "weights are stored more than once; nothing was written"
        )

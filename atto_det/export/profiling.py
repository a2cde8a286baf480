"""Graphs of ONNX files timed node by node, by the runtimes' own profilers; PyTorch by torch's.

What a node is comes from the file: a run without optimisation gives the shapes of every
convolution and product, and so their multiply-adds. A runtime joins nodes and renames them, but its
names still tell which one of the file it is.
"""

import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from atto_det.complexity.benchmarking import SEED, BenchmarkCase, Unavailable
from atto_det.complexity.operators import ProfiledCall
from atto_det.complexity.profile import PRODUCTS, Limit, NodeTime, Profile, convolution, kind_of
from atto_det.errors import UserError

from .benchmark import RUNTIME_OF_MODE, contestant
from .onnx_export import OPSET
from .runtimes import BF16, GPU, compiled_model, one_sentence, session

WIDTH, SIDE = 128, 80  # channels and cells of the plain convolution
PLAIN = f"3x3 convolution of {WIDTH} channels, {{}}"
PRODUCT = 1024  # side of the matrices
COPIED = 2**26  # bytes
ADDED = re.compile(r"^fused |(_token_\d+|_nchwc|/WithoutBiases)$")  # by the runtimes to names
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
JOINED = ("Add", "Clip", "Mul", "Relu")  # with the one before, whose name is lost
MULTIPLYING = re.compile("Conv(?!ert)|Deconv|FullyConnected|Gemm|MatMul")
# On a GPU the profilers only see when its work is ordered.
GRAPHS = {mode: how for mode, how in RUNTIME_OF_MODE.items() if how[0] not in GPU}
Weighted = dict[str, tuple[str, int]]  # node of the file: kind, multiply-adds


def profile(
    cases: Sequence[BenchmarkCase],
    *,
    repeats: int,
    threads: int | None = None,
    others: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    say: Callable[[str], None] = print,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[list[Profile], list[Limit]]:
    """Profile cases in turn, beside a plain 3x3 convolution in each of their modes and the limits
    of the machine: a matrix product and a copy.

    Args:
        repeats: rounds, of which the shortest time of each node counts, or in PyTorch the shortest
            round.
        others: modes of PyTorch in other engines, each with the function that makes their
            contestants from a case and a number of threads.

    Raises:
        UserError: as `ExportedDetector` and `ForeignNetwork`, or no case can be profiled here;
            single ones are left out with a line.
    """
    makers = {"torchvision": contestant} | dict(others)
    profiled: list[_InRuntime | _InPyTorch] = []
    for case in cases:
        say(f"building {case.name}")
        try:
            if case.mode in makers:
                profiled.append(_InPyTorch(case, threads, makers[case.mode]))
            elif case.mode in GRAPHS:
                profiled.append(_InRuntime(case, threads))
            else:
                raise Unavailable(f"{case.mode} is not profiled")
        except Unavailable as reason:
            say(f"left out {case.name}: {reason}")
    if not profiled:
        known = ", ".join([*makers, *GRAPHS])
        raise UserError(
            f"nothing can be profiled here: add --modes, of {known}, or pip install "
            "'atto_det[onnx]'"
        )
    modes = dict.fromkeys(one.case.mode for one in profiled)
    plain = [_PlainConvolution(mode, threads) for mode in modes if mode in GRAPHS]
    machine = {
        f"matrix product of {PRODUCT}, PyTorch": (_product(), {"macs": PRODUCT**3}),
        f"copy of {COPIED // 2**20} MiB, PyTorch": (_copy(), {"moved": 2 * COPIED}),
    }
    if not makers.keys().isdisjoint(modes):
        work = (_plain(), {"macs": WIDTH * WIDTH * 9 * SIDE * SIDE})
        machine = {PLAIN.format("PyTorch"): work} | machine
    clocks: dict[str, list[float]] = {name: [] for name in machine}
    for _ in progress(range(repeats)):
        for one in profiled:
            one.run()
        for network in plain:
            network.run()
        for name, (work, _) in machine.items():
            begin = time.perf_counter()
            work()
            clocks[name].append(time.perf_counter() - begin)
    limits = [network.limit() for network in plain]
    limits += [Limit(name, min(clocks[name]), **done) for name, (_, done) in machine.items()]
    return [one.profile() for one in profiled], limits


class _InRuntime:
    """A case whose graph a runtime runs and profiles."""

    def __init__(self, case: BenchmarkCase, threads: int | None) -> None:
        self.case, self._detector = case, contestant(case, threads, opened=self._open)

    def _open(self, path: str | Path, runtime: str, threads: int = 0) -> "ProfiledGraph":
        self._graph = ProfiledGraph(path, runtime, threads)
        return self._graph

    def run(self) -> None:
        self._detector.run(lambda name: None)

    def profile(self) -> Profile:
        """Ends the profiling."""
        return Profile(self.case.name, min(self._graph.seconds), self._graph.nodes())


class _InPyTorch:
    """A case that PyTorch runs and profiles, operator by operator."""

    def __init__(self, case: BenchmarkCase, threads: int | None, make: Callable[..., Any]) -> None:
        if case.device != "cpu":
            raise Unavailable("PyTorch is profiled on a CPU")
        detector = make(case, threads)
        self.case, self.run = case, ProfiledCall(partial(detector.run, lambda name: None))

    def profile(self) -> Profile:
        """Of the shortest run."""
        return Profile(self.case.name, self.run.seconds, self.run.nodes())


class ProfiledGraph:
    """The graph of an ONNX file as a function of its one input, each node of which is timed.

    Args:
        path: needed only until the object is made.
        runtime: as of `runtimes.open_runtime`.
        threads: 0 leaves it to the runtime.

    Attributes:
        seconds: of each run.

    Raises:
        UserError: as `runtimes.open_runtime`.
    """

    def __init__(self, path: str | Path, runtime: str, threads: int = 0) -> None:
        self._what = (path, runtime)
        self._folder = tempfile.TemporaryDirectory()
        with one_sentence(path, runtime):
            self._file = _File(path, self._folder.name)
            if runtime == "onnxruntime":
                self._graph = _OnnxRuntime(path, threads, self._folder.name)
            else:
                self._graph = _OpenVino(path, threads, bf16=runtime == BF16)
        self._weighted: Weighted | None = None
        self.seconds: list[float] = []

    def __call__(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name; the first call also counts multiply-adds and is not among the runs."""
        with one_sentence(*self._what):
            if self._weighted is None:
                self._weighted = self._file.count(value)
                return self._graph.run(value)
            begin = time.perf_counter()
            outputs = self._graph.run(value)
            self.seconds.append(time.perf_counter() - begin)
        return outputs

    def nodes(self) -> list[NodeTime]:
        """What was executed, each with the shortest of its times; ends the profiling."""
        found = []
        weighted = dict(self._weighted or {})
        for name, others, operator, seconds in self._graph.times(len(self.seconds)):
            names = (name, *others) if MULTIPLYING.search(operator) else ()
            own = next(filter(None, map(self._file.origin, names)), None)
            kind, macs = weighted.pop(own, ("", 0)) if own else ("", 0)
            found.append(NodeTime(name, operator, kind or kind_of(operator), seconds, macs))
        return found


class _File:
    """The nodes of an ONNX file that multiply."""

    def __init__(self, path: str | Path, folder: str) -> None:
        import onnx
        import onnxruntime

        graph = onnx.load(path, load_external_data=False).graph
        self._nodes = {node.name: node for node in graph.node}
        self._shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        disabled = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session, _ = session(path, profile=f"{folder}/shapes", optimisation=disabled)

    def count(self, value: np.ndarray) -> Weighted:
        """Kind and multiply-adds of each, by its name, for one input."""
        [name] = (item.name for item in self._session.get_inputs())
        self._session.run(None, {name: value})
        return {
            event["name"]: found
            for event in node_events(self._session)
            if (found := self._weigh(event))
        }

    def _weigh(self, event: dict[str, Any]) -> tuple[str, int] | None:
        operator, node = event["args"]["op_name"], self._nodes.get(event["name"])
        inputs, outputs = (
            [list(*shape.values()) for shape in event["args"][key]]
            for key in ("input_type_shape", "output_type_shape")
        )
        if operator in ("Conv", "ConvTranspose"):
            places = math.prod((outputs if operator == "Conv" else inputs)[0])
            # Repacked weights are not among the inputs; in 8 bits the weights are no constant.
            weights = self._shapes.get(node.input[1]) or inputs[1]
            channels = inputs[0][1] if operator == "Conv" else None
            return convolution(weights, channels), places * math.prod(weights[1:])
        if operator in ("Gemm", "MatMul"):
            return PRODUCTS, math.prod(outputs[0]) * inputs[0][-1]
        return None

    def origin(self, name: str) -> str | None:
        """The node of the file that multiplies, of a runtime's name for it or for its output."""
        while (bare := ADDED.sub("", name)) != name:
            name = bare
        node = self._makers.get(name) or self._nodes.get(name)
        while node is not None and node.op_type in JOINED:
            made = (self._makers[value] for value in node.input if value in self._makers)
            node = next(made, None)
        return node.name if node is not None and node.op_type in WEIGHTED else None


def node_events(profiled: Any) -> list[dict[str, Any]]:
    """What ONNX Runtime wrote of the nodes of a session, by their names; its profiling ends."""
    content, end = json.loads(Path(profiled.end_profiling()).read_bytes()), "_kernel_time"
    return [
        event | {"name": event["name"].removesuffix(end)}
        for event in content
        if event.get("cat") == "Node" and event["name"].endswith(end)
    ]


class _OnnxRuntime:
    """A graph in ONNX Runtime with its profiler."""

    def __init__(self, path: str | Path, threads: int, folder: str) -> None:
        self._session, self.run = session(path, threads, profile=f"{folder}/times")

    def times(self, runs: int) -> list[tuple[str, list[str], str, float]]:
        """Name, further names, operator and seconds of each node."""
        every: dict[tuple[str, str], list[float]] = {}
        operators = {}
        for event in node_events(self._session):
            key = (event["args"]["node_index"], event["name"])
            every.setdefault(key, []).append(event["dur"] / 1e6)
            operators[key] = event["args"]["op_name"]
        return [
            (key[1], [], operators[key], _shortest(seconds, runs + 1))
            for key, seconds in every.items()
        ]


class _OpenVino:
    """A graph in OpenVINO with its counters."""

    def __init__(self, path: str | Path, threads: int, bf16: bool) -> None:
        model, names = compiled_model(path, threads, bf16=bf16, PERF_COUNT=True)
        self._request, self._names = model.create_infer_request(), names
        self._joined = {}
        for node in model.get_runtime_model().get_ops():
            joined = node.get_rt_info()["originalLayersNames"].value
            self._joined[node.get_friendly_name()] = str(joined).split(",")
        self._times: dict[str, list[float]] = {}
        self._operators: dict[str, str] = {}

    def run(self, value: np.ndarray) -> dict[str, np.ndarray]:
        [name], outputs = self._names
        result = self._request.infer({name: value})
        for node in self._request.profiling_info:
            if node.status == node.Status.EXECUTED:
                self._times.setdefault(node.node_name, []).append(node.real_time.total_seconds())
                self._operators[node.node_name] = node.node_type
        return {name: np.array(result[name]) for name in outputs}

    def times(self, runs: int) -> list[tuple[str, list[str], str, float]]:
        """Name, further names, operator and seconds of each node."""
        return [
            (name, self._joined.get(name, []), self._operators[name], _shortest(times, runs + 1))
            for name, times in self._times.items()
        ]


def _shortest(seconds: list[float], runs: int) -> float:
    """Of a node's times; one that is executed several times in a run counts on average."""
    return min(seconds) if len(seconds) <= runs else sum(seconds) / runs


class _PlainConvolution:
    """3x3, from `WIDTH` channels to as many on `SIDE` times `SIDE` cells, in one mode."""

    def __init__(self, mode: str, threads: int | None) -> None:
        runtime, int8 = GRAPHS[mode]
        self.name = PLAIN.format(mode)
        noise = np.random.default_rng(SEED).random((1, WIDTH, SIDE, SIDE), dtype=np.float32)
        self._value = noise
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plain.onnx"
            network = _plain_network()
            torch.onnx.export(
                network, (torch.as_tensor(noise),), path, opset_version=OPSET, dynamo=False
            )
            if int8:
                from .quantise import quantise

                quantise(path, path, [noise], detector=False)
            self._graph = ProfiledGraph(path, runtime, threads or 0)
        self.run()

    def run(self) -> None:
        self._graph(self._value)

    def limit(self) -> Limit:
        """Of the convolution alone, without what brings its input into another layout."""
        [node] = (node for node in self._graph.nodes() if node.macs)
        return Limit(self.name, node.seconds, macs=node.macs)


def _plain_network() -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1).eval().requires_grad_(False)


def _plain() -> Callable[[], Any]:
    return partial(_plain_network(), torch.rand(1, WIDTH, SIDE, SIDE))


def _product() -> Callable[[], Any]:
    matrix = torch.ones(PRODUCT, PRODUCT)
    return lambda: matrix @ matrix


def _copy() -> Callable[[], Any]:
    source, target = (torch.ones(COPIED, dtype=torch.uint8) for _ in range(2))
    return lambda: target.copy_(source)

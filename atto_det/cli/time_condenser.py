"""Time a condenser against an AttoNet module, by part.

Both have equal multiply-adds, and run alone in PyTorch and in ONNX Runtime, in single precision and
in 8 bits, on one thread. Times are of the processor, so that other programs disturb them little.

atto-det time-condenser --network attendnet_a --size 400 544 --output results/condenser_cpu.json
"""

import argparse
import copy
import json
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

from atto_det.cli import output_file, verb_parser
from atto_det.errors import UserError, command_line, write_file

if TYPE_CHECKING:
    from torch import Tensor, nn

# What the names of the nodes that do a part's work contain; other nodes only move memory.
PARTS = {
    "M: down-mixing": "/down/",
    "C: max pooling": "MaxPool",
    "E: grouped convolution": "/embed/group/",
    "E: 1x1 convolution": "/embed/point/",
    "sigmoid, S": ("Sigmoid", "/Mul_output", "/Mul "),
    "X: unpooling": ("Resize", "Slice", "Upsample"),
    "F: product": "/Mul_1",
    "M': up-mixing": "/up/",
    "compress": "/compress/",
    "depthwise": "/depthwise/",
    "mix": "/mix/",
    "expand": "/expand/",
    "sum, ReLU": ("/Add", "/relu/"),
}
MODES = ("pytorch", "onnxruntime", "onnxruntime int8")
RUNTIME_MODES = MODES[1:]
MOVES = ("Reorder", "Transpose", "QuantizeLinear", "DequantizeLinear")
OTHER_WORK = "layout, rounding"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("time-condenser", __doc__)
    add = result.add_argument
    add("--network", default="attendnet_a", help="whose first condenser of each stage is timed")
    add("--size", type=int, nargs=2, default=(400, 544), metavar="N", help="of the picture, H W")
    add("--runs", type=int, default=30, help="of which the median counts (default: 30)")
    add("--output", type=output_file, metavar="FILE", help="write JSON")
    return result


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Time, print, and write a file where asked to."""
    args = parser().parse_args(arguments)
    if min(*args.size, args.runs) < 1:
        raise UserError("--size and --runs must be at least 1")

    import torch

    from atto_det.nets import STAGES, CondenserSpec, get_spec
    from atto_det.nets.backbone import STRIDES
    from atto_det.reports.grid import Grid, print_grids
    from atto_det.weights.checkpoint import versions

    torch.set_num_threads(1)
    spec = get_spec(args.network, "--network")
    stages = {
        stage: next((m for m in getattr(spec, stage) if isinstance(m, CondenserSpec)), None)
        for stage in STAGES
    }
    if not any(stages.values()):
        raise UserError(f"{args.network} has no condenser: name an AttendNet")
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for stage, condenser in stages.items():
            if condenser is None:
                continue
            height, width = (-(-side // STRIDES[stage]) for side in args.size)
            pair, macs = _pair(condenser, height, width)
            x = torch.randn(1, condenser.up, height, width).relu()
            for name, block in pair.items():
                case = {"stage": stage, "block": name, "size": (height, width), "macs": macs[name]}
                cases.append((case, _modes(block, x, Path(folder) / f"{stage}-{name}")))
        results = _times(cases, args.runs)
    for one in results:
        times = ", ".join(f"{mode} {one[mode]:.2f} ms" for mode in MODES)
        print(f"{one['stage']} {one['block']} ({one['macs'] / 1e6:.1f} M multiply-adds): {times}")
    for mode in RUNTIME_MODES:
        names = [f"{one['stage']} {one['block']}" for one in results]
        parts = [
            part
            for part in (*PARTS, OTHER_WORK)
            if any(part in r[f"{mode} parts"] for r in results)
        ]
        lines = [
            (part, *(_milliseconds(one[f"{mode} parts"].get(part)) for one in results))
            for part in parts
        ]
        print_grids([Grid(f"{mode}, ms", ("part", *names), (*lines,))])
    if args.output:
        content = {"command": sys.argv, "versions": versions(), "threads": 1, "blocks": results}
        write_file(args.output, json.dumps(content, indent=1) + "\n")
        print(f"wrote {args.output}")
    return 0


def _pair(spec: Any, height: int, width: int) -> tuple[dict[str, "nn.Module"], dict[str, int]]:
    """A condenser, and the AttoNet module of one `compress` and `mix` nearest in multiply-adds."""
    import torch
    from torch import nn

    from atto_det.complexity.count import count
    from atto_det.nets import AttoModuleSpec
    from atto_det.ops.fold_norms import folded

    x = torch.empty(1, spec.up, height, width, device="meta")

    def macs(block: nn.Module) -> int:
        return count([("", block.to("meta"), (x,))])[0].macs

    def build(one: Any) -> nn.Module:
        torch.manual_seed(0)
        block = one.build(spec.up, opens=False, stride=1, norm="BN").eval()
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.0)
                nn.init.normal_(module.bias, std=0.2)
        return block

    wanted = macs(build(spec))
    per_pixel = wanted / (height * width)  # = c · (2 · up + 36 + 4 · c)
    side = spec.up + 18
    compress = max(1, round((-side + (side**2 + 4 * per_pixel) ** 0.5) / 4))
    specs = {"condenser": spec, "module": AttoModuleSpec(compress, 4, compress, spec.up)}
    blocks = {name: folded(build(one)) for name, one in specs.items()}
    return blocks, {name: macs(build(one)) for name, one in specs.items()}


class _Mode(NamedTuple):
    """A block as one mode runs it.

    Attributes:
        call: runs it.
        profiled: an ONNX Runtime session that keeps the time of each node; None in PyTorch.
        profile: runs it in that session.
    """

    call: Callable[[], Any]
    profiled: Any = None
    profile: Callable[[], Any] | None = None


def _modes(block: "nn.Module", x: "Tensor", path: Path) -> dict[str, _Mode]:
    """A block in each mode; files begin with `path`."""
    import torch

    from atto_det.export.quantise import quantise
    from atto_det.export.rewrite import for_8_bits
    from atto_det.export.runtimes import session

    layout = torch.channels_last
    eager = copy.deepcopy(block).to(memory_format=layout)
    value = x.contiguous(memory_format=layout)
    result = {MODES[0]: _Mode(torch.no_grad()(lambda: eager(value)))}
    for mode, net in zip(RUNTIME_MODES, (block, for_8_bits(block)), strict=True):
        file = path.with_name(f"{path.name} {mode}.onnx")
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            axes = {"x": {2: "height", 3: "width"}}
            torch.onnx.export(
                net, (x,), file, opset_version=18, dynamo=False, input_names=["x"],
                dynamic_axes=axes,
            )  # fmt: skip
        if mode == RUNTIME_MODES[1]:
            quantise(file, file, [x.numpy()], detector=False)
        profiled, profile = session(file, 1, profile=str(file.with_suffix("")))
        run = session(file, 1)[1]
        result[mode] = _Mode(partial(run, x.numpy()), profiled, partial(profile, x.numpy()))
    return result


def _times(cases: list[tuple[dict[str, Any], dict[str, _Mode]]], runs: int) -> list[dict[str, Any]]:
    """Each case with its milliseconds in each mode, and in each part where the runtime says so.

    All take turns, so that a machine that grows slower is as slow for all.
    """
    times = defaultdict(list)
    for turn in range(-1, runs):  # the first is a warm-up
        for number, (_, modes) in enumerate(cases):
            for name, mode in modes.items():
                start = thread_time()
                mode.call()
                taken = 1e3 * (thread_time() - start)
                if turn >= 0:
                    times[number, name].append(taken)
                    if mode.profile:
                        mode.profile()
    return [
        case
        | {name: median(times[number, name]) for name in modes}
        | {f"{name} parts": _parts(mode.profiled) for name, mode in modes.items() if mode.profiled}
        for number, (case, modes) in enumerate(cases)
    ]


def _parts(session: Any) -> dict[str, float]:
    """Milliseconds by part, from ONNX Runtime's own profile.

    It has the time of the clock, in which other programs run too: the shortest of all runs counts.
    """
    from atto_det.export.profiling import node_events

    nodes = defaultdict(list)
    for event in node_events(session):
        nodes[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    parts: dict[str, float] = defaultdict(float)
    for (name, kind), times in nodes.items():
        parts[_part(name, kind)] += min(times)
    return dict(parts)


def _milliseconds(time: float | None) -> str:
    return "–" if time is None else f"{time:.3f}"


def _part(name: str, kind: str) -> str:
    """The part that a node belongs to."""
    if kind.startswith(MOVES):
        return OTHER_WORK
    if "Conv" in kind and "Sigmoid" in name:  # in single precision they are one node
        return "E: 1x1 convolution"
    for part, marks in PARTS.items():
        if any(mark in f"{name} " for mark in ((marks,) if isinstance(marks, str) else marks)):
            return part
    return OTHER_WORK

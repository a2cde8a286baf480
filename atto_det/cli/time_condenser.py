"""Time a condenser against an AttoNet module, by part.

Both have equal multiply-adds, and run alone in PyTorch and in ONNX Runtime, in single precision and
in 8 bits, on one thread. Times are of the processor, so that other programs disturb them little.

atto-det time-condenser --network attendnet_a --size 400 544 --output results/condenser_cpu.json
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import median
from time import thread_time
from typing import TYPE_CHECKING, Any

from atto_det.cli import verb_parser
from atto_det.errors import UserError, atomic_path, command_line

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of the names of nodes in the ONNX graph: what does a part's work. The others move memory about.
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
MOVES = ("Reorder", "Transpose", "QuantizeLinear", "DequantizeLinear")
OTHER_WORK = "layout, rounding"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("time-condenser", __doc__)
    add = result.add_argument
    add("--network", default="attendnet_a", help="whose first condenser of each stage is timed")
    add("--size", type=int, nargs=2, default=(400, 544), metavar="N", help="of the picture, H W")
    add("--runs", type=int, default=30, help="of which the median counts (default: 30)")
    add("--output", type=Path, metavar="FILE", help="write JSON")
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
    results = []
    for stage, condenser in stages.items():
        if condenser is None:
            continue
        height, width = (-(-side // STRIDES[stage]) for side in args.size)
        pair, macs = _pair(condenser, height, width)
        x = torch.randn(1, condenser.up, height, width).relu()
        for name, block in pair.items():
            timed = _times(block, x, args.runs)
            results.append(
                {"stage": stage, "block": name, "size": (height, width), "macs": macs[name]} | timed
            )
            modes = ("pytorch", "onnxruntime", "onnxruntime int8")
            times = ", ".join(f"{mode} {timed[mode]:.2f} ms" for mode in modes)
            print(f"{stage} {name} ({macs[name] / 1e6:.1f} M multiply-adds): {times}", flush=True)
    for mode in ("onnxruntime", "onnxruntime int8"):
        names = [f"{one['stage']} {one['block']}" for one in results]
        parts = [
            part
            for part in (*PARTS, OTHER_WORK)
            if any(part in r[f"{mode} parts"] for r in results)
        ]
        lines = [
            (part, *(f"{one[f'{mode} parts'].get(part, 0):.3f}" for one in results))
            for part in parts
        ]
        print_grids([Grid(f"{mode}, ms", ("part", *names), (*lines,))])
    if args.output:
        content = {"command": sys.argv, "versions": versions(), "threads": 1, "blocks": results}
        with atomic_path(args.output) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
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


def _times(block: "nn.Module", x: "Tensor", runs: int) -> dict[str, Any]:
    """Milliseconds in each mode, and in each part where the runtime says so."""
    import torch

    from atto_det.export.quantise import quantise
    from atto_det.export.rewrite import for_8_bits

    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        layout = torch.channels_last
        inner, value = block.to(memory_format=layout), x.contiguous(memory_format=layout)
        result: dict[str, Any] = {"pytorch": _median(lambda: inner(value.clone()), runs)}
        block = block.to(memory_format=torch.contiguous_format)
        for mode, net in (("onnxruntime", block), ("onnxruntime int8", for_8_bits(block))):
            path = Path(folder) / f"{len(result)}.onnx"
            with warnings.catch_warnings(action="ignore"):
                axes = {"x": {2: "height", 3: "width"}}
                torch.onnx.export(
                    net, (x,), path, opset_version=18, dynamo=False, input_names=["x"],
                    dynamic_axes=axes,
                )  # fmt: skip
            if mode.endswith("int8"):
                quantise(path, path, [x.numpy()], detector=False)
            inputs = {"x": x.numpy()}
            session = _session(path)
            result[mode] = _median(lambda s=session, i=inputs: s.run(None, i), runs)
            result[f"{mode} parts"] = _parts(path, inputs, runs, Path(folder))
    return result


def _median(call: Any, runs: int) -> float:
    """Milliseconds of this thread's processor time."""
    call()
    times = []
    for _ in range(runs):
        start = thread_time()
        call()
        times.append(1e3 * (thread_time() - start))
    return median(times)


def _session(path: Path, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _parts(path: Path, inputs: dict[str, Any], runs: int, folder: Path) -> dict[str, float]:
    """Milliseconds by part, from ONNX Runtime's own profile."""
    session = _session(path, folder / "profile")
    for _ in range(runs):
        session.run(None, inputs)
    nodes = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            nodes[name, event["args"]["op_name"]].append(event["dur"] / 1e3)
    parts: dict[str, float] = defaultdict(float)
    for (name, kind), times in nodes.items():
        parts[_part(name, kind)] += median(times)
    return dict(parts)


def _part(name: str, kind: str) -> str:
    """The part that a node belongs to."""
    if kind.startswith(MOVES):
        return OTHER_WORK
    for part, marks in PARTS.items():
        if any(mark in f"{name} " for mark in ((marks,) if isinstance(marks, str) else marks)):
            return part
    return OTHER_WORK

"""Pictures per second of classifiers beside MobileNet-V2.

Training and inference, in one run.

atto-det throughput
atto-det throughput --networks attonet_a attonet_d --input 96 --batch 32 --output speed.json
"""

import argparse
import json
import sys

from atto_det.cli import output_file, verb_parser
from atto_det.errors import UserError, command_line, write_file

BASELINE = "mobilenetv2_100"
DEFAULT = ("attonet_a", "attonet_b", "attonet_c", "attonet_d")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    result = verb_parser("throughput", __doc__)
    result.add_argument("--networks", nargs="+", default=DEFAULT, metavar="NAME")
    result.add_argument("--input", type=int, default=224, help="side in pixels")
    result.add_argument("--batch", type=int, default=32)
    result.add_argument("--threads", type=int, help="of the CPU; default: torch's choice")
    result.add_argument("--repeats", type=int, default=10)
    result.add_argument("--device", default="cpu", help="cpu or cuda")
    result.add_argument("--output", type=output_file, metavar="JSON")
    return result


@command_line
def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    args = parser().parse_args(arguments)
    if min(args.input, args.batch, args.repeats, args.threads or 1) < 1:
        raise UserError("--input, --batch, --repeats and --threads must be at least 1")
    import torch
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from atto_det.config import check_device
    from atto_det.nets.registry import short_name
    from atto_det.pretraining.networks import found_network
    from atto_det.pretraining.throughput import speeds
    from atto_det.weights.checkpoint import versions

    check_device(args.device, "--device")
    if args.batch == 1 and args.input <= 32:
        raise UserError("a batch norm cannot train on one pixel: set a larger --batch or --input")
    if args.threads:
        torch.set_num_threads(args.threads)
    own = (found_network(name, "NETWORK") for name in args.networks)
    names = list(dict.fromkeys((BASELINE, *own)))
    found = speeds(
        names,
        input_size=args.input,
        batch=args.batch,
        repeats=args.repeats,
        device=args.device,
        progress=lambda rounds: track(rounds, "measuring"),
    )
    setting = {
        "input": args.input,
        "batch": args.batch,
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "repeats": args.repeats,
    }
    table = Table(title=", ".join(f"{key} {value}" for key, value in setting.items()))
    for column in ("network", "MACs (M)", "training (images/s)", "×", "inference (images/s)", "×"):
        table.add_column(column, justify="left" if column == "network" else "right")
    rows = []
    for speed in found:
        row = {"network": speed.network, "macs": speed.macs}
        cells = [short_name(speed.network), f"{speed.macs / 1e6:.1f}"]
        for kind in ("training", "inference"):
            timing, base = getattr(speed, kind), getattr(found[0], kind)
            ratio = timing.throughput / base.throughput
            row[kind] = {
                "images_per_second": timing.throughput,
                "ratio": ratio,
                "median_seconds": timing.median,
                "p95_seconds": timing.p95,
            }
            cells += [f"{timing.throughput:.1f}", f"{ratio:.2f}"]
        rows.append(row)
        table.add_row(*cells)
    Console().print(table)
    if args.output:
        content = {"networks": rows, **setting, "command": sys.argv, "versions": versions()}
        write_file(args.output, json.dumps(content, indent=2) + "\n")
        print(f"wrote {args.output}")

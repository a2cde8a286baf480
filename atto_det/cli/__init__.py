"""`atto-det`: one command, with a verb for each task.

A verb is a module of this package with a function `main(arguments)`; the first line of its
docstring is shown in `atto-det --help`. A module imports torch and other large packages only after
`main` has parsed its arguments, so that every help text appears at once.
"""

import argparse
import difflib
import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import atto_det
from atto_det.errors import UserError, command_line

GROUPS = {
    "data": ("prepare-voc", "make-mini-voc", "make-imagenet50"),
    "detectors": ("demo", "train", "evaluate", "visualize", "configs"),
    "results": ("plot-training", "analyze-errors", "compare"),
    "classifiers": (
        *("pretrain", "table2", "throughput", "robustness"),
        "reconstruct-attendnets",
    ),
    "model zoo": ("zoo", "add-to-zoo"),
    "design exploration": ("explore",),
    "costs and speed": ("analyze", "benchmark", "time-condenser"),
    "on the device": ("export", "infer", "evaluate-onnx", "time-onnx"),
}
RUNTIME_HELP = (
    "onnxruntime (default), onnxruntime-cuda, onnxruntime-tensorrt, openvino, openvino-bf16"
)
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)


def module_of(verb: str) -> ModuleType:
    """The module that implements a verb."""
    return importlib.import_module(f"{__name__}.{verb.replace('-', '_')}")


def verb_parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """A parser without flags for a verb, which shows its docstring unchanged."""
    result = argparse.ArgumentParser(
        prog=f"atto-det {verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # argparse takes -1 for a value, but -1e-3, -.5 and -inf for flags.
    result._negative_number_matcher = re.compile(
        r"-(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$|-inf$", re.I
    )
    return result


def output_file(text: str) -> Path:
    """The type of a flag for a file that is written after long work, if it can be written."""
    path = Path(text)
    whole = path.absolute()
    above = next((folder for folder in whole.parents if os.access(folder, os.F_OK)), whole)
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{above} is a file, not a folder: choose another place")
    if not os.access(above, os.W_OK):
        raise argparse.ArgumentTypeError(f"{above} may not be written to: choose another place")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: give a file")
    return path


def output_folder(text: str) -> Path:
    """As `output_file`, for a folder of files."""
    return output_file(str(Path(text) / "file")).parent


def parser() -> argparse.ArgumentParser:
    """The parser for the command before its verb."""
    lines, width = [], max(map(len, VERBS))
    for group, verbs in GROUPS.items():
        lines += ["", f"{group}:"]
        for verb in verbs:
            lines.append(f"  {verb:{width}} {(module_of(verb).__doc__ or '').splitlines()[0]}")
    result = argparse.ArgumentParser(
        prog="atto-det",
        usage="atto-det [-h] [--version] VERB ...",
        description="AttoNet backbones and Atto-MaskRCNN: from data to the device.",
        epilog="\n".join([*lines[1:], "", "`atto-det VERB --help` lists the flags of a verb."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"atto-det {atto_det.__version__}"
    result.add_argument("--version", action="version", version=version)
    return result


@command_line
def main(arguments: list[str] | None = None) -> int | None:
    """Pass the arguments after the verb to its module."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser().print_help()
        return 2
    verb, *rest = arguments
    if verb.startswith("-"):
        parser().parse_args(arguments)  # ends the program
    if verb not in VERBS:
        nearest = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0)[0]
        raise UserError(
            f"there is no verb {verb!r}: the nearest is {nearest}; atto-det --help lists all"
        )
    return module_of(verb).main(rest)

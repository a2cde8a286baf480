"""The zoo as tables, and as a page of the documentation, made only from its cards."""

from collections.abc import Mapping, Sequence
from typing import Any

from atto_det.reports.grid import Grid, markdown_grid

EMPTY = "No file has been trained for the zoo yet."
_HEAD = """# Model zoo

Backbones and detectors that come with the package: small files with 16-bit weights, which load
without a network. `atto-det zoo --page docs/model_zoo.md` writes this page from their cards;
`atto-det add-to-zoo` makes a file and its card
([example](pretraining.md#weights-that-come-with-the-package)); the figures are those of the file.
"""
_USE = """\
`atto_det.Predictor("zoo:NAME")` loads a detector, and `MODEL.WEIGHTS zoo:NAME` starts a training
from a detector or a backbone; `create_backbone(NETWORK, weights=WEIGHTS)` loads a backbone. The
terms of a file take precedence over those of the code.
"""


def tables(cards: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """Detectors, then backbones; a kind without any card has no table."""
    grids = []
    for kind, title, header, row in (
        ("detector", "Detectors", _DETECTORS, _detector),
        ("backbone", "Backbones", _BACKBONES, _backbone),
    ):
        own = [card for card in cards if card["kind"] == kind]
        if own:
            grids.append(Grid(title, header, tuple(row(card) for card in own)))
    return grids


def page(cards: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the tables, and a section for each file."""
    if not cards:
        return f"{_HEAD}\n{EMPTY}\n"
    lines = [line for grid in tables(cards) for line in markdown_grid(grid)]
    return "\n".join([_HEAD, _USE, *lines, *map(_section, cards)])


_DETECTORS = (
    *("name", "network", "trained on", "classes", "tested on"),
    *("AP_d", "AP_m", "AP@[.5:.95]", "params (M)", "MB"),
)
_BACKBONES = ("name", "network", "weights", "trained on", "top-1", "params (M)", "MB")


def _detector(card: Mapping[str, Any]) -> tuple[str, ...]:
    figures = card["figures"]["AP"]
    aps = (figures["AP_d"], figures["AP_m"], figures["coco"]["mask"]["AP"])
    return (
        *(_name(card), card["network"], ", ".join(card["data"]["train"])),
        *(str(len(card["class_names"])), figures["data"]),
        *(f"{ap:.1f}" for ap in aps),
        *_sizes(card),
    )


def _backbone(card: Mapping[str, Any]) -> tuple[str, ...]:
    figures = card["figures"]["nearest_class_mean"]
    top1 = f"{figures['top1']:.1f} (nearest class mean, {figures['data']})"
    return (
        *(_name(card), card["network"], card["weights"], card["data"]["root"], top1),
        *_sizes(card),
    )


def _name(card: Mapping[str, Any]) -> str:
    return "zoo:" + card["file"].removesuffix(".safetensors")


def _sizes(card: Mapping[str, Any]) -> tuple[str, str]:
    return f"{card['parameters'] / 1e6:.2f}", f"{card['bytes'] / 1e6:.1f}"


def _section(card: Mapping[str, Any]) -> str:
    rows = {"terms": card["terms"], "limits": card["limits"]}
    if card["kind"] == "detector":
        rows["classes"] = ", ".join(card["class_names"])
        rows["training"] = f"{card['steps']:,} steps, seed {card['seed']}"
    else:
        rows["training"] = f"{card['epochs']} epochs"
        start = card.get("start")
        if start:
            rows["training"] += f" from {start['file']}, sha256 `{start['sha256'][:8]}…`"
    rows["command"] = f"`{card['command']}`"
    rows["versions"] = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    rows["sha256"] = f"`{card['sha256']}`"
    lines = "".join(f"- {key}: {value}\n" for key, value in rows.items())
    return f"## {_name(card).removeprefix('zoo:')}\n\n{lines}"

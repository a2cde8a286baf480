"""Tables of the pages and stored results, as cells to compare."""

import json
import re

import pages


def read_table(page: str, heading: str, number: int = 0) -> dict[str, list[str]]:
    """A table after a heading, by default the first: cells by the first of their row."""
    text = (pages.REPOSITORY / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    rows = re.findall(r"(?:^\|.*\n)+", text, re.M)[number].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first: rest for first, *rest in cells}


def read_result(name: str) -> dict:
    return json.loads((pages.REPOSITORY / "results" / name).read_text())


def coco_cells(evaluation: dict) -> list[str]:
    """AP_d, AP_m, and COCO's mask AP, AP by size and AR."""
    mask = evaluation["coco"]["mask"]
    names = ("AP", "AP_small", "AP_medium", "AP_large", "AR100")
    values = [evaluation["AP_d"], evaluation["AP_m"], *(mask[name] for name in names)]
    return [f"{value:.1f}" for value in values]


def accuracy_cells(evaluation: dict, costs: list[dict]) -> list[str]:
    evaluation = evaluation.get("carparts_val", evaluation)
    parameters = sum(cost["parameters"] for cost in costs) / 1e6
    macs = sum(cost["macs"] for cost in costs) / 1e9
    aps = [f"{evaluation[name]:.1f}" for name in ("AP_d", "AP_m")]
    return [f"{parameters:.2f}", f"{macs:.1f}", *aps]

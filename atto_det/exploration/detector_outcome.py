"""The result of a search for a detector: tables, and files to look at and to train from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atto_det.errors import write_file
from atto_det.exploration.detectors import DetectorExploration, read_or_empty
from atto_det.exploration.outcome import importance_of
from atto_det.reports.detector_search import draw, front, grids, page
from atto_det.reports.grid import print_grids
from atto_det.weights.checkpoint import run_record


def write_outcome(exploration: DetectorExploration) -> list[Path]:
    """Print the table, write the files into the search's own folder and return their paths.

    found.yaml is the experiment file of the detector with the highest AP of those that meet the
    requirements; it trains as it is, into output/found.

    Raises:
        UserError: a file cannot be written.
    """
    content = collect(exploration)
    tables, folder = grids(content), exploration.results
    print_grids(tables)
    texts = {"detectors.json": json.dumps(content, indent=1) + "\n"}
    texts["detectors.html"] = page(content, tables)
    if content["found"]:
        winner = next(one for one in content["detectors"] if one["name"] == content["found"])
        cfg = exploration.config(winner["point"], ["OUTPUT_DIR", "output/found"])
        texts["found.yaml"] = cfg.dump()
    for name, text in texts.items():
        write_file(folder / name, text)
    draw(content, folder / "detectors.png")
    return [*(folder / name for name in texts), folder / "detectors.png"]


def collect(exploration: DetectorExploration) -> dict[str, Any]:
    """Every detector and its figures, and what they depend on, as plain values."""
    settings, detectors = exploration.settings, exploration.detectors()
    allowed = [one for one in detectors if one["satisfies"] and one["ap"] is not None]
    winner = max(allowed, key=lambda one: one["ap"], default=None)
    wanted = {k: v for k, v in asdict(settings.requirements).items() if v is not None}
    height, width = exploration.picture
    remarks = [
        f"Requirements: {', '.join(f'{k} {v:g}' for k, v in wanted.items()) or 'none'}. Counted "
        f"and timed on a picture of {height}×{width} pixels, resized as each config says, with as "
        "many proposals and detections as it lets through.",
        f"Found: {winner['name']}, AP {winner['ap']:.1f} on the pictures held out."
        if winner
        else "No detector that was trained meets the requirements: loosen them, train longer "
        "(options), or search longer (search.trials).",
    ]
    return {
        "title": f"Search for a detector from {settings.detector}: {exploration.name}",
        "remarks": remarks,
        "run": run_record(seed=exploration.seed, processes=1, device="cpu"),
        "settings": asdict(settings),
        "detectors": detectors,
        "front": [one["name"] for one in front(detectors)],
        "test": read_or_empty(exploration.results / "test.json"),
        "importance": importance_of(exploration.study()),
        "found": winner and winner["name"],
    }

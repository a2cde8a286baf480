"""See it learn: train a small Atto-MaskRCNN on a generated VOC.

Draws the mini VOC, trains, evaluates, and draws the result.

atto-det demo            about 10 minutes on two cores; everything goes to output/demo
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atto_det.cli import verb_parser
from atto_det.errors import UserError, command_line

OUTPUT = Path("output/demo")


@contextmanager
def phase(name: str, times: dict[str, float]) -> Iterator[None]:
    """Announce a phase and record its duration."""
    print(f"\n== {name}")
    start = time.monotonic()
    yield
    times[name] = time.monotonic() - start


@command_line
def main(arguments: list[str] | None = None) -> int:
    """Run the phases one after the other."""
    parser = verb_parser("demo", __doc__)
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of training (default 5, at most 6)"
    )
    args = parser.parse_args(arguments)
    if not 0 < args.minutes <= 6:
        raise UserError(f"--minutes is {args.minutes}; the demo trains for at most 6 minutes")
    if (OUTPUT / "last_checkpoint").exists():
        raise UserError(f"{OUTPUT} holds an earlier demo: move or remove the folder, and run again")

    # Set before torch is loaded: threads that wait spin briefly, then sleep. It is as fast on an
    # idle machine, and beside another program a step takes 0.59 s instead of 0.81 s (two cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

    from rich.progress import track

    from atto_det import engine
    from atto_det.cli import visualize
    from atto_det.config import CONFIGS
    from atto_det.data import mini_voc
    from atto_det.reports import curves

    run = engine.choose().run
    config = str(CONFIGS / "quick/mini_voc.yaml")

    times: dict[str, float] = {}
    root = Path("datasets")
    os.environ["DETECTRON2_DATASETS"] = str(root)
    with phase("draw the mini VOC", times):
        mini_voc.generate(root / "mini_voc", progress=lambda ids: track(ids, "drawing"))
    with phase("train", times):
        options = ["OUTPUT_DIR", str(OUTPUT)]
        seconds = run.seconds_per_step(run.read_config(config, options))
        steps = max(20, int(60 * args.minutes / seconds))
        print(f"a step takes {seconds:.2f} s here: training for {steps} steps")
        options += ["SOLVER.MAX_ITER", str(steps), "TEST.EVAL_PERIOD", str(-(-steps // 4))]
        # Six minutes and no more, however busy the machine gets.
        results = run.train(run.read_config(config, options), seconds=360)
    with phase("draw the result", times):
        curves.plot_training(OUTPUT / "metrics.json", OUTPUT / "curve.png")
        flags = ["--checkpoint", str(OUTPUT / "model_best.pth"), "--dataset", "mini_voc_val"]
        flags += ["--sheet", str(OUTPUT / "sheet.png"), "--limit", "12", "--columns", "3"]
        if visualize.main(flags):
            return 1
    print("\n" + "\n".join(f"{name:20} {seconds:5.0f} s" for name, seconds in times.items()))
    result = results["mini_voc_val"]
    print(f"AP_d {result['AP_d']:.1f}, AP_m {result['AP_m']:.1f} on 100 pictures not trained on")
    print(f"look at {OUTPUT}/sheet.png and {OUTPUT}/curve.png")
    return 0

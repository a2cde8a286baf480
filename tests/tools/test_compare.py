"""tools/compare.py as a user runs it."""

import json

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.detectron2.analysis import read_config

PROTOCOL = {"split": "voc_2012_seg_val", "images": 3, "threshold": 0.5, "style": "area"}


@pytest.fixture
def outputs(repository, tmp_path):
    """Output folders of three invented trainings: two seeds of lite, one of AttoNet-D's."""
    folders = []
    for name, seed, ap in (("lite", 1, 11.0), ("lite", 2, 13.0), ("d", 1, 17.5)):
        folder = tmp_path / f"{name}{seed}"
        (folder / "evaluation").mkdir(parents=True)
        cfg = read_config(repository / f"configs/atto_maskrcnn_{name}_voc.yaml")
        (folder / "config.yaml").write_text(cfg.dump())
        command = ["tools/train_net.py", "--config-file", f"configs/{name}.yaml"]
        (folder / "run.json").write_text(json.dumps({"command": command, "seed": seed}))
        evaluation = {"AP_d": ap + 1, "AP_m": ap, "protocol": PROTOCOL}
        path = folder / "evaluation" / f"voc_2012_seg_val_{cfg.SOLVER.MAX_ITER:07d}.json"
        path.write_text(json.dumps(evaluation))
        folders.append(folder)
    return folders


def timed(name: str, seconds: float) -> dict:
    work = {"input": "64x96", "proposals": 30, "detections": 12, "batch": 1}
    return {"detector": name, "mode": "fast", "median_s": seconds, **work}


def test_from_runs_to_the_plot(run_tool, outputs, tmp_path):
    file, plot = tmp_path / "c.json", tmp_path / "docs/pareto.png"
    work = ("--input", "64x96", "--proposals", 30, "--detections", 12)
    runs = ("--runs", *outputs, "--ablation", outputs[0], outputs[2])
    done = run_tool("compare.py", "--json", file, *runs, *work)
    assert done.returncode == 0, done.stderr
    for text in ("Beside lite", "lite (2 seeds)", "12.0", "+5.5", "Not timed: lite, d."):
        assert text in done.stdout
    content = json.loads(file.read_text())
    assert [(run["name"], run["seed"]) for run in content["runs"]] == [
        *(("lite", 1), ("lite", 2), ("d", 1)),
    ]
    assert content["ablation"] == ["lite", "d"]
    parts = {part["name"] for part in content["runs"][0]["costs"]}
    assert {"stem", "res2", "fpn", "rpn", "box_head", "mask_head"} <= parts

    for folder in outputs:  # the JSON is enough from here on
        (folder / "run.json").unlink()
    record = {"remarks": ["On a CPU."], "date": "2026-01-02"}
    for seconds in (0.025, 0.1):
        latencies = [timed("lite", 0.05), timed("d", seconds)]
        (tmp_path / "latency.json").write_text(json.dumps(record | {"latencies": latencies}))
        latency = ("--latency", tmp_path / "latency.json")
        done = run_tool("compare.py", "--json", file, *latency)
        assert done.returncode == 0, done.stderr
        assert f"{1000 * seconds - 50:+.0f}" in done.stdout
    before = file.read_bytes()
    done = run_tool("compare.py", "--json", file, "--output", plot)
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == before
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "+50" in plot.with_suffix(".md").read_text()


def test_unlike_trainings_have_their_folders_names(outputs, tmp_path, capsys):
    from atto_det.cli import compare

    work = ("--input", "64x96", "--proposals", "30", "--detections", "12")
    file = tmp_path / "c.json"
    assert compare.main(["--json", str(file), "--unlike", "--runs", *map(str, outputs), *work]) == 0
    content = json.loads(file.read_text())
    assert [run["name"] for run in content["runs"]] == [
        *(outputs[0].name, outputs[0].name, outputs[2].name),  # the second is another seed
    ]
    assert f"{outputs[0].name} (2 seeds)" in capsys.readouterr().out


def test_mistakes_are_one_sentence(run_tool, sentence, outputs, tmp_path):
    def said(*arguments):
        return sentence(run_tool("compare.py", "--json", tmp_path / "c.json", *arguments))

    assert "c.json cannot be read" in said()
    assert "give --runs, too" in said("--ablation", outputs[0])
    assert "not an input size" in said("--runs", outputs[0], "--input", "800")
    assert "must be at least 1" in said("--runs", outputs[0], "--proposals", 0)
    (outputs[0] / "config.yaml").write_text("MODEL: {NO: 1}\nSOLVER: {MAX_ITER: 1}\n")
    assert "lite1 is not a run" in said("--runs", outputs[0])
    assert not (tmp_path / "c.json").exists()

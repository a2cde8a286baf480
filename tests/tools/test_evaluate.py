"""`atto-det evaluate` as a user runs it."""

import json

import pytest

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atto_det.cli import main
from atto_det.data import load_voc, to_coco

PROGRAM = "import sys; from atto_det.cli import main; sys.exit(main())"


def test_a_checkpoint_is_all_it_takes(run_tool, trained, data_root, tmp_path):
    program = tmp_path / "atto-det"
    program.write_text(PROGRAM)
    options = ["DATASETS.TEST", "('mini_voc_val',)", "OUTPUT_DIR", "ours"]
    done = run_tool(program, "evaluate", "--checkpoint", trained, *options)
    assert done.returncode == 0, done.stderr
    assert "Protocol: mini_voc_val, 4 images" in done.stdout
    options[-1] = "theirs"
    done = run_tool("train_net.py", "--eval-only", "MODEL.WEIGHTS", trained, *options)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        json.loads((tmp_path / name / "evaluation/mini_voc_val.json").read_text())
        for name in ("ours", "theirs")
    )
    assert ours == theirs
    dataset = load_voc(data_root / "mini_voc", "val")
    truth = COCO()
    truth.dataset = to_coco(dataset, data_root / "mini_voc/JPEGImages")
    truth.createIndex()
    found = truth.loadRes(
        str(tmp_path / "ours/evaluation/coco_instances_results_mini_voc_val.json")
    )
    evaluation = COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert len(found.anns) > 0
    assert 100 * evaluation.stats[1] == pytest.approx(ours["coco"]["mask"]["AP50"], abs=1e-6)


def test_a_checkpoint_is_asked_for(run_tool, sentence, tmp_path):
    program = tmp_path / "atto-det"
    program.write_text(PROGRAM)
    done = run_tool(program, "evaluate", "DATASETS.TEST", "()")
    assert done.returncode == 2
    assert "the following arguments are required: --checkpoint" in done.stderr
    text = sentence(run_tool(program, "evaluate", "--checkpoint", "nothing.pth"))
    assert "nothing.pth does not exist" in text


@pytest.mark.parametrize("verb", [["evaluate"], ["export", "--format=onnx", "--output=a.onnx"]])
def test_other_weights_beside_a_checkpoint_are_refused(verb, capsys):
    assert main([*verb, "--checkpoint", "zoo:carparts_tiny", "MODEL.WEIGHTS", "b.pth"]) == 1
    says = capsys.readouterr().err
    assert "MODEL.WEIGHTS is given beside the checkpoint" in says
    assert "carparts_tiny" in says

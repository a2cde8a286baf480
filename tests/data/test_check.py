"""The check collects every finding, where loading stops at the first."""

import json

import numpy as np
import pytest

from atto_det.data import load_voc
from atto_det.data.check import check_voc
from atto_det.errors import UserError


def kinds(report, severity):
    return sorted((f.kind, f.image_id) for f in report.findings if f.severity == severity)


def test_sound_folder(tiny_voc):
    tiny_voc.add("a")
    tiny_voc.add("b", "val")
    report = check_voc(tiny_voc.root)
    assert (report.errors, report.warnings, report.findings) == (0, 0, ())
    assert list(report.splits) == ["train", "val"]
    train = report.splits["train"]
    assert (train.images, train.objects, train.difficult) == (1, 2, 1)
    assert json.loads(json.dumps(report.to_dict()))["splits"]["val"]["images"] == 1


def test_everything_at_once(tiny_voc, cut):
    labels = np.zeros((64, 64), np.uint8)
    tiny_voc.add("truncated", objects=[], labels=labels)
    cut(tiny_voc.jpeg("truncated"))
    cut(tiny_voc.png("SegmentationClass", "truncated"))
    tiny_voc.add("missing")
    tiny_voc.xml("missing").unlink()
    tiny_voc.add("size")
    tiny_voc.write_png("SegmentationObject", "size", np.zeros((9, 9), np.uint8))
    tiny_voc.write_xml("size", [], size=(1, 1))
    tiny_voc.add("unknown")
    tiny_voc.write_xml("unknown", [("unicorn", (2, 2, 6, 5), 0), ("ghost", (8, 4, 11, 7), 0)])
    tiny_voc.add("clash", "val")
    tiny_voc.write_xml("clash", [("cat", (2, 2, 6, 5), 0), ("dog", (8, 4, 11, 7), 0)])
    tiny_voc.add("warned", "val", objects=[("dog", (11, 7, 12, 8), 0)])
    tiny_voc.add("unlisted", "gone")
    (tiny_voc.root / "ImageSets" / "Segmentation" / "gone.txt").unlink()
    (tiny_voc.root / "ImageSets" / "Segmentation" / "void.txt").touch()
    report = check_voc(tiny_voc.root)
    assert kinds(report, "error") == [
        ("class", "clash"), ("class", "clash"), ("class", "unknown"), ("class", "unknown"),
        ("file", "missing"), ("file", "truncated"), ("file", "truncated"),
        ("list", ""), ("size", "size"), ("size", "size"),
    ]  # fmt: skip
    assert kinds(report, "warning") == [
        ("box", "warned"), ("no_object", "warned"), ("unlisted", "unlisted")
    ]  # fmt: skip
    assert (report.splits["train"].errors, report.splits["val"].errors) == (7, 2)
    assert report.splits["val"].left_out == 2
    assert (report.errors, report.warnings) == (10, 3)


def test_overlap_of_train_and_val_is_an_error(tiny_voc):
    tiny_voc.add("a")
    (tiny_voc.root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    (tiny_voc.root / "ImageSets" / "Segmentation" / "trainval.txt").write_text("a\n")
    report = check_voc(tiny_voc.root)
    assert kinds(report, "error") == [("overlap", "")]
    assert "share 1 images (a)" in report.findings[0].message


def test_a_folder_without_lists(tmp_path):
    with pytest.raises(UserError, match="is not a folder in VOC layout"):
        check_voc(tmp_path)


def test_check_and_load_agree_on_real_photos(photos):
    report = check_voc(photos / "VOC2012")
    dataset = load_voc(photos / "VOC2012", "trainval")
    assert report.errors == 0
    assert sorted(f.message for f in report.findings) == sorted(f.message for f in dataset.findings)
    objects = sum(len(record.instances) for record in dataset.records)
    assert report.splits["trainval"].objects == objects
    assert report.splits["trainval"].left_out == dataset.left_out

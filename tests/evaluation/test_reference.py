"""Parity with a slow reference that follows the definition word by word, in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks

from atto_det.evaluation import Detections, GroundTruth
from atto_det.evaluation.protocol import voc_metrics

SIDE, CLASSES = 4, 2

corner = st.integers(0, SIDE)
boxes = st.tuples(corner, corner, corner, corner).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
# A mask is the set of its pixels, often near to another one.
masks = st.one_of(
    st.sampled_from([{0, 1, 4, 5}, {0, 1, 4, 5, 8, 9}, {0, 1}, {4, 5, 8, 9}]),
    st.sets(st.integers(0, SIDE * SIDE - 1)),
)
categories = st.integers(0, CLASSES - 1)
objects = st.lists(
    st.tuples(boxes, masks, categories, st.booleans(), st.sampled_from([False, False, True])),
    max_size=3,
)
found = st.lists(
    st.tuples(boxes, masks, categories, st.sampled_from([0.25, 0.5, 0.75])), max_size=6
)
images = st.lists(st.tuples(objects, found), min_size=1, max_size=4)


def box_overlap(one: tuple, other: tuple) -> Fraction:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    union = (
        (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    ) - common
    return Fraction(common, union) if union else Fraction(0)


def box_share(one: tuple, region: tuple) -> Fraction:
    width = min(one[2], region[2]) - max(one[0], region[0])
    height = min(one[3], region[3]) - max(one[1], region[1])
    area = (one[2] - one[0]) * (one[3] - one[1])
    return Fraction(max(width, 0) * max(height, 0), area) if area else Fraction(0)


def mask_share(one: set, region: set) -> Fraction:
    return Fraction(len(one & region), len(one)) if one else Fraction(0)


def mask_overlap(one: set, other: set) -> Fraction:
    return Fraction(len(one & other), len(one | other)) if one | other else Fraction(0)


def reference_ap(
    data: list, category: int, kind: str, threshold: Fraction, counts: bool, style: str
) -> Fraction | None:
    field = {"box": 0, "mask": 1}[kind]
    overlap, share = {"box": (box_overlap, box_share), "mask": (mask_overlap, mask_share)}[kind]
    ranked = []
    positives = 0
    for image, (things, finds) in enumerate(data):
        for thing in things:
            if thing[2] == category and not thing[4] and (counts or not thing[3]):
                positives += 1
        for find in finds:
            if find[2] == category:
                ranked.append((image, find))
    if positives == 0:
        return None
    ranked.sort(key=lambda entry: -entry[1][3])  # Python's sort is stable

    taken = set()
    right = wrong = 0
    curve = []  # (recall, precision)
    for image, find in ranked:
        best, best_overlap = None, Fraction(-1)
        for number, thing in enumerate(data[image][0]):
            single = thing[2] == category and not thing[4]
            if single and overlap(find[field], thing[field]) > best_overlap:
                best, best_overlap = number, overlap(find[field], thing[field])
        regions = [thing[field] for thing in data[image][0] if thing[2] == category and thing[4]]
        if best is not None and best_overlap >= threshold:
            if data[image][0][best][3] and not counts:
                continue
            if (image, best) in taken:
                wrong += 1
            else:
                taken.add((image, best))
                right += 1
        elif any(share(find[field], region) >= threshold for region in regions):
            continue
        else:
            wrong += 1
        curve.append((Fraction(right, positives), Fraction(right, right + wrong)))

    def precision_from(recall: Fraction) -> Fraction:
        return max((p for r, p in curve if r >= recall), default=Fraction(0))

    if style == "11point":
        return sum(precision_from(Fraction(k, 10)) for k in range(11)) / 11
    area, last = Fraction(0), Fraction(0)
    for recall, _ in curve:
        area += (recall - last) * precision_from(recall)
        last = recall
    return area


def rle(pixels: set) -> dict:
    flat = np.zeros(SIDE * SIDE, dtype=np.uint8)
    flat[list(pixels)] = 1
    return rle_masks.encode(np.asfortranarray(flat.reshape(SIDE, SIDE)))


def arrays(rows: list, last_kind: type) -> tuple:
    return (
        np.array([row[0] for row in rows], dtype=float).reshape(-1, 4),
        [rle(row[1]) for row in rows],
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([row[3] for row in rows], dtype=last_kind),
    )


def mean(values: list) -> Fraction | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def same(value: float | None, expected: Fraction | None) -> None:
    if expected is None:
        assert value is None
    else:
        assert value == pytest.approx(float(100 * expected), abs=1e-9)


@settings(max_examples=300)
@given(images, st.booleans(), st.sampled_from(["area", "11point"]))
def test_every_figure_agrees_with_the_definition(data: list, counts: bool, style: str) -> None:
    truth = {
        str(k): GroundTruth(*arrays(things, bool), np.array([t[4] for t in things], bool))
        for k, (things, _) in enumerate(data)
    }
    detections = {str(k): Detections(*arrays(finds, float)) for k, (_, finds) in enumerate(data)}
    names = [f"class {k}" for k in range(CLASSES)]
    result = voc_metrics(truth, detections, names, difficult_counts=counts, style=style)

    for name, kind in (("AP_d", "box"), ("AP_m", "mask")):

        def per_class(threshold: str, with_difficult: bool, kind: str = kind) -> list:
            return [
                reference_ap(data, k, kind, Fraction(threshold), with_difficult, style)
                for k in range(CLASSES)
            ]

        for row, expected in zip(result["classes"].values(), per_class("0.5", counts), strict=True):
            same(row[name], expected)
        same(result[name], mean(per_class("0.5", counts)))
        same(result["difficult_counted"][name], mean(per_class("0.5", True)))
        same(result["difficult_ignored"][name], mean(per_class("0.5", False)))
        for threshold, row in result["thresholds"].items():
            same(row[name], mean(per_class(threshold, counts)))

"""Simple copy-paste: objects of one picture pasted onto another (arXiv 2012.07177)."""

import numpy as np

from .scene import Scene, mask_boxes


def paste(onto: Scene, pasted: Scene, min_visible: float) -> Scene:
    """`onto` with the objects of `pasted` pasted onto it.

    Pasted objects are stacked by area, the smallest on top, so that an object within another one
    stays visible. An object loses the pixels that a later one covers, and its box shrinks to what
    is left: no pixel belongs to two objects.

    Args:
        pasted: of the same size as `onto`; the pixels under its masks are used.
        min_visible: objects of which a smaller share, or nothing, stays visible are dropped.
    """
    areas = pasted.masks.sum((1, 2), dtype=np.int64)
    pasted = pasted.only(np.argsort(-areas, kind="stable"))
    whole = np.concatenate([onto.masks, pasted.masks])
    covered = np.zeros(onto.image.shape[:2], np.uint8)
    visible = whole.copy()
    for number in reversed(range(len(whole))):  # from the top down
        visible[number] &= 1 - covered
        if number >= len(onto.masks):
            covered |= whole[number]
    before, after = (masks.sum((1, 2), dtype=np.int64) for masks in (whole, visible))
    boxes = np.concatenate([onto.boxes, pasted.boxes])
    changed = np.flatnonzero((after < before) & (after > 0))
    boxes[changed] = mask_boxes(visible[changed])
    return Scene(
        np.where(covered[..., None], pasted.image, onto.image),
        boxes,
        np.concatenate([onto.classes, pasted.classes]),
        visible,
    ).only((after > 0) & (after >= min_visible * before))

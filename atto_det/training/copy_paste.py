"""Simple copy-paste: objects of one picture laid over another (arXiv 2012.07177)."""

import numpy as np

from .scene import Scene, mask_boxes


def paste(onto: Scene, pasted: Scene, min_visible: float) -> Scene:
    """`onto` with the pixels and objects of `pasted` laid over it.

    Pasted objects are stacked in the order of their areas, the smallest on top: an object that lies
    within another stays visible. An object loses the pixels that a later one covers, and its box
    becomes that of what is left, so no pixel belongs to two objects.

    Args:
        pasted: of the size of `onto`; its pixels under its masks are taken.
        min_visible: an object of which a smaller share, or nothing, is left is dropped.
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

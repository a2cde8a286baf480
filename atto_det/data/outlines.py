"""Masks as polygons along pixel edges, which pycocotools turns back into the same masks."""

import numpy as np

Corner = tuple[int, int]


def mask_polygons(mask: np.ndarray) -> list[list[int]]:
    """Polygons x1 y1 x2 y2 … of a mask (H, W), one for each connected part.

    If a part has holes, its polygon visits each of them and returns along the same path, since COCO
    has no other way to express holes: an area that is circled twice does not count.
    """
    from scipy.ndimage import label  # imported here since it takes 0.1 s and is rarely needed

    parts, count = label(mask)
    polygons = []
    for number in range(1, count + 1):
        rows, columns = np.nonzero(parts == number)
        top, left = rows.min(), columns.min()
        part = parts[top : rows.max() + 1, left : columns.max() + 1] == number
        outline, *holes = sorted(_loops(part), key=lambda loop: -abs(_area(loop)))
        for hole in holes:
            outline = _joined(outline, hole)
        polygons.append([int(v) for x, y in outline for v in (x + left, y + top)])
    return polygons


def _loops(mask: np.ndarray) -> list[list[Corner]]:
    """The closed lines around a mask and its holes, as lists of corners x, y."""
    padded = np.pad(mask.astype(np.int8), 1)
    after: dict[Corner, list[Corner]] = {}
    # Each edge has the mask on its right: the top edge of a pixel runs to the right, and so on.
    for y, x in np.argwhere(np.diff(padded[:, 1:-1], axis=0)).tolist():
        entering = padded[y, x + 1] == 0
        start, end = ((x, y), (x + 1, y)) if entering else ((x + 1, y), (x, y))
        after.setdefault(start, []).append(end)
    for y, x in np.argwhere(np.diff(padded[1:-1, :], axis=1)).tolist():
        entering = padded[y + 1, x] == 0
        start, end = ((x, y + 1), (x, y)) if entering else ((x, y), (x, y + 1))
        after.setdefault(start, []).append(end)
    loops = []
    while after:
        first = next(iter(after))
        loop = [first]
        while True:
            ends = after[loop[-1]]
            point = ends.pop()
            if not ends:
                del after[loop[-1]]
            if point == first:
                break
            loop.append(point)
        loops.append([p for k, p in enumerate(loop) if _is_corner(loop, k)])
    return loops


def _is_corner(loop: list[Corner], place: int) -> bool:
    before, here, after = loop[place - 1], loop[place], loop[(place + 1) % len(loop)]
    return not (before[0] == here[0] == after[0] or before[1] == here[1] == after[1])


def _area(loop: list[Corner]) -> float:
    x, y = np.array(loop, float).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _joined(outline: list[Corner], hole: list[Corner]) -> list[Corner]:
    """Both as one line, connected by a bridge along rows and columns that is traversed twice."""
    start, goal = outline[0], hole[0]
    corner = (start[0], goal[1])
    return [start, corner, *hole, goal, corner, *outline]

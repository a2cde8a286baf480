"""The drawings of the mini VOC: one small picture per class, as data.

Coordinates run from 0 to 100, x to the right and y down. A part is (form, colour, numbers):
`ellipse` and `box` (rounded by its fifth number) take left, top, right, bottom; `ring` an outer
ellipse and a width; `polygon` x, y, x, y, …; `line` a width, then x, y, x, y, …. Parts are drawn
in order. Colours: `main` (carries the class's texture), `second`, `dark`, `light`, `glass`, `skin`.
"""

from typing import NamedTuple

Shape = tuple[str, str, tuple[float, ...]]
# Hue in degrees, saturation and value in 0…1; all three are jittered per object.
Hsv = tuple[float, float, float]


class Drawing(NamedTuple):
    """How a class looks: colours, a texture of mini_voc.TEXTURES, parts."""

    main: Hsv
    second: Hsv
    texture: str
    parts: tuple[Shape, ...]


def _wheels(top: float, size: float, *lefts: float) -> tuple[Shape, ...]:
    parts: list[Shape] = []
    for left in lefts:
        parts.append(("ellipse", "dark", (left, top, left + size, top + size)))
        inner = size * 0.3
        hub = (left + inner, top + inner, left + size - inner, top + size - inner)
        parts.append(("ellipse", "light", hub))
    return tuple(parts)


def _row(form: str, colour: str, top: float, bottom: float, *edges: float) -> tuple[Shape, ...]:
    """Copies of a part with the given pairs of left and right edges."""
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((form, colour, (left, top, right, bottom, 3)) for left, right in pairs)


def _spokes(x: float, y: float, radius: float) -> tuple[Shape, ...]:
    half = radius * 0.7
    return (
        ("line", "dark", (3, x - half, y - half, x + half, y + half)),
        ("line", "dark", (3, x - half, y + half, x + half, y - half)),
        ("ring", "dark", (x - radius, y - radius, x + radius, y + radius, 6)),
    )


DRAWINGS: dict[str, Drawing] = {
    "aeroplane": Drawing((210, 0.12, 0.93), (355, 0.75, 0.8), "plain", (
        ("polygon", "second", (38, 46, 58, 10, 68, 10, 60, 46)),
        ("polygon", "second", (8, 44, 2, 18, 12, 18, 24, 42)),
        ("ellipse", "main", (2, 36, 98, 62)),
        ("polygon", "second", (36, 54, 28, 92, 40, 92, 62, 54)),
        ("polygon", "glass", (84, 42, 92, 44, 95, 48, 84, 48)),
        *_row("ellipse", "glass", 44, 50, 26, 31, 36, 41, 46, 51, 56, 61, 66, 71),
    )),
    "bicycle": Drawing((75, 0.85, 0.75), (30, 0.5, 0.35), "plain", (
        *_spokes(22, 68, 20), *_spokes(78, 68, 20),
        ("line", "main", (7, 22, 68, 38, 40, 68, 40, 78, 68)),
        ("line", "main", (7, 38, 40, 50, 70, 68, 40)),
        ("line", "main", (7, 22, 68, 50, 70)),
        ("line", "main", (6, 68, 42, 65, 26)),
        ("line", "second", (6, 56, 24, 65, 26, 74, 22)),
        ("polygon", "second", (27, 31, 48, 31, 46, 38, 30, 38)),
    )),
    "bird": Drawing((195, 0.75, 0.9), (45, 0.9, 0.95), "scales", (
        ("polygon", "main", (30, 55, 0, 64, 2, 76, 34, 68)),
        ("line", "second", (4, 48, 76, 46, 94, 54, 94)),
        ("line", "second", (4, 58, 76, 58, 94, 66, 94)),
        ("ellipse", "main", (22, 36, 80, 82)),
        ("ellipse", "main", (60, 18, 90, 50)),
        ("polygon", "second", (87, 29, 100, 36, 87, 41)),
        ("polygon", "dark", (30, 46, 62, 44, 42, 74, 16, 70)),
        ("ellipse", "light", (73, 27, 82, 36)), ("ellipse", "dark", (76, 29, 81, 34)),
    )),
    "boat": Drawing((15, 0.7, 0.6), (42, 0.1, 0.97), "stripes", (
        ("line", "dark", (4, 48, 4, 48, 72)),
        ("polygon", "second", (51, 6, 51, 62, 88, 62)),
        ("polygon", "light", (45, 14, 45, 62, 16, 62)),
        ("polygon", "main", (4, 68, 96, 68, 82, 94, 20, 94)),
        ("polygon", "light", (4, 68, 96, 68, 93, 74, 8, 74)),
    )),
    "bottle": Drawing((140, 0.75, 0.5), (45, 0.25, 0.95), "gloss", (
        ("box", "main", (41, 6, 59, 46, 3)),
        ("box", "dark", (39, 0, 61, 9, 2)),
        ("polygon", "main", (41, 24, 59, 24, 73, 44, 27, 44)),
        ("box", "main", (27, 38, 73, 100, 7)),
        ("box", "second", (27, 54, 73, 82, 0)),
        ("polygon", "dark", (38, 74, 50, 60, 62, 74)),
    )),
    "bus": Drawing((44, 0.9, 0.97), (0, 0.0, 0.25), "plain", (
        ("box", "main", (2, 18, 98, 80, 9)),
        *_row("box", "glass", 27, 49, 8, 23, 27, 42, 46, 61, 65, 77, 82, 96),
        ("box", "second", (2, 56, 98, 62, 0)),
        *_wheels(67, 24, 14, 62),
    )),
    "car": Drawing((222, 0.8, 0.85), (222, 0.5, 0.5), "gloss", (
        ("polygon", "main", (18, 48, 34, 22, 68, 22, 86, 48)),
        ("box", "main", (1, 44, 99, 72, 9)),
        ("polygon", "glass", (27, 46, 37, 28, 50, 28, 50, 46)),
        ("polygon", "glass", (54, 46, 54, 28, 66, 28, 77, 46)),
        ("ellipse", "light", (92, 50, 99, 58)), ("box", "second", (1, 62, 99, 67, 0)),
        *_wheels(57, 28, 13, 60),
    )),
    "cat": Drawing((28, 0.8, 0.93), (28, 0.25, 0.98), "stripes", (
        ("line", "main", (10, 70, 90, 92, 82, 92, 56)),
        ("ellipse", "main", (22, 46, 78, 100)),
        ("polygon", "main", (24, 28, 24, 0, 46, 14)), ("polygon", "main", (76, 28, 76, 0, 54, 14)),
        ("ellipse", "main", (20, 8, 80, 56)),
        ("ellipse", "second", (36, 60, 64, 98)), ("ellipse", "second", (37, 34, 63, 54)),
        ("ellipse", "light", (30, 22, 45, 36)), ("ellipse", "light", (55, 22, 70, 36)),
        ("ellipse", "dark", (36, 23, 42, 36)), ("ellipse", "dark", (58, 23, 64, 36)),
        ("polygon", "dark", (46, 38, 54, 38, 50, 44)),
    )),
    "chair": Drawing((36, 0.55, 0.8), (36, 0.65, 0.5), "grain", (
        ("line", "second", (8, 24, 4, 22, 98)), ("line", "second", (8, 66, 60, 80, 98)),
        ("line", "second", (8, 38, 60, 40, 90)), ("line", "second", (8, 78, 58, 92, 90)),
        ("box", "main", (18, 4, 62, 20, 5)), ("box", "main", (18, 26, 62, 40, 5)),
        ("line", "second", (8, 59, 4, 62, 56)),
        ("polygon", "main", (18, 50, 66, 50, 94, 62, 30, 64)),
    )),
    "cow": Drawing((30, 0.03, 0.97), (350, 0.35, 0.9), "patches", (
        ("line", "light", (9, 24, 56, 24, 94)), ("line", "light", (9, 38, 60, 38, 94)),
        ("line", "light", (9, 60, 60, 60, 94)), ("line", "light", (9, 72, 56, 72, 94)),
        ("line", "dark", (4, 14, 34, 6, 44, 6, 66)),
        ("box", "main", (12, 28, 80, 70, 16)),
        ("ellipse", "second", (48, 62, 66, 76)),
        ("box", "main", (70, 16, 96, 46, 9)),
        ("ellipse", "second", (80, 34, 100, 50)),
        ("line", "second", (4, 74, 18, 70, 6)), ("line", "second", (4, 88, 18, 92, 6)),
        ("ellipse", "dark", (85, 24, 90, 29)),
    )),
    "diningtable": Drawing((352, 0.7, 0.85), (22, 0.7, 0.42), "checks", (
        ("line", "second", (9, 16, 40, 12, 94)), ("line", "second", (9, 84, 40, 88, 94)),
        ("line", "second", (8, 34, 50, 34, 82)), ("line", "second", (8, 66, 50, 66, 82)),
        ("polygon", "main", (20, 20, 80, 20, 100, 44, 100, 58, 0, 58, 0, 44)),
        ("ellipse", "light", (24, 26, 46, 38)), ("ellipse", "light", (54, 26, 76, 38)),
    )),
    "dog": Drawing((20, 0.65, 0.5), (30, 0.45, 0.85), "fur", (
        ("line", "main", (9, 22, 58, 18, 94)), ("line", "main", (9, 36, 60, 36, 94)),
        ("line", "main", (9, 60, 60, 60, 94)), ("line", "main", (9, 70, 58, 74, 94)),
        ("line", "main", (8, 18, 46, 4, 22)),
        ("ellipse", "main", (12, 36, 80, 72)),
        ("polygon", "main", (60, 50, 66, 20, 86, 22, 80, 58)),
        ("ellipse", "main", (60, 8, 88, 38)),
        ("box", "second", (78, 20, 100, 36, 6)), ("ellipse", "dark", (92, 18, 100, 26)),
        ("ellipse", "dark", (58, 12, 70, 42)), ("ellipse", "dark", (78, 15, 83, 20)),
        ("box", "second", (64, 42, 82, 48, 2)),
    )),
    "horse": Drawing((12, 0.8, 0.6), (25, 0.5, 0.15), "plain", (
        ("line", "second", (9, 12, 40, 2, 52, 4, 80)),
        ("line", "main", (7, 22, 58, 16, 98)), ("line", "main", (7, 32, 60, 34, 98)),
        ("line", "main", (7, 60, 60, 58, 98)), ("line", "main", (7, 68, 56, 74, 98)),
        ("ellipse", "main", (10, 34, 76, 68)),
        ("polygon", "main", (54, 46, 70, 6, 84, 8, 76, 56)),
        ("polygon", "main", (68, 2, 82, 2, 100, 22, 94, 30, 72, 18)),
        ("line", "second", (7, 70, 2, 60, 22, 54, 42)),
        ("ellipse", "light", (82, 9, 87, 14)),
    )),
    "motorbike": Drawing((300, 0.75, 0.75), (0, 0.0, 0.6), "gloss", (
        *_wheels(52, 40, 2, 58),
        ("line", "second", (7, 78, 72, 64, 26)),
        ("line", "dark", (5, 54, 20, 72, 24)),
        ("box", "second", (34, 54, 60, 78, 5)),
        ("polygon", "main", (38, 40, 68, 32, 66, 56, 40, 60)),
        ("polygon", "dark", (6, 38, 40, 42, 38, 54, 14, 50)),
        ("polygon", "main", (2, 52, 24, 46, 34, 56, 10, 58)),
        ("ellipse", "light", (64, 24, 78, 38)),
        ("line", "second", (6, 10, 84, 50, 76)),
    )),
    "person": Drawing((160, 0.55, 0.8), (225, 0.6, 0.35), "stripes_wide", (
        ("line", "skin", (9, 32, 30, 20, 46, 14, 60)),
        ("line", "skin", (9, 68, 30, 80, 46, 86, 60)),
        ("line", "main", (11, 34, 28, 24, 42)), ("line", "main", (11, 66, 28, 76, 42)),
        ("polygon", "second", (35, 54, 49, 54, 47, 96, 33, 96)),
        ("polygon", "second", (65, 54, 51, 54, 53, 96, 67, 96)),
        ("box", "dark", (29, 94, 47, 100, 3)), ("box", "dark", (53, 94, 71, 100, 3)),
        ("box", "main", (32, 22, 68, 58, 8)),
        ("box", "skin", (45, 16, 55, 25, 2)), ("ellipse", "skin", (38, 0, 62, 22)),
        ("polygon", "dark", (37, 10, 40, 0, 60, 0, 63, 10, 56, 6, 44, 6)),
    )),
    "pottedplant": Drawing((112, 0.75, 0.62), (14, 0.7, 0.75), "plain", (
        ("polygon", "main", (48, 66, 4, 52, 12, 28, 50, 60)),
        ("polygon", "main", (52, 66, 96, 52, 88, 28, 50, 60)),
        ("polygon", "main", (46, 66, 18, 14, 36, 4, 52, 60)),
        ("polygon", "main", (54, 66, 82, 14, 64, 4, 48, 60)),
        ("polygon", "main", (44, 66, 42, 10, 50, 0, 58, 10, 56, 66)),
        ("line", "light", (2, 50, 60, 50, 10)), ("line", "light", (2, 48, 60, 28, 14)),
        ("line", "light", (2, 52, 60, 72, 14)), ("line", "light", (2, 46, 60, 14, 40)),
        ("line", "light", (2, 54, 60, 86, 40)),
        ("polygon", "second", (28, 68, 72, 68, 66, 100, 34, 100)),
        ("box", "second", (24, 62, 76, 74, 2)), ("box", "dark", (28, 74, 72, 77, 0)),
    )),
    "sheep": Drawing((50, 0.12, 0.96), (30, 0.2, 0.2), "wool", (
        ("line", "second", (8, 28, 66, 28, 96)), ("line", "second", (8, 40, 68, 40, 96)),
        ("line", "second", (8, 58, 68, 58, 96)), ("line", "second", (8, 68, 66, 68, 96)),
        *_row("ellipse", "main", 26, 56, 6, 36, 24, 54, 42, 72, 56, 84),
        *_row("ellipse", "main", 46, 80, 4, 34, 24, 56, 46, 78, 60, 88),
        ("ellipse", "main", (12, 30, 80, 74)),
        ("ellipse", "second", (74, 26, 98, 62)), ("ellipse", "second", (66, 34, 80, 43)),
        ("ellipse", "main", (74, 20, 94, 36)),
        ("ellipse", "light", (86, 38, 92, 44)),
    )),
    "sofa": Drawing((272, 0.55, 0.68), (320, 0.4, 0.9), "dots", (
        ("box", "dark", (10, 78, 18, 90, 1)), ("box", "dark", (82, 78, 90, 90, 1)),
        ("box", "main", (10, 22, 90, 66, 9)),
        ("box", "main", (2, 42, 20, 82, 7)), ("box", "main", (80, 42, 98, 82, 7)),
        ("box", "second", (20, 54, 50, 68, 4)), ("box", "second", (50, 54, 80, 68, 4)),
        ("box", "main", (18, 66, 82, 82, 2)),
    )),
    "train": Drawing((178, 0.85, 0.55), (5, 0.8, 0.85), "plain", (
        ("polygon", "main", (0, 22, 76, 22, 98, 56, 98, 72, 0, 72)),
        ("polygon", "glass", (74, 30, 78, 30, 92, 52, 74, 52)),
        *_row("box", "glass", 31, 47, 5, 17, 22, 34, 39, 51, 56, 68),
        ("box", "second", (0, 56, 98, 63, 0)),
        *_row("ellipse", "dark", 66, 84, 4, 22, 24, 42, 52, 70, 72, 90),
        ("box", "dark", (0, 72, 96, 76, 0)),
    )),
    "tvmonitor": Drawing((205, 0.7, 0.95), (0, 0.0, 0.18), "screen", (
        ("polygon", "second", (42, 70, 58, 70, 62, 90, 38, 90)),
        ("box", "second", (24, 86, 76, 95, 3)),
        ("box", "second", (1, 8, 99, 76, 5)),
        ("box", "main", (8, 15, 92, 67, 1)),
    )),
}  # fmt: skip

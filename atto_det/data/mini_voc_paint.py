"""Paints the mini VOC: sprites from the drawings in mini_voc_shapes.py, scenes, and noise."""

import colorsys
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from atto_det.data.mini_voc_shapes import DRAWINGS, Hsv, Shape

_OVERSAMPLING = 3  # shapes are drawn this much larger and then reduced, for smooth edges
_SKIN = ((24, 0.35, 0.95), (22, 0.5, 0.7), (20, 0.6, 0.45))
# Top and bottom colours of the upper part, then of the ground (RGB).
_SCENES = (
    ((120, 170, 215), (205, 220, 225), (110, 140, 80), (70, 95, 50)),  # meadow
    ((150, 160, 175), (205, 200, 195), (125, 125, 130), (80, 80, 86)),  # street
    ((195, 180, 160), (175, 158, 138), (140, 105, 75), (105, 75, 55)),  # room
    ((235, 180, 130), (245, 215, 170), (175, 150, 105), (130, 105, 75)),  # sand at dusk
    ((130, 160, 185), (190, 205, 215), (70, 115, 140), (40, 75, 100)),  # water
    ((60, 85, 70), (95, 120, 85), (75, 85, 55), (50, 55, 38)),  # wood
)


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn object: colour uint8 (h, w, 3); coverage and shadow float32 (h, w) in 0…1."""

    colour: np.ndarray
    alpha: np.ndarray
    shadow: np.ndarray

    def overlap(self, height: int, width: int, left: int, top: int) -> tuple[tuple, tuple]:
        """The overlapping slices of canvas and sprite."""
        h, w = self.alpha.shape
        x0, x1 = max(left, 0), max(min(left + w, width), 0)
        y0, y1 = max(top, 0), max(min(top + h, height), 0)
        return (
            (slice(y0, y1), slice(x0, x1)),
            (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
        )

    def paste(self, canvas: np.ndarray, left: int, top: int) -> None:
        """Draw onto `canvas`, float32 (H, W, 3) in 0…255, beginning with the shadow."""
        height, width = canvas.shape[:2]
        drop = max(1, self.alpha.shape[0] // 24)
        target, source = self.overlap(height, width, left + drop, top + drop)
        canvas[target] *= 1 - 0.45 * self.shadow[source][..., None]
        target, source = self.overlap(height, width, left, top)
        alpha = self.alpha[source][..., None]
        canvas[target] += alpha * (self.colour[source] - canvas[target])


def paint_sprite(rng: np.random.Generator, name: str, length: float) -> Sprite:
    """An object of class `name`, about `length` pixels long, rotated, mirrored and recoloured."""
    drawing = DRAWINGS[name]
    side = round(length * _OVERSAMPLING)
    colours = {
        "main": _jitter(rng, drawing.main),
        "second": _jitter(rng, drawing.second),
        "dark": _jitter(rng, (220, 0.2, 0.14)),
        "light": _jitter(rng, (45, 0.06, 0.95)),
        "glass": _jitter(rng, (205, 0.35, 0.5)),
        "skin": _jitter(rng, _SKIN[rng.integers(len(_SKIN))]),
    }
    layer = Image.new("RGB", (side, side), colours["main"])
    alpha = Image.new("L", (side, side))
    textured = Image.new("L", (side, side))
    pens = [ImageDraw.Draw(image) for image in (layer, alpha, textured)]
    for part in drawing.parts:
        inks = (colours[part[1]], 255, 255 if part[1] == "main" else 0)
        for pen, ink in zip(pens, inks, strict=True):
            _draw(pen, part, ink, side / 100)
    light = TEXTURES[drawing.texture](rng, side)
    pixels = np.asarray(layer, np.float32)
    strength = np.asarray(textured, np.float32)[..., None] / 255
    pixels = pixels * (1 + strength * (light[..., None] - 1))
    # Lighting from above gives flat parts some volume.
    pixels *= np.linspace(1.12, 0.82, side, dtype=np.float32)[:, None, None]
    layer = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))

    stretch = rng.uniform(0.85, 1.18)
    angle = float(np.clip(rng.normal(0, 13), -35, 35))
    mirrored = rng.random() < 0.5
    parts = []
    for image in (layer, alpha):
        image = image.resize((side, round(side * stretch)), Image.Resampling.BILINEAR)
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        fill = colours["main"] if image.mode == "RGB" else 0
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)
        parts.append(image)
    softness = max(1.0, length / 30)
    margin = round(2 * softness) * _OVERSAMPLING  # room for the shadow
    left, top, right, bottom = parts[1].point(lambda value: 255 * (value >= 128)).getbbox()
    box = (left - margin, top - margin, right + margin, bottom + margin)
    layer, alpha = (image.crop(box).reduce(_OVERSAMPLING) for image in parts)
    shadow = alpha.filter(ImageFilter.GaussianBlur(softness))
    return Sprite(
        np.asarray(layer), np.asarray(alpha, np.float32) / 255, np.asarray(shadow, np.float32) / 255
    )


def paint_scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A cluttered background, float32 (H, W, 3) in 0…255."""
    scene = np.array(_SCENES[rng.integers(len(_SCENES))], np.float32)
    scene = np.clip(scene * rng.uniform(0.75, 1.15) + rng.normal(0, 9, (1, 3)), 15, 245)
    x = np.linspace(0, 1, width, dtype=np.float32)
    ridge = rng.uniform(0.3, 0.65) + sum(
        rng.uniform(0.01, 0.06) / wave * np.sin(x * rng.uniform(2, 5) * wave + rng.uniform(0, 6.3))
        for wave in (1, 2, 4)
    )
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    above = (y < ridge[None])[..., None]
    canvas = np.where(above, _blend(scene[0], scene[1], y), _blend(scene[2], scene[3], y))
    clouds = 0.10 * _noise(rng, height, width, 5) + 0.03 * _noise(rng, height, width, 14)
    soil = 0.10 * _noise(rng, height, width, 6) + 0.14 * _noise(rng, height, width, 70)
    canvas = canvas * (1 + np.where(above, clouds[..., None], soil[..., None]))

    clutter = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(clutter, "RGBA")
    for _ in range(rng.integers(14, 34)):
        _draw_clutter(rng, pen, canvas, height, width)
    clutter = clutter.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.2)))
    return np.array(clutter, np.float32)


def paint_grain(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Adds exposure, a colour cast and sensor noise; float32 in, uint8 (H, W, 3) out."""
    cast = rng.uniform(0.88, 1.1) * rng.uniform(0.96, 1.04, (1, 1, 3))
    noise = rng.normal(0, rng.uniform(2, 6), canvas.shape)
    return np.clip(canvas * cast + noise, 0, 255).astype(np.uint8)


def _draw(pen: ImageDraw.ImageDraw, part: Shape, ink, scale: float) -> None:
    form, _, numbers = part
    points = [number * scale for number in numbers]
    if form == "ellipse":
        pen.ellipse(points[:4], fill=ink)
    elif form == "box":
        pen.rounded_rectangle(points[:4], radius=points[4], fill=ink)
    elif form == "ring":
        pen.ellipse(points[:4], outline=ink, width=round(points[4]))
    elif form == "polygon":
        pen.polygon(points, fill=ink)
    else:
        width, points = points[0], points[1:]
        pen.line(points, fill=ink, width=round(width), joint="curve")
        for x, y in zip(points[::2], points[1::2], strict=True):  # round ends
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=ink)


def _draw_clutter(rng, pen: ImageDraw.ImageDraw, canvas: np.ndarray, height: int, width: int):
    """Draw a leaf, stone, post or stroke in a colour similar to that of its surroundings."""
    x, y = int(rng.integers(width)), int(rng.integers(height))
    near = canvas[y, x] * rng.uniform(0.6, 1.35) + rng.normal(0, 14, 3)
    ink = (*np.clip(near, 0, 255).astype(int).tolist(), int(rng.integers(90, 230)))
    reach = float(rng.uniform(0.02, 0.14)) * min(height, width)
    kind = rng.integers(4)
    if kind == 0:
        ratio = rng.uniform(0.4, 1.0)
        pen.ellipse((x - reach, y - reach * ratio, x + reach, y + reach * ratio), fill=ink)
    elif kind == 1:
        corners = (np.array([x, y]) + rng.uniform(-reach, reach, (4, 2))).ravel().tolist()
        pen.polygon(corners, fill=ink)
    elif kind == 2:
        half = max(reach / 6, 1)
        pen.rectangle((x - half, y - 2 * reach, x + half, y + reach), fill=ink)
    else:
        end = np.array([x, y]) + rng.normal(0, 3 * reach, 2)
        pen.line((x, y, *end.tolist()), fill=ink, width=int(rng.integers(1, 4)))


def _jitter(rng: np.random.Generator, colour: Hsv) -> tuple[int, int, int]:
    hue, saturation, value = colour
    hue = (hue + rng.normal(0, 6)) % 360 / 360
    saturation = min(max(saturation * rng.uniform(0.8, 1.15), 0.0), 1.0)
    value = min(max(value * rng.uniform(0.78, 1.12), 0.0), 1.0)
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))


def _blend(first: np.ndarray, second: np.ndarray, y: np.ndarray) -> np.ndarray:
    return first + (second - first) * y[..., None]


def _noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise of mean 0 and about ±1, float32 (height, width)."""
    coarse = rng.normal(0, 0.6, (cells, cells)).astype(np.float32)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(0, 1, side, dtype=np.float32)
    return line[None, :], line[:, None]


def _plain(rng, side: int) -> np.ndarray:
    return 1 + 0.05 * _noise(rng, side, side, 12)


def _stripes(rng, side: int, count: float = 11, low: float = 0.6) -> np.ndarray:
    x, y = _grid(side)
    bend = 0.06 * _noise(rng, side, side, 5)
    wave = np.sin(2 * np.pi * count * (0.25 * x + y + bend))
    return np.where(wave > 0.2, low, 1.0).astype(np.float32)


def _scales(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    return 0.9 + 0.2 * np.abs(np.sin(40 * x)) * np.sign(np.sin(50 * y + 2 * np.sin(40 * x)))


def _gloss(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    place = rng.uniform(0.3, 0.6)
    return 0.9 + 0.5 * np.exp(-(((x + 0.3 * y - place) / 0.07) ** 2))


def _grain(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    return 1 + 0.14 * np.sin(60 * y + 6 * _noise(rng, side, side, 4) + 4 * x)


def _patches(rng, side: int) -> np.ndarray:
    return np.where(_noise(rng, side, side, 7) > 0.18, 0.16, 1.0).astype(np.float32)


def _checks(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    return np.where((np.sin(36 * x) > 0) ^ (np.sin(52 * y) > 0), 1.0, 1.55).astype(np.float32)


def _fur(rng, side: int) -> np.ndarray:
    return 1 + 0.22 * _noise(rng, side, side, max(side // 8, 4)) + 0.12 * _noise(rng, side, side, 8)


def _wool(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    shift = 2.5 * _noise(rng, side, side, 9)
    return 0.9 + 0.14 * np.sin(48 * x + shift) * np.sin(48 * y - shift)


def _dots(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    return np.where(np.sin(58 * x) * np.sin(58 * y) > 0.45, 1.5, 1.0).astype(np.float32)


def _screen(rng, side: int) -> np.ndarray:
    x, y = _grid(side)
    return 0.55 + 0.6 * (1 - y) * (0.6 + 0.4 * x) + 0.3 * np.maximum(_noise(rng, side, side, 5), 0)


# Factors applied to the main colour, float32 (side, side); `rng` varies the pattern.
TEXTURES = {
    "plain": _plain, "stripes": _stripes,
    "stripes_wide": partial(_stripes, count=14, low=0.72), "scales": _scales, "gloss": _gloss,
    "grain": _grain, "patches": _patches, "checks": _checks, "fur": _fur, "wool": _wool,
    "dots": _dots, "screen": _screen,
}  # fmt: skip

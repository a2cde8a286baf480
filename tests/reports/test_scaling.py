"""The plot of curves shows each of them."""

import numpy as np
import pytest
from PIL import Image

from atto_det.complexity.scaling import Curve, Point
from atto_det.reports.scaling import plot_scaling


@pytest.mark.parametrize("count", [1, 4])
def test_each_curve_has_a_panel(count, tmp_path):
    points = tuple(Point(n, {"network": 0.1 * n, "masks": 0.02 * n}) for n in (1, 10, 100))
    curves = [Curve(f"quantity {k}", "work", points) for k in range(count)]
    plot_scaling(curves, tmp_path / "scaling.png")
    with Image.open(tmp_path / "scaling.png") as picture:
        colours = np.asarray(picture.convert("RGB")).astype(int)
    coloured = np.ptp(colours, axis=2) > 50  # lines of parts; all else is black and grey
    rows = np.array_split(coloured, 1 if count == 1 else 2)
    panels = [panel for row in rows for panel in np.array_split(row, min(3, count), axis=1)]
    assert [panel.sum() > 100 for panel in panels] == [n < count for n in range(len(panels))]

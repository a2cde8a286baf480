"""NetScore: one figure for accuracy, size and computation (Wong, arXiv 1806.05512).

In the form of arXiv 1903.07209: 20·log10(a² / √(p·m)), with top-1 a in percent, p parameters in
millions and m multiply-adds in billions (exponents 2, 0.5, 0.5). It reproduces the published column
of that paper's Table 2 within 0.01. Twice the size, or twice the computation, costs 3.01 points,
which a top-1 that is 1.19 times as high compensates for.
"""

import math

from atto_det.errors import UserError


def netscore(top1: float, parameters_m: float, macs_g: float) -> float:
    """NetScore of a classifier, in points; higher is better.

    Args:
        top1: accuracy in percent, above 0 (where the score is minus infinity) and up to 100.
        parameters_m: millions of parameters.
        macs_g: billions of multiply-adds for one picture.

    Raises:
        UserError: a value is out of range.
    """
    if not 0 < top1 <= 100:
        raise UserError(f"NetScore needs a top-1 in percent, above 0 and up to 100, not {top1}")
    for name, value in (("parameters (millions)", parameters_m), ("multiply-adds (G)", macs_g)):
        if not 0 < value < math.inf:
            raise UserError(f"NetScore needs {name} above 0 and finite, not {value}")
    return 40 * math.log10(top1) - 10 * (math.log10(parameters_m) + math.log10(macs_g))

"""AttendNet-A and -B (arXiv 2009.14385), *reconstructed*: the tables below are the networks.

Their channel numbers stand in a figure that is not to be had, so these are not the authors'
networks. What the paper's text fixes, holds; what it leaves open comes from the AttoNet paper; and
the sizes at 224×224, by AttoNet's rule of counting with 51 outputs, are the published ones within
0.5 %: A 1386 K parameters and 276.8 M multiply-adds, B 782 K and 191.3 M. Among the many networks
for which this is true, these were found as `atto_det.nets.reconstruction` says, and learned best in
a short training (`atto-det reconstruct-attendnets` finds them again from its seed).
"""

from atto_det.nets.backbone import BackboneSpec
from atto_det.nets.condenser import CondenserSpec as Condenser
from atto_det.nets.pepe import PEPESpec as PEPE

# PEPE(project, spread, reproject, expand) and Condenser(down, embed, up).
ATTENDNETS = {
    "attendnet_a": BackboneSpec(
        stem=8,
        res2=(
            PEPE(8, 32, 8, 92),
            Condenser(24, 12, 92),
            Condenser(20, 20, 92),
        ),
        res3=(
            PEPE(24, 96, 28, 200),
            Condenser(36, 20, 200),
            Condenser(56, 36, 200),
            Condenser(20, 24, 200),
        ),
        res4=(
            PEPE(48, 192, 44, 532),
            Condenser(64, 92, 532),
            Condenser(148, 152, 532),
            PEPE(88, 352, 88, 532),
            PEPE(44, 176, 40, 532),
            PEPE(48, 192, 56, 532),
        ),
        res5=(
            PEPE(52, 208, 40, 632),
            PEPE(44, 176, 40, 632),
            PEPE(48, 192, 44, 632),
        ),
    ),
    "attendnet_b": BackboneSpec(
        stem=8,
        res2=(
            PEPE(8, 32, 8, 88),
            Condenser(16, 28, 88),
            Condenser(20, 24, 88),
        ),
        res3=(
            PEPE(28, 112, 32, 180),
            Condenser(24, 32, 180),
            Condenser(36, 44, 180),
            Condenser(52, 64, 180),
        ),
        res4=(
            PEPE(64, 256, 76, 336),
            Condenser(60, 72, 336),
            Condenser(84, 100, 336),
            PEPE(28, 112, 32, 336),
            PEPE(44, 176, 48, 336),
            PEPE(24, 96, 16, 336),
        ),
        res5=(
            PEPE(40, 160, 44, 488),
            PEPE(44, 176, 44, 488),
            PEPE(44, 176, 40, 488),
        ),
    ),
}

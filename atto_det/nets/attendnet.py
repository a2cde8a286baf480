"""AttendNet-A and -B (arXiv 2009.14385), *reconstructed*: the tables below are the networks.

Their channel numbers are in a figure that is not available, so these are not the authors' networks.
They follow what the paper's text specifies; what it leaves open is taken from the AttoNet paper.
The sizes at 224×224, by AttoNet's rule of counting with 51 outputs, are the published ones within
0.5 %: A 1386 K parameters and 276.8 M multiply-adds, B 782 K and 191.3 M. Many networks have these
sizes. `atto_det.nets.reconstruction` describes how these were found, and `atto-det
reconstruct-attendnets` finds them again from its seed. A is the best of three finalists after a
short training, and B has the same order of modules (results/reconstruct_attendnets.json).
"""

from atto_det.nets.backbone import BackboneSpec
from atto_det.nets.condenser import CondenserSpec as Condenser
from atto_det.nets.pepe import PEPESpec as PEPE

# PEPE(project, spread, reproject, expand) and Condenser(down, embed, up).
ATTENDNETS = {
    "attendnet_a": BackboneSpec(
        stem=12,
        res2=(
            PEPE(24, 96, 28, 112),
            Condenser(32, 28, 112),
            Condenser(28, 20, 112),
        ),
        res3=(
            PEPE(32, 128, 32, 164),
            Condenser(44, 76, 164),
            Condenser(28, 44, 164),
            Condenser(32, 44, 164),
        ),
        res4=(
            PEPE(44, 176, 48, 352),
            Condenser(40, 68, 352),
            Condenser(44, 76, 352),
            Condenser(92, 156, 352),
            PEPE(48, 192, 36, 352),
            PEPE(68, 272, 64, 352),
        ),
        res5=(
            PEPE(140, 560, 116, 788),
            PEPE(76, 304, 80, 788),
            PEPE(100, 400, 96, 788),
        ),
    ),
    "attendnet_b": BackboneSpec(
        stem=8,
        res2=(
            PEPE(20, 80, 24, 132),
            Condenser(24, 32, 132),
            Condenser(16, 20, 132),
        ),
        res3=(
            PEPE(16, 64, 12, 152),
            Condenser(32, 48, 152),
            Condenser(20, 12, 152),
            Condenser(24, 16, 152),
        ),
        res4=(
            PEPE(44, 176, 52, 300),
            Condenser(60, 76, 300),
            Condenser(84, 52, 300),
            Condenser(44, 56, 300),
            PEPE(40, 160, 44, 300),
            PEPE(20, 80, 12, 300),
        ),
        res5=(
            PEPE(64, 256, 68, 492),
            PEPE(76, 304, 76, 492),
            PEPE(72, 288, 48, 492),
        ),
    ),
}

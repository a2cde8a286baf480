"""AttoNets A to D (arXiv 1903.07209, Table 1): the table below is the network. 69 convolutions."""

from atto_det.nets.backbone import BackboneSpec
from atto_det.nets.blocks import AttoModuleSpec as Module

# The conditions of the published costs. Table 1 prints the dense layers as 952x51 and so on: 50
# classes and one that the paper does not explain.
CLASSES = 51
INPUT_SIZE = 224  # height and width in pixels

# Module(compress, multiplier, mix, expand). Two misprints of the paper are corrected: in D the
# third module is printed with mix 65 (only 6 gives the published size), and the eighth without a
# stride.
ATTONETS = {
    "attonet_a": BackboneSpec(
        stem=8,
        res2=(
            Module(8, 4, 16, 176),
            Module(16, 4, 16, 176),
            Module(16, 4, 16, 176),
        ),
        res3=(
            Module(40, 4, 40, 400),
            Module(32, 4, 24, 400),
            Module(40, 4, 32, 400),
            Module(40, 4, 32, 400),
        ),
        res4=(
            Module(80, 4, 64, 808),
            Module(72, 4, 72, 808),
            Module(80, 4, 72, 808),
            Module(72, 4, 72, 808),
            Module(72, 4, 64, 808),
            Module(56, 4, 56, 808),
        ),
        res5=(
            Module(160, 4, 128, 952),
            Module(120, 4, 88, 952),
            Module(112, 4, 88, 952),
        ),
    ),
    "attonet_b": BackboneSpec(
        stem=8,
        res2=(
            Module(8, 4, 16, 168),
            Module(16, 4, 8, 168),
            Module(16, 4, 16, 168),
        ),
        res3=(
            Module(32, 4, 24, 368),
            Module(16, 4, 24, 368),
            Module(24, 4, 24, 368),
            Module(24, 4, 32, 368),
        ),
        res4=(
            Module(64, 4, 48, 728),
            Module(40, 4, 40, 728),
            Module(48, 4, 48, 728),
            Module(56, 4, 48, 728),
            Module(48, 4, 40, 728),
            Module(32, 4, 32, 728),
        ),
        res5=(
            Module(112, 4, 96, 736),
            Module(72, 4, 48, 736),
            Module(72, 4, 56, 736),
        ),
    ),
    "attonet_c": BackboneSpec(
        stem=6,
        res2=(
            Module(7, 2, 8, 139),
            Module(5, 2, 5, 139),
            Module(7, 2, 6, 139),
        ),
        res3=(
            Module(19, 2, 14, 328),
            Module(13, 2, 9, 328),
            Module(19, 2, 8, 328),
            Module(20, 2, 12, 328),
        ),
        res4=(
            Module(39, 2, 24, 628),
            Module(29, 2, 28, 628),
            Module(37, 2, 26, 628),
            Module(37, 2, 32, 628),
            Module(37, 2, 27, 628),
            Module(17, 2, 24, 628),
        ),
        res5=(
            Module(67, 2, 52, 527),
            Module(46, 2, 30, 527),
            Module(49, 2, 31, 527),
        ),
    ),
    "attonet_d": BackboneSpec(
        stem=3,
        res2=(
            Module(7, 4, 8, 112),
            Module(5, 4, 5, 112),
            Module(7, 4, 6, 112),
        ),
        res3=(
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
            Module(8, 4, 8, 264),
        ),
        res4=(
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
            Module(8, 4, 8, 467),
        ),
        res5=(
            Module(16, 4, 8, 140),
            Module(8, 4, 8, 140),
            Module(8, 4, 8, 140),
        ),
    ),
}

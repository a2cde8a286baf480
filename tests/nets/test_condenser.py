"""The visual attention condenser: each equation against a loop, shapes, gradients, ONNX."""

import dataclasses
import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets import NORMS, reset_lengths
from atto_det.nets.blocks import freeze
from atto_det.nets.condenser import ATTENTIONS, UNPOOLINGS, CondenserSpec, VisualAttentionCondenser
from atto_det.ops.fold_norms import folded

SPEC = CondenserSpec(down=4, embed=8, up=12)
SIZES = [(8, 6), (7, 5), (1, 1), (2, 9), (1, 4)]
CHOICES = [
    {"unpooling": unpooling, "attention": attention, "pool": pool}
    for unpooling, attention, pool in itertools.product(UNPOOLINGS, ATTENTIONS, (2, 3))
]


def condenser(**choices) -> VisualAttentionCondenser:
    """With weights that let every part be seen, in double precision, for evaluation."""
    torch.manual_seed(0)
    module = VisualAttentionCondenser(dataclasses.replace(SPEC, **choices)).double().eval()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.5)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias, std=0.2)
    module.scale.data.fill_(0.7)
    return module


def windows(size: tuple[int, int], pool: int):
    """For each window: its place after pooling, and the pixels it has within the picture."""
    for row, column in itertools.product(*(range(-(-side // pool)) for side in size)):
        rows = range(row * pool, min((row + 1) * pool, size[0]))
        columns = range(column * pool, min((column + 1) * pool, size[1]))
        yield (row, column), list(itertools.product(rows, columns))


def by_hand(module: VisualAttentionCondenser, spec: CondenserSpec, v: Tensor) -> Tensor:
    """The paper's equations with the spatial ones as loops over pixels."""
    batch, _, height, width = v.shape
    down = module.down.norm(nn.functional.conv2d(v, module.down.conv.weight)).clamp(min=0)
    pooled = down.new_zeros(batch, spec.down, -(-height // spec.pool), -(-width // spec.pool))
    for b, c in itertools.product(range(batch), range(spec.down)):
        for place, pixels in windows((height, width), spec.pool):
            pooled[(b, c, *place)] = max(down[(b, c, *pixel)] for pixel in pixels)
    group, point = module.embed.group, module.embed.point
    embedded = torch.zeros(batch, spec.embed, *pooled.shape[2:], dtype=v.dtype)
    inner, outer = spec.down // spec.groups, spec.embed // spec.groups
    for b, o in itertools.product(range(batch), range(spec.embed)):
        for row, column in itertools.product(*map(range, pooled.shape[2:])):
            total = 0.0
            for i, dy, dx in itertools.product(range(inner), (-1, 0, 1), (-1, 0, 1)):
                y, x = row + dy, column + dx
                if 0 <= y < pooled.shape[2] and 0 <= x < pooled.shape[3]:
                    seen = pooled[b, (o // outer) * inner + i, y, x]
                    total += group.conv.weight[o, i, dy + 1, dx + 1] * seen
            embedded[b, o, row, column] = total
    k = point.norm(torch.einsum("oi,bihw->bohw", point.conv.weight[:, :, 0, 0],
                                group.norm(embedded).clamp(min=0)))  # fmt: skip
    k = 1 / (1 + (-k).exp())
    a = torch.zeros_like(down)
    for b, c in itertools.product(range(batch), range(spec.down)):
        for place, pixels in windows((height, width), spec.pool):
            for pixel in pixels:
                if spec.unpooling == "repetition" or (
                    down[(b, c, *pixel)] == pooled[(b, c, *place)]
                ):
                    a[(b, c, *pixel)] = k[(b, c, *place)]
    s = module.scale
    attended = down * a * s if spec.attention == "product" else down * s + a
    up = module.up.norm(torch.einsum("oi,bihw->bohw", module.up.conv.weight[:, :, 0, 0], attended))
    return (up + v).clamp(min=0)


@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())))
@torch.no_grad()
def test_the_equations_by_hand(choices, size):
    module = condenser(**choices)
    v = torch.randn(2, 12, *size, dtype=torch.float64)
    wanted = by_hand(module, dataclasses.replace(SPEC, **choices), v)
    torch.testing.assert_close(module(v.clone()), wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())))
@torch.no_grad()
def test_size_and_channels_stay(choices, size):
    assert condenser(**choices)(torch.randn(2, 12, *size).double()).shape == (2, 12, *size)


@pytest.mark.parametrize("pool", [2, 3, 4])
@pytest.mark.parametrize("size", [*SIZES, (11, 13)])
@torch.no_grad()
def test_unpooling_by_indices_is_torchs(size, pool):
    """Where no window has equal maxima; also at sizes that the pooling does not divide."""
    module = VisualAttentionCondenser(dataclasses.replace(SPEC, pool=pool, unpooling="indices"))
    v = torch.randn(2, 4, *size)
    q, indices = nn.functional.max_pool2d(v, pool, ceil_mode=True, return_indices=True)
    assert torch.equal(module.condense(v), q)
    k = torch.randn_like(q)
    # Flat indices leave what max_unpool2d thinks of strides and borders out of it.
    wanted = torch.zeros_like(v).flatten(2).scatter(2, indices.flatten(2), k.flatten(2))
    assert torch.equal(module.expand(k, v, q, v.shape[2:]), wanted.view_as(v))
    if size[0] % pool == size[1] % pool == 0:
        unpooled = nn.functional.max_unpool2d(k, indices, pool)
        assert torch.equal(module.expand(k, v, q, v.shape[2:]), unpooled)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(
    ("tie", "same"), [(0.0, {"product": True, "sum": False}), (1.0, {})], ids=["zeros", "others"]
)
@torch.no_grad()
def test_equal_maxima_all_get_the_value(attention, tie, same):
    """torch gives it to the first: equal after the product where the maxima are 0, else not."""
    module = VisualAttentionCondenser(
        dataclasses.replace(SPEC, unpooling="indices", attention=attention)
    )
    v = torch.full((1, 4, 6, 6), tie)
    q, indices = nn.functional.max_pool2d(v, 2, return_indices=True)
    k = torch.rand_like(q) + 0.5
    first = nn.functional.max_unpool2d(k, indices, 2)
    every = k.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(module.expand(k, v, q, v.shape[2:]), every)
    product, total = v * first * module.scale, v * module.scale + first
    wanted = product if attention == "product" else total
    assert torch.equal(module.attend(v, k, q, v.shape[2:]), wanted) == same.get(attention, False)


@pytest.mark.parametrize(
    "choices",
    [*CHOICES, {"sigmoid": False}, {"residual": False}, {"norms": (), "relus": ("down",)}],
    ids=lambda c: "-".join(map(str, c.values())),
)
def test_gradients(choices):
    module = condenser(down=2, embed=4, up=4, groups=2, **choices)
    names = list(dict(module.named_parameters()))

    def outputs(v, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (v,))

    v = torch.randn(1, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (v, *module.parameters()), eps=1e-6, atol=1e-5)


def test_in_training_every_parameter_learns():
    module = VisualAttentionCondenser(SPEC).train()
    nn.init.ones_(module.up.norm.weight)  # past the first step: it starts as identity
    module(torch.randn(4, 12, 9, 9)).square().sum().backward()
    without = [n for n, p in module.named_parameters() if not p.grad.abs().sum() > 0]
    assert without == []


@torch.no_grad()
@pytest.mark.parametrize("norms", [(), ("down", "group", "point", "up")])
def test_it_starts_as_identity(norms):
    module = VisualAttentionCondenser(dataclasses.replace(SPEC, norms=norms))
    v = torch.rand(2, 12, 5, 5)
    assert torch.equal(module(v), v)
    alone = VisualAttentionCondenser(dataclasses.replace(SPEC, norms=norms, residual=False))
    assert alone(v).abs().sum() > 0


def test_norms_and_relus_stand_where_the_spec_says():
    spec = dataclasses.replace(SPEC, norms=("group",), relus=("point",))
    module = VisualAttentionCondenser(spec)
    layers = {
        "down": module.down,
        "group": module.embed.group,
        "point": module.embed.point,
        "up": module.up,
    }
    parts = {name: list(dict(layer.named_children())) for name, layer in layers.items()}
    assert parts == {
        "down": ["conv"],
        "group": ["conv", "norm"],
        "point": ["conv", "relu"],
        "up": ["conv"],
    }
    biased = [name for name, layer in layers.items() if layer.conv.bias is not None]
    assert biased == ["down", "point", "up"]
    assert isinstance(module.relu, nn.Identity)


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm(norm):
    module = VisualAttentionCondenser(SPEC, norm=norm).eval()
    assert module(torch.zeros(1, 12, 5, 5)).shape == (1, 12, 5, 5)


@torch.no_grad()
def test_it_folds_freezes_and_gets_its_lengths_back():
    module = condenser()
    v = torch.randn(2, 12, 7, 9, dtype=torch.float64)
    wanted = module(v.clone())
    torch.testing.assert_close(folded(module)(v.clone()), wanted)
    reset_lengths(module)
    torch.testing.assert_close(module(v.clone()), wanted)
    freeze(module)
    assert not any(p.requires_grad for p in module.parameters())
    torch.testing.assert_close(module.train()(v.clone()), wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_it_can_be_scripted():
    module = condenser()
    v = torch.randn(2, 12, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(module)(v.clone()), module(v.clone()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 3}, "groups are 3: they must divide down, 4, and embed, 8"),
        ({"down": 0}, "down is 0: it must be a whole number of at least 1"),
        ({"pool": 1.5}, "pool is 1.5: it must be a whole"),
        ({"down": "8"}, "down is '8': it must be a whole"),
        ({"sigmoid": "no"}, "sigmoid is 'no': true or false"),
        ({"norms": ["down"]}, "norms are .*: a tuple of some of down"),
        ({"pool": 0}, "pool is 0"),
        ({"kernel_size": 2}, "kernel_size is 2: it must be odd"),
        ({"unpooling": "bilinear"}, "unpooling is 'bilinear': choose one of repetition, indices"),
        ({"attention": "max"}, "attention is 'max': choose one of product, sum"),
        ({"norms": ("sum",)}, "norms are .*: a tuple of some of down, group, point, up"),
        ({"relus": ("last",)}, "relus are .*: a tuple of some of down, group, point, up, sum"),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize("wrong", [{"opens": True}, {"stride": 2}, {"in_channels": 8}])
def test_it_opens_no_stage(wrong):
    arguments = {"in_channels": 12, "opens": False, "stride": 1, "norm": "BN"} | wrong
    with pytest.raises(UserError, match="a condenser keeps size and channels"):
        SPEC.build(arguments.pop("in_channels"), **arguments)


def onnx_session(module: nn.Module, path, *, dynamo: bool):
    """An ONNX Runtime session of `module`, for inputs of any size."""
    ort = pytest.importorskip("onnxruntime")
    example = (torch.randn(1, 12, 8, 8),)
    sizes = (
        {"dynamic_shapes": ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)}
        if dynamo
        else {"dynamic_axes": {"v": {2: "height", 3: "width"}}}
    )
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            module, example, path, opset_version=18, dynamo=dynamo, input_names=["v"], **sizes
        )
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("choices", "dynamo"),
    [*((choices, False) for choices in CHOICES), ({}, True)],
    ids=lambda c: "-".join(map(str, c.values())) if isinstance(c, dict) else str(c),
)
def test_onnx_finds_the_same(choices, dynamo, tmp_path):
    """At other sizes, and where windows have equal maxima (zeros, after the ReLU)."""
    module = folded(condenser(**choices).float())
    session = onnx_session(module, tmp_path / "condenser.onnx", dynamo=dynamo)
    ties = 0
    for size in [(8, 8), (7, 13), (9, 4)]:
        v = torch.randn(1, 12, *size)
        [found] = session.run(None, {"v": v.numpy()})
        torch.testing.assert_close(torch.as_tensor(found), module(v.clone()), rtol=1e-4, atol=1e-4)
        ties += int((module.condense(module.down(v)) == 0).sum())
    assert ties > 0


class Attended(nn.Module):
    """V'' of a condenser."""

    def __init__(self, module: VisualAttentionCondenser) -> None:
        super().__init__()
        self.module = module

    def forward(self, v: Tensor) -> Tensor:
        return self.module.attended(v)


@torch.no_grad()
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_in_8_bits_it_attends_alike(runtime, tmp_path):
    """V'' is within a tenth of its mean of what single precision gives, for inputs of any size.

    If the attention were cut to the size of V', which has 8 bits, OpenVINO would give other values.
    """
    pytest.importorskip("onnxscript")
    pytest.importorskip(runtime)
    from atto_det.export.quantise import quantise
    from atto_det.export.runtimes import open_runtime

    module = folded(condenser(down=32, embed=16, up=12).float())
    file = tmp_path / "condenser.onnx"
    onnx_session(Attended(module), file, dynamo=False)
    pictures = [torch.randn(1, 12, 24, 24).relu().numpy() for _ in range(4)]
    quantise(file, file, pictures, detector=False)
    [found] = open_runtime(file, runtime, 1)(pictures[0]).values()
    wanted = module.attended(torch.as_tensor(pictures[0])).numpy()
    assert abs(found - wanted).mean() < 0.1 * abs(wanted).mean()


@torch.no_grad()
@pytest.mark.parametrize(("unpooling", "given"), [("indices", 2), ("repetition", 4)])
def test_in_8_bits_nearly_equal_maxima_are_equal(unpooling, given, tmp_path):
    """By indices a value then goes to both; by repetition 8 bits change no place."""
    pytest.importorskip("onnxscript")
    from atto_det.export.quantise import quantise

    module = folded(condenser(unpooling=unpooling).float())
    nn.init.eye_(module.down.conv.weight[:, :, 0, 0])
    nn.init.zeros_(module.down.conv.bias)
    v = torch.full((1, 12, 8, 8), 0.25)
    v[:, :, ::2, ::2], v[:, :, 1::2, 1::2] = 1.0, 0.999  # less than 1/255 apart
    file = tmp_path / "condenser.onnx"
    session = onnx_session(Attended(module), file, dynamo=False)
    single = torch.as_tensor(session.run(None, {"v": v.numpy()})[0])
    torch.testing.assert_close(single, module.attended(v))
    quantise(file, file, [v.numpy()], detector=False)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    eight = torch.as_tensor(session.run(None, {"v": v.numpy()})[0])
    places = [(found > 0.01).sum(dim=(2, 3)).div(16).unique().tolist() for found in (single, eight)]
    assert places == [[1 if unpooling == "indices" else 4], [given]]

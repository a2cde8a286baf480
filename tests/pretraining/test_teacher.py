"""Teachers: which files fit, and what they answer."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file

from atto_det.errors import UserError
from atto_det.pretraining import teacher as teacher_module
from atto_det.pretraining.teacher import Teacher

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return timm.create_model(NAME).eval()


@pytest.fixture
def write(net, tmp_path):
    """A function that writes tensors (default: the network's) and returns the file's path."""

    def write(state=None, name="teacher.pth"):
        state = net.state_dict() if state is None else state
        (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
        return tmp_path / name

    return write


def test_what_it_says_is_what_the_network_finds(write, net):
    teacher = Teacher(NAME, write())
    pictures = torch.randn(3, 3, 160, 160)
    with torch.no_grad():
        expected = net(pictures).log_softmax(1)
    torch.testing.assert_close(teacher.answer(pictures), expected, atol=1e-4, rtol=0)
    # Of timm's configuration of this network, and ImageNet's first and last class.
    assert (teacher.size, teacher.mean[0], teacher.std[0]) == (160, 0.485, 0.229)
    assert (teacher.classes[0], teacher.classes[-1]) == ("n01440764", "n15075141")


def test_it_needs_no_openvino(write, net, monkeypatch):
    monkeypatch.setattr(teacher_module, "find_spec", lambda name: None)
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = net(pictures).log_softmax(1)
    torch.testing.assert_close(Teacher(NAME, write(), 64).answer(pictures), expected)


def test_the_sizes_of_batches_may_differ(write):
    teacher = Teacher(NAME, write(), 64)
    pictures = torch.randn(3, 3, 64, 64)
    both = torch.cat([teacher.answer(pictures[:1]), teacher.answer(pictures[1:])])
    torch.testing.assert_close(teacher.answer(pictures), both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["teacher.pth", "teacher.safetensors"])
def test_files_of_both_kinds(write, net, name):
    state = Teacher(NAME, write(name=name)).net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


def test_checkpoints_that_hold_more(write):
    plain = Teacher(NAME, write())
    state = torch.load(write(), weights_only=True)
    assert Teacher(NAME, write({"state_dict": state, "epoch": 3})).sha256 == plain.sha256


def test_other_names_in_the_same_order(write, net, caplog):
    renamed = {f"net.{key.upper()}": value for key, value in net.state_dict().items()}
    with caplog.at_level(logging.INFO):
        teacher = Teacher(NAME, write(renamed))
    assert teacher.sha256 == Teacher(NAME, write()).sha256
    [line] = [r.message for r in caplog.records]
    assert f"{len(renamed)} tensors have other names" in line
    assert "by order and shape" in line


def test_other_classes_than_imagenet_s(write):
    path = write(timm.create_model(NAME, num_classes=7).state_dict())
    teacher = Teacher(NAME, path, 64)
    assert teacher.classes == tuple(f"output {number}" for number in range(7))
    assert teacher.answer(torch.randn(1, 3, 64, 64)).shape == (1, 7)


def test_what_is_refused(write, net, tmp_path):
    state = net.state_dict()
    with pytest.raises(UserError, match="'lite9' is not a network of timm's"):
        Teacher("lite9", write())
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist"):
        Teacher(NAME, tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match=r"nowhere\.safetensors does not exist"):
        Teacher(NAME, tmp_path / "nowhere.safetensors")
    backwards = {f"x{number}": value for number, value in enumerate(reversed(state.values()))}
    with pytest.raises(UserError, match=r"no weights of timm's test_efficientnet: .* missing"):
        Teacher(NAME, write(backwards))
    with pytest.raises(UserError, match="holds no state dict"):
        Teacher(NAME, write({"epoch": 3}))
    torch.save({"net": net}, tmp_path / "pickle.pth")
    with pytest.raises(UserError, match="could run code"):
        Teacher(NAME, tmp_path / "pickle.pth")
    (tmp_path / "half.safetensors").write_bytes(write(name="a.safetensors").read_bytes()[:999])
    with pytest.raises(UserError, match="not a safetensors file, or a damaged one"):
        Teacher(NAME, tmp_path / "half.safetensors")

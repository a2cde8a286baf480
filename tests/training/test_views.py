"""Which views of a picture the keys of TEST.AUG ask for."""

import pytest
from yacs.config import CfgNode

from atto_det.errors import UserError
from atto_det.training.views import View, views_of


def config(sizes=(320, 480), longest=640, flip=True, forbidden=()):
    keys = {"MIN_SIZES": sizes, "MAX_SIZE": longest, "FLIP": flip}
    return CfgNode({"TEST": {"AUG": keys}, "DATASETS": {"NO_HORIZONTAL_FLIP": list(forbidden)}})


def test_each_size_as_it_is_and_mirrored():
    assert views_of(config()) == [
        View(320, 640, False),
        View(320, 640, True),
        View(480, 640, False),
        View(480, 640, True),
    ]
    assert [view.mirrored for view in views_of(config(flip=False))] == [False, False]


def test_classes_that_tell_left_from_right_get_no_mirrored_view():
    assert [view.mirrored for view in views_of(config(forbidden=["carparts"]))] == [False, False]


@pytest.mark.parametrize("keys", [{"sizes": ()}, {"sizes": (0,)}, {"longest": 0}])
def test_no_view_is_one_sentence(keys):
    with pytest.raises(UserError, match=r"TEST.AUG.MIN_SIZES is .*: give shorter sides"):
        views_of(config(**keys))

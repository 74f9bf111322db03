"""Which ground a chip shows, and what is asked for in it."""

from __future__ import annotations

from functools import partial

import numpy as np
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.training.chips import Pose, cut
from geoseg.training.labelled import Labelled
from geoseg.training.pixels import Held
from geoseg.training.placing import anywhere, near_hard, near_object, on_empty


def image(*polygons: shapely.Polygon, height: int = 400, width: int = 500, **more: object) -> Labelled:
    return Labelled(
        pixels=Held(values=torch.zeros(3, height, width, dtype=torch.uint8)),
        polygons=np.array(polygons, dtype=object),
        labels=np.ones(len(polygons), np.int64),
        gsd_m=0.3,
        **more,  # type: ignore[arg-type]
    )


def test_what_shows_of_an_object_that_is_not_asked_for_is_not_punished() -> None:
    # 14 of its 100 columns are in the chip: too little of it. The second is asked for, the third is too small.
    shown = image(shapely.box(242, 100, 342, 126), shapely.box(40, 60, 80, 100), shapely.box(120, 30, 123, 33))
    target = cut(shown, Pose(centre_xy=(128, 128), step=1.0, angle_deg=0.0, flip=False), 256).target
    assert target["boxes"].tolist() == [[40, 60, 80, 100]]
    ignore = target["ignore"].bool()
    assert ignore[100:126, 242:].all() and ignore[30:33, 120:123].all()
    assert int(ignore.sum()) == 14 * 26 + 9


def test_an_object_thinner_than_a_pixel_is_not_punished() -> None:
    shown = image(shapely.box(40.2, 60, 41.1, 160))
    target = cut(shown, Pose(centre_xy=(128, 128), step=1.0, angle_deg=0.0, flip=False), 256).target
    assert target["boxes"].shape == (0, 4) and int(target["ignore"].sum()) == 100


@given(seed=st.integers(0, 2**20), kind=st.sampled_from(["objects", "empty", "hard", "anywhere"]))
@settings(max_examples=60, deadline=None)
def test_chips_are_centred_on_labelled_ground(seed: int, kind: str) -> None:
    # A strip at the image's rim, objects beside its border, and a place beyond it that was wrongly found.
    strip = shapely.box(0, 0, 30, 400)
    objects = [shapely.box(5, y, 28, y + 30) for y in range(20, 380, 60)]
    shown = image(*objects, area=strip, hard_xy=np.array([[300.0, 200.0]]))
    places = {"objects": partial(near_object, label=1), "empty": on_empty, "hard": near_hard, "anywhere": anywhere}
    xy = places[kind](shown, np.random.default_rng(seed), half=128.0)
    if xy is None:  # everywhere there is an object within reach
        assert kind == "empty"
        return
    assert shapely.contains_xy(strip, *xy)

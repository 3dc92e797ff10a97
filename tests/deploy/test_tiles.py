"""Tiles cover an image, and each object in it is found once."""

import numpy as np
import pytest
import torch
from predictions import instances

from soft_teacher.deploy.tiles import merge_tiles, tile_windows


@pytest.mark.parametrize(
    "size, side, overlap, windows",
    [
        ((5, 7), 10, 0.2, [(0, 0, 7, 5)]),
        ((10, 10), 10, 0.2, [(0, 0, 10, 10)]),
        ((10, 11), 10, 0.5, [(0, 0, 10, 10), (1, 0, 11, 10)]),
        ((5, 20), 10, 0.0, [(0, 0, 10, 5), (10, 0, 20, 5)]),
    ],
)
def test_windows(size, side, overlap, windows):
    assert tile_windows(size, side, overlap) == windows


@pytest.mark.parametrize("seed", range(30))
def test_windows_cover_everything_and_overlap_enough(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 400, 2).tolist()
    side, overlap = int(rng.integers(16, 120)), float(rng.uniform(0, 0.9))
    seen = np.zeros((height, width), int)
    windows = tile_windows((height, width), side, overlap)
    for x0, y0, x1, y1 in windows:
        assert (x1 - x0, y1 - y0) == (min(side, width), min(side, height))
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1 or len(windows) > 1 and seen.min() >= 1
    lefts = sorted({x0 for x0, *_ in windows})
    # Even spreading rounds to whole pixels.
    assert all(a + side - b >= overlap * side - 1 for a, b in zip(lefts, lefts[1:]))


SIZE = (50, 160)
WINDOWS = [(0, 0, 100, 50), (60, 0, 160, 50)]


def merged(left, right, **options):
    return merge_tiles([left, right], WINDOWS, SIZE, **options)


def tile(*rows, **fields):
    boxes, classes, scores = zip(*rows) if rows else ((), (), ())
    return instances(boxes, classes, scores, (50, 100), **fields)


def boxes_of(found):
    return found.pred_boxes.tensor.tolist()


def test_nothing_in_any_tile():
    found = merged(tile(), tile())
    assert len(found) == 0 and found.image_size == SIZE


def test_boxes_move_into_the_frame_of_the_image_by_descending_score():
    found = merged(tile(([1, 2, 11, 12], 0, 0.5)), tile(([40, 5, 60, 25], 1, 0.75)))
    assert boxes_of(found) == [[100, 5, 120, 25], [1, 2, 11, 12]]
    assert found.pred_classes.tolist() == [1, 0] and found.scores.tolist() == [0.75, 0.5]


def test_what_both_tiles_see_is_found_once_but_not_across_classes():
    left = tile(([70, 10, 90, 30], 0, 0.5), ([70, 10, 90, 30], 1, 0.25))
    right = tile(([10, 10, 31, 30], 0, 0.75))
    found = merged(left, right)
    assert boxes_of(found) == [[70, 10, 91, 30], [70, 10, 90, 30]]
    assert found.pred_classes.tolist() == [0, 1]


def test_a_part_at_the_border_of_a_tile_gives_way_to_the_whole():
    # The left tile ends at 100, in the middle of an object that the right one sees whole.
    part, whole = ([92, 10, 100, 30], 0, 0.95), ([32, 10, 60, 30], 0, 0.5)
    assert boxes_of(merged(tile(part), tile(whole))) == [[92, 10, 120, 30]]
    most = ([72, 10, 100, 30], 0, 0.95), ([12, 10, 48, 30], 0, 0.5)
    assert boxes_of(merged(tile(most[0]), tile(most[1]))) == [[72, 10, 108, 30]]


def test_a_box_at_the_border_of_the_image_is_whole():
    small, large = ([0, 10, 8, 30], 0, 0.9), ([0, 5, 60, 45], 0, 0.5)
    assert len(merged(tile(small, large), tile())) == 2


def test_an_object_larger_than_the_overlap_keeps_its_parts():
    left, right = ([20, 0, 100, 50], 0, 0.9), ([0, 0, 90, 50], 0, 0.8)
    assert boxes_of(merged(tile(left), tile(right))) == [[20, 0, 100, 50], [60, 0, 150, 50]]


def test_masks_and_variances_go_with_their_boxes():
    mask = np.zeros((50, 100), bool)
    mask[5:25, 40:60] = True
    left = tile(([1, 2, 11, 12], 0, 0.5), variances=[0.5], masks=[np.eye(50, 100, dtype=bool)])
    right = tile(([40, 5, 60, 25], 1, 0.75), variances=[0.25], masks=[mask])
    found = merged(left, right)
    assert found.variances.tolist() == [0.25, 0.5]
    assert found.pred_masks.shape == (2, *SIZE) and found.pred_masks.dtype == torch.bool
    assert found.pred_masks[0].nonzero().min(0).values.tolist() == [5, 100]
    assert found.pred_masks[0].sum() == 400 and found.pred_masks[1].sum() == 50


def test_what_some_tile_lacks_is_left_out():
    found = merged(tile(([1, 2, 11, 12], 0, 0.5), variances=[0.5]), tile())
    assert not found.has("variances")

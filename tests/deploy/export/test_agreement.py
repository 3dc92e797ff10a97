"""When two detectors find the same."""

import pytest
import torch

from soft_teacher import ExportError
from soft_teacher.deploy.export.agreement import Agreement, compare
from soft_teacher.deploy.export.detection_tensors import DetectionTensors

FLOOR, LIMIT = 0.05, 100
CAT = (0, 0, 32, 32, 0, 0.9)
DOG = (40, 8, 72, 40, 1, 0.6)


def detections(*rows, masks=None):
    """Rows of a box, a class and a score; ``masks`` gives the probability of all pixels of each."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    if masks is not None:
        masks = torch.tensor(masks).reshape(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    return DetectionTensors(table[:, :4], table[:, 4].long(), table[:, 5], masks)


def agree(ours, theirs, *, limit=LIMIT):
    return compare(ours, theirs, floor=FLOOR, limit=limit)


def test_nothing_and_nothing_agree():
    assert agree(detections(), detections()) == Agreement()


def test_the_order_does_not_matter():
    assert agree(detections(CAT, DOG), detections(DOG, CAT)) == Agreement(matched=2)


def test_the_largest_differences_are_reported():
    theirs = detections((0.0625, 0, 32, 32, 0, 0.9), (40, 8, 72, 40, 1, 0.6 + 2**-10))
    found = agree(detections(CAT, DOG), theirs)
    assert (found.matched, found.box) == (2, 0.0625)
    assert found.score == pytest.approx(2**-10, abs=1e-7)
    assert found.joined(Agreement(1, 0.5, 0.0, 0.25)) == Agreement(3, 0.5, 0.0625, 0.25)


@pytest.mark.parametrize(
    "theirs",
    [
        [],
        [CAT],
        [CAT, DOG, (80, 0, 90, 20, 0, 0.5)],
        [CAT, (40, 8, 72, 40, 2, 0.6)],  # another class
        [CAT, (40, 8, 72, 40, 1, 0.61)],  # another score
        [CAT, (41, 8, 73, 40, 1, 0.6)],  # half a pixel would do
        [CAT, CAT],
    ],
)
def test_what_differs_is_refused(theirs):
    with pytest.raises(ExportError, match="have no counterpart"):
        agree(detections(CAT, DOG), detections(*theirs))


def test_a_detection_at_the_threshold_may_be_missing_on_either_side():
    more = detections(CAT, (40, 8, 72, 40, 1, FLOOR + 1e-3))
    assert agree(more, detections(CAT)).matched == agree(detections(CAT), more).matched == 1


def test_the_last_of_as_many_as_are_reported_may_be_another():
    ours = detections(CAT, DOG)
    theirs = detections(CAT, (40, 8, 50, 40, 1, 0.601))
    assert agree(ours, theirs, limit=2).matched == 1
    with pytest.raises(ExportError, match="of 2 detections 1 have no counterpart, and 1 are new"):
        agree(ours, theirs, limit=3)


def test_masks_are_compared():
    one, other, same = (detections(CAT, masks=[p]) for p in (0.5, 0.75, 0.5078125))
    assert agree(one, same).mask == 0.0078125
    with pytest.raises(ExportError, match="masks differ by 0.25"):
        agree(one, other)

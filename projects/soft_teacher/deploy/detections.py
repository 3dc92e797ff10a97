"""What was found in one image, as plain values that a line of JSON holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from detectron2.structures import Instances

from ..data.masks import encoded

__all__ = ["Detections"]


@dataclass(frozen=True)
class Detections:
    """Boxes of an image in its own pixels, by descending score.

    Attributes:
        file: absolute path of the image, or of the video.
        name: its path below the root of the sources without the suffix; no two images share it.
        frame: number in a video, from 0.
        height, width: of the image in pixels, upright.
        boxes: XYXY, absolute pixels.
        classes: class numbers.
        scores: of the boxes.
        variances: box regression variances; None where they were not measured.
        masks: COCO's compressed RLE; None where the detector makes none.
        near: number of boxes, kept or not, whose score is near the threshold.
        unreadable: why the image cannot be read; all else is empty then.
    """

    file: str
    name: str
    frame: int | None = None
    height: int = 0
    width: int = 0
    boxes: list[list[float]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    variances: list[float] | None = None
    masks: list[dict] | None = None
    near: int = 0
    unreadable: str = ""

    @classmethod
    def of(
        cls,
        found: Instances,
        file: str,
        name: str,
        *,
        near: int = 0,
        frame: int | None = None,
    ) -> Detections:
        """Of Instances in the frame of the image."""
        height, width = found.image_size
        variances = found.variances.tolist() if found.has("variances") else None
        return cls(
            file=file,
            name=name,
            frame=frame,
            height=height,
            width=width,
            boxes=found.pred_boxes.tensor.tolist(),
            classes=found.pred_classes.tolist(),
            scores=found.scores.tolist(),
            variances=variances,
            masks=[*map(encoded, found.pred_masks.numpy())] if found.has("pred_masks") else None,
            near=near,
        )

    def as_dict(self) -> dict:
        """For JSON, without what has its default."""
        defaults = {f.name: f.default for f in fields(self)}
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}

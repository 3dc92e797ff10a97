"""What the config inside a checkpoint says, which the weights cannot tell. It is never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ...utils.checks import shown
from ...utils.errors import ConfigError

__all__ = ["Pixels", "SourceConfig"]

# What the conversion takes for granted: section -> names -> the values that are right.
GRANTED = {
    "anchor_generator": {
        "scales": [[8]],
        "ratios": [[0.5, 1.0, 2.0]],
        "strides": [[4, 8, 16, 32, 64]],
    },
    "bbox_coder": {
        "target_means": [[0.0] * 4],
        "target_stds": [[1.0] * 4, [0.1, 0.1, 0.2, 0.2]],
    },
    "roi_layer": {"type": ["RoIAlign"], "output_size": [7], "sampling_ratio": [0]},
    "bbox_roi_extractor": {"featmap_strides": [[4, 8, 16, 32]], "finest_scale": [56]},
    "rpn": {"nms_pre": [1000, 2000], "min_bbox_size": [0]},
}
UNKNOWN = object()


@dataclass(frozen=True)
class Pixels:
    """How images are normalized: the order of the channels, and values in that order."""

    image_format: str
    mean: list[float]
    std: list[float]


# By the style of the ResNet.
USUAL = {
    "caffe": Pixels("BGR", [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]),
    "pytorch": Pixels("RGB", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
}


class SourceConfig:
    """A config of mmdetection 2 or 3 as text; empty if a checkpoint has none."""

    def __init__(self, text: str):
        self._values = _parsed(text)

    def style(self, given: str = "") -> str:
        """Where a bottleneck of the ResNet strides: "caffe" or "pytorch".

        Args:
            given: by the user.

        Raises:
            ConfigError: it is not known, or the two contradict each other.
        """
        found = self._only("backbone", "style")
        if given and found and given != found:
            raise ConfigError(f"--style {given}, but the checkpoint's own config says {found}")
        if not (given or found):
            raise ConfigError(
                "the checkpoint does not say of which style its ResNet is: add --style caffe "
                "(microsoft/SoftTeacher, and files with caffe in their name) or --style pytorch"
            )
        if (given or found) not in USUAL:
            raise ConfigError(f"a ResNet of style {shown(found)} is not converted")
        return given or found

    def pixels(self, style: str) -> Pixels:
        """How images are normalized; usually it follows from the style."""
        return self.stated_pixels() or USUAL[style]

    def stated_pixels(self) -> Pixels | None:
        """How images are normalized, if the config says so."""
        for section, flag in (("data_preprocessor", "bgr_to_rgb"), ("img_norm_cfg", "to_rgb")):
            mean, std = self._only(section, "mean"), self._only(section, "std")
            if mean and std:
                order = "RGB" if self._only(section, flag) else "BGR"
                return Pixels(order, _numbers(mean), _numbers(std))
        return None

    def thresholds(self) -> dict[str, float]:
        """Detectron2's keys of how boxes are selected at the end, as far as they are given."""
        for section in self._sections("rcnn"):
            if "score_thr" in section:
                nms = section.get("nms") if isinstance(section.get("nms"), dict) else {}
                found = {
                    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": section["score_thr"],
                    "MODEL.ROI_HEADS.NMS_THRESH_TEST": nms.get("iou_threshold"),
                    "TEST.DETECTIONS_PER_IMAGE": section.get("max_per_img"),
                }
                return {k: v for k, v in found.items() if isinstance(v, (int, float))}
        return {}

    def check(self) -> None:
        """Raises ConfigError for what is not as the conversion takes for granted."""
        for section, names in GRANTED.items():
            for name, right in names.items():
                for value in self._all(section, name):
                    if value not in right:
                        raise ConfigError(
                            f"the checkpoint's config has {section}.{name} = {shown(value)}, only "
                            f"{' or '.join(map(str, right))} is converted"
                        )

    def _only(self, section: str, name: str):
        """The value that all sections of a name agree on; None if there is none."""
        found = self._all(section, name)
        for value in found[1:]:
            if value != found[0]:
                raise ConfigError(
                    f"the checkpoint's config has {section}.{name} = {shown(found[0])} and "
                    f"{shown(value)}"
                )
        return found[0] if found else None

    def _all(self, section: str, name: str) -> list:
        found = (values.get(name, UNKNOWN) for values in self._sections(section))
        return [value for value in found if value is not UNKNOWN]

    def _sections(self, name: str) -> list[dict]:
        return [values for values in _below(self._values, name) if isinstance(values, dict)]


def _numbers(values) -> list[float]:
    if len(values) != 3 or not all(isinstance(v, (int, float)) for v in values):
        raise ConfigError(f"the checkpoint's config normalizes by {shown(values)}")
    return list(map(float, values))


def _below(values, name: str) -> Iterator:
    """All values of a key, however deep it lies."""
    if isinstance(values, dict):
        if name in values:
            yield values[name]
        values = list(values.values())
    for value in values if isinstance(values, list) else ():
        yield from _below(value, name)


def _parsed(text: str) -> dict:
    """{name: value} of the assignments at the top of a program."""
    try:
        program = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"the checkpoint's own config cannot be read: {error}") from error
    assignments = [node for node in program.body if isinstance(node, ast.Assign)]
    return {
        target.id: _value(node.value)
        for node in assignments
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _value(node: ast.expr):
    """Plain values, with tuples as lists; :data:`UNKNOWN` for anything that has to be run."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key) if key else UNKNOWN for key in node.keys]
        return {k: _value(v) for k, v in zip(keys, node.values) if isinstance(k, str)}
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return UNKNOWN

"""What of a checkpoint fits into the detector of a config, to begin a training with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from ...experiment.experiment import Experiment
from ...modeling.weights.swin import resized_bias_table, swin_from_mmdet
from ...utils.atomic import atomic_path
from ...utils.errors import ConfigError
from ..stock_config import WEIGHTS
from .classes import CLASS_LAYER, Classes, classes_of
from .layout import Key, chosen, named_in_short, split
from .reading import Foreign, read_foreign
from .report import reasons_of, write_report
from .rules import DETECTORS, renamed
from .source_config import USUAL, Pixels, SourceConfig

__all__ = ["Fitted", "fit", "parts_of", "write_fitted"]

BODY = "backbone.bottom_up."
# What a backbone has in a detector alone, or can do without.
NOT_PRETRAINED = re.compile(
    rf"{re.escape(BODY)}(norm\d\.|global_attention\.|.*\.num_batches_tracked$)"
)
SWIN = re.compile(r"(patch_embed|layers|stages|norm\d)\..+|absolute_pos_embed")
# The tensor by which a Swin is known: its own name and mmdetection's.
OWN, MMDET = "patch_embed.proj.weight", "patch_embed.projection.weight"
TABLE, INDEX = ".relative_position_bias_table", ".relative_position_index"
SCORES = re.compile(r"roi_heads\.box_predictor(\.0)?\.cls_score\.bias")
UNKNOWN, COMPUTED, CLASSES = "not in the detector", "computed anew", "of other classes"
LOADED, RESIZED = "loaded", "loaded, resized to the window"


@dataclass(frozen=True)
class Fitted:
    """The tensors that a detector takes from a checkpoint.

    Attributes:
        weights: by the detector's names.
        keys: every tensor of the checkpoint, in its order; ``note`` says what became of it.
        missing: tensors of the detector that stay as they are initialized.
        left_out: what else is in the file.
    """

    weights: dict[str, torch.Tensor]
    keys: list[Key]
    missing: list[str]
    left_out: list[str]


def fit(
    path: str,
    experiment: Experiment,
    *,
    network: str = "",
    annotations: str = "",
    new_classes: bool = False,
) -> Fitted:
    """Fits a checkpoint into the student of a config, by names and shapes.

    Args:
        path: a Swin or a detector, of mmdetection, Detectron2 or this project, or Swin's own file.
        experiment: the config.
        network: "student" or "teacher" of a file that holds both.
        annotations: the COCO JSON that a detector was trained on, for classes other than COCO's.
        new_classes: take no layer whose rows are classes. They are not taken either where the
            classes are not known, or are not as many.

    Raises:
        ConfigError: the file cannot be read, or its backbone is not the config's.
    """
    source = read_foreign(path, any_layout=True)
    model = experiment.bare_model()
    if model is None:
        raise ConfigError("--config-file: its model cannot be built without memory")
    expected = model.student.state_dict()
    with reasons_of(path):
        weights = _network(split(source.weights), network)
        named = _named(weights, expected)
        _check_pixels(_pixels(source, weights), experiment)
        classes = None if new_classes else _classes(source, named, expected, annotations)
        return _fitted(named, expected, classes, source.entries)


def write_fitted(fitted: Fitted, folder: str) -> None:
    """Makes a folder: weights for a run to start from, and what became of every tensor."""
    with atomic_path(folder) as temporary:
        os.mkdir(temporary)
        torch.save({"model": fitted.weights}, os.path.join(temporary, WEIGHTS))
        write_report(temporary, fitted.keys, fitted.left_out, fitted.missing)


def _network(networks: Mapping[str, dict], name: str) -> dict[str, torch.Tensor]:
    if len(networks) == 1 and not name:
        return next(iter(networks.values()))
    if not name:
        raise ConfigError("--network: the checkpoint holds a student and a teacher, name one")
    return chosen(networks, name)


def _named(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> list[tuple[Key, torch.Tensor]]:
    """All tensors with their names in the detector, if they have one there."""
    swin = _swin(weights)
    found = []
    for source, value in weights.items():
        target = source
        if source in swin:
            target, value = swin[source]
        elif source not in expected:
            target = renamed(source, DETECTORS)
        found.append((Key(source, target if target in expected else ""), value))
    return found


def _swin(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, torch.Tensor]]:
    """Tensors of a Swin under another prefix than ours: name -> our name and value."""
    for known in (OWN, MMDET):
        for name in weights:
            if name.endswith(known) and name != BODY + known:
                prefix = name[: -len(known)]
                own = {
                    key: value
                    for key, value in weights.items()
                    if key.startswith(prefix) and SWIN.fullmatch(key[len(prefix) :])
                }
                body = {key[len(prefix) :]: value for key, value in own.items()}
                ours = body if known == OWN else swin_from_mmdet(body)
                return {k: (BODY + name, v) for k, (name, v) in zip(own, ours.items())}
    return {}


def _fitted(
    named: Iterable[tuple[Key, torch.Tensor]],
    expected: Mapping[str, torch.Tensor],
    classes: Classes | None,
    left_out: list[str],
) -> Fitted:
    weights, keys = {}, []
    for key, value in named:
        value, note = _taken(key.target, value, expected, classes)
        if value is not None:
            weights[key.target] = value
        keys.append(replace(key, note=note))
    if classes is not None:
        weights = classes.permuted(weights)
    missing = [n for n in expected if n not in weights and not n.endswith(INDEX)]
    _check_body(keys, missing)
    return Fitted(weights, keys, missing, left_out)


def _taken(
    target: str,
    value: torch.Tensor,
    expected: Mapping[str, torch.Tensor],
    classes: Classes | None,
) -> tuple[torch.Tensor | None, str]:
    """The value of a tensor in the detector, None if it is left out; what a report says."""
    if not target:
        return None, UNKNOWN
    if classes is None and _has_rows_of_classes(target, expected[target]):
        return None, CLASSES
    wanted, note = expected[target], LOADED
    if value.shape != wanted.shape and target.endswith(INDEX):
        return None, COMPUTED
    is_table = target.endswith(TABLE) and value.shape[1:] == wanted.shape[1:]
    if value.shape != wanted.shape and is_table:
        value, note = resized_bias_table(value.float(), len(wanted)), RESIZED
    if value.shape != wanted.shape:
        one, other = (" x ".join(map(str, x.shape)) or "a number" for x in (value, wanted))
        return None, f"of another shape: {one}, in the detector {other}"
    return value.to(wanted.dtype), note


def _has_rows_of_classes(name: str, value: torch.Tensor) -> bool:
    found = CLASS_LAYER.fullmatch(name)
    # Class-agnostic boxes and masks have the rows of one class.
    least = {"cls_score": 0, "bbox_pred": 4, "predictor": 1}
    return bool(found) and len(value) > least[found["layer"]]


def _classes(
    source: Foreign,
    named: Iterable[tuple[Key, torch.Tensor]],
    expected: Mapping[str, torch.Tensor],
    annotations: str,
) -> Classes | None:
    """The classes of the file, if their rows can be taken."""
    rows = [len(value) for key, value in named if SCORES.fullmatch(key.target)]
    wanted = [len(value) for name, value in expected.items() if SCORES.fullmatch(name)]
    if not rows or (rows != wanted and not annotations):
        return None
    try:
        found = classes_of(rows[0] - 1, source.classes, annotations)
    except ConfigError:
        if annotations:
            raise
        return None
    return found if rows == wanted else None


def _pixels(source: Foreign, weights: Iterable[str]) -> Pixels | None:
    """How images are normalized: as its config says, and by Swins all alike."""
    is_swin = any(name.endswith((OWN, MMDET)) for name in weights)
    return SourceConfig(source.config).stated_pixels() or (USUAL["pytorch"] if is_swin else None)


def _check_pixels(pixels: Pixels | None, experiment: Experiment) -> None:
    keys = ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
    order, mean, std = (experiment[key] for key in keys)
    if pixels is None or mean is None or std is None:
        return
    if order == pixels.image_format and _near(mean, pixels.mean) and _near(std, pixels.std):
        return
    raise ConfigError(
        experiment.words(
            f"it was trained on {pixels.image_format} pixels less {pixels.mean} by {pixels.std}, "
            f"the config has {order}, {list(mean)} and {list(std)}: set {', '.join(keys)}"
        )
    )


def _near(one: Iterable[float], other: Iterable[float]) -> bool:
    return all(abs(a - b) < 0.01 for a, b in zip(one, other, strict=True))


def _check_body(keys: list[Key], missing: list[str]) -> None:
    """Raises ConfigError unless the backbone itself comes from the file as a whole."""
    if not any(key.note in (LOADED, RESIZED) for key in keys):
        names = named_in_short([key.source for key in keys])
        raise ConfigError(f"none of its tensors fits the detector of --config-file: it has {names}")
    absent = [n for n in missing if n.startswith(BODY) and not NOT_PRETRAINED.match(n)]
    if absent:
        odd = [f"'{key.source}' is {key.note}" for key in keys if key.target in absent]
        why = odd[0] if odd else f"there is nothing for {named_in_short(absent)}"
        raise ConfigError(f"its backbone is not that of --config-file: {why}")


def parts_of(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(part of a detector, number of its tensors), in their order."""
    counts: dict[str, int] = {}
    for name in names:
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + 1
    yield from counts.items()

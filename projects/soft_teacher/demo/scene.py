"""Draws one image of the digits dataset: a photograph crop, clutter, and digits on top."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from .sources import (
    PHOTOS,
    digits_by_class,
    load_digit_samples,
    load_photo,
    photo_region,
    shortest_side,
)
from .spec import DigitsSpec

# The order is part of the seeds: append, never reorder.
SPLITS = ("train", "unlabeled", "val")
# A pixel belongs to a digit where at least this share of it shows.
VISIBLE = 0.5
MAX_OVERLAP = 0.1
CROP_SIDE = (72, 256)
PLACE_TRIES = 40


@dataclass
class PlacedDigit:
    """A pasted digit: sklearn sample id, digit value, and H x W float32 share of it that shows."""

    sample: int
    label: int
    alpha: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """H x W bool: the pixels that show it."""
        return self.alpha >= VISIBLE

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight x, y, w, h around its mask (absolute pixels of the image)."""
        return _bounds(self.mask)


@dataclass
class Scene:
    """An image with its ground truth and where each pixel came from.

    ``image`` and ``background`` (the same before the digits) are H x W x 3 uint8 RGB; ``photo``
    and each distractor are JSON-ready provenance records whose ``crop`` is x, y, w, h in the
    photograph's own pixels.
    """

    image: np.ndarray
    background: np.ndarray
    photo: dict
    distractors: list[dict] = field(default_factory=list)
    digits: list[PlacedDigit] = field(default_factory=list)


def render_scene(spec: DigitsSpec, split: str, index: int) -> Scene:
    """Image ``index`` (from 0) of ``split``; a pure function of its arguments."""
    entropy = (spec.seed, SPLITS.index(split), index)
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    val = split == "val"
    canvas, photo = _background(rng, spec.image_size, val)
    distractors = [
        _add_distractor(rng, canvas, spec, val) for _ in range(rng.integers(spec.clutter + 1))
    ]
    background = _to_uint8(canvas)
    digits: list[PlacedDigit] = []
    for _ in range(rng.integers(spec.min_objects, spec.max_objects + 1)):
        _add_digit(rng, canvas, spec, val, digits)
    return Scene(_to_uint8(canvas), background, photo, distractors, digits)


def _background(rng, size: int, val: bool) -> tuple[np.ndarray, dict]:
    name = PHOTOS[rng.integers(len(PHOTOS))]
    longest = min(CROP_SIDE[1], shortest_side(name))
    crop = _random_crop(rng, name, val, int(rng.integers(CROP_SIDE[0], longest + 1)))
    pixels = _cut(name, crop)
    interpolation = cv2.INTER_AREA if crop[2] > size else cv2.INTER_CUBIC
    canvas = cv2.resize(pixels, (size, size), interpolation=interpolation).astype(np.float32)
    flip = bool(rng.integers(2))
    canvas = canvas[:, ::-1] if flip else canvas
    # A tint, so that the grey photographs do not give themselves away as colourless.
    canvas = np.clip(canvas * rng.uniform(0.75, 1.25, 3).astype(np.float32), 0, 255)
    return np.ascontiguousarray(canvas), {"photo": name, "crop": list(crop), "flip": flip}


def _random_crop(rng, name: str, val: bool, side: int) -> tuple[int, int, int, int]:
    left, top, width, height = photo_region(name, val)
    x = left + int(rng.integers(width - side + 1))
    y = top + int(rng.integers(height - side + 1))
    return x, y, side, side


def _cut(name: str, crop: tuple[int, int, int, int]) -> np.ndarray:
    x, y, w, h = crop
    return np.ascontiguousarray(load_photo(name)[y : y + h, x : x + w])


def _add_digit(rng, canvas: np.ndarray, spec: DigitsSpec, val: bool, digits: list[PlacedDigit]):
    """Paste one digit where it hardly overlaps the others; no free place, no digit."""
    label = int(rng.integers(spec.num_classes))
    sample = int(rng.choice(digits_by_class(val)[label]))
    # Where a large digit finds no place, a small one of the same sample may.
    for size in (_log_uniform(rng, *spec.digit_size), spec.digit_size[0]):
        glyph = _glyph(rng, sample, size)
        place = _free_place(rng, glyph, canvas.shape[0], [d.box for d in digits])
        if place is not None:
            break
    else:
        return
    under = _window(canvas, glyph, place)
    _paste(under, glyph * rng.uniform(0.8, 1.0), _colour(rng, under, glyph, spec.contrast))
    alpha = np.zeros(canvas.shape[:2], np.float32)
    _window(alpha, glyph, place)[:] = glyph
    for other in digits:
        other.alpha *= 1 - alpha
    digits.append(PlacedDigit(sample, label, alpha))


def _free_place(rng, glyph: np.ndarray, size: int, boxes: list) -> tuple[int, int] | None:
    if max(glyph.shape) > size:
        return None
    x0, y0, w, h = _bounds(glyph >= VISIBLE)
    for _ in range(PLACE_TRIES):
        x, y = _random_place(rng, glyph, size)
        if all(_overlap((x + x0, y + y0, w, h), box) < MAX_OVERLAP for box in boxes):
            return x, y
    return None


def _random_place(rng, glyph: np.ndarray, size: int) -> tuple[int, int]:
    height, width = glyph.shape
    return int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))


def _overlap(a, b) -> float:
    """Intersection over the smaller box: stricter than IoU, so that no small digit is buried."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0) / min(a[2] * a[3], b[2] * b[3])


def _glyph(rng, sample: int, size: float) -> np.ndarray:
    """Alpha patch of one distorted digit, float32 in [0, 1], without empty margins."""
    small = np.pad(load_digit_samples()[0][sample], 1)
    height = 10 * size / 8
    width = height * rng.uniform(0.8, 1.15)
    large = cv2.resize(small, (round(width), round(height)), interpolation=cv2.INTER_CUBIC)
    angle = math.radians(rng.uniform(-15, 15))
    shear = rng.uniform(-0.15, 0.15)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotation @ np.array([[1, shear], [0, 1]])
    side = math.ceil(1.5 * max(large.shape))
    shift = side / 2 - linear @ (np.array(large.shape[::-1]) / 2)
    matrix = np.hstack([linear, shift[:, None]])
    ink = cv2.warpAffine(large, matrix, (side, side), flags=cv2.INTER_CUBIC)
    # The blurred upscaling becomes a stroke with an edge about two pixels soft.
    ramp = np.clip((ink - 0.3) / 0.4, 0, 1)
    return _trim(ramp * ramp * (3 - 2 * ramp), 0.02)


def _colour(rng, under: np.ndarray, alpha: np.ndarray, contrast: float) -> np.ndarray:
    """A random RGB at about ``contrast`` from the mean of ``under`` weighted by ``alpha``."""
    mean = alpha.ravel() @ under.reshape(-1, 3) / alpha.sum()
    wanted = 255 * contrast * rng.uniform(0.7, 1.3)
    candidates = rng.uniform(0, 255, (64, 3))
    distance = np.sqrt(((candidates - mean) ** 2).mean(1))
    return candidates[np.abs(distance - wanted).argmin()].astype(np.float32)


def _add_distractor(rng, canvas: np.ndarray, spec: DigitsSpec, val: bool) -> dict:
    """Draw one distractor of digit-like size onto the canvas and say what it was."""
    kinds = ("patch", "stroke", "piece") if spec.num_classes < 10 else ("patch", "stroke")
    kind = kinds[rng.integers(len(kinds))]
    size = _log_uniform(rng, *spec.digit_size)
    if kind == "patch":
        return _add_patch(rng, canvas, size, val)
    if kind == "stroke":
        return _add_stroke(rng, canvas, size, spec.contrast)
    return _add_piece(rng, canvas, size, spec, val)


def _add_patch(rng, canvas: np.ndarray, size: float, val: bool) -> dict:
    name = PHOTOS[rng.integers(len(PHOTOS))]
    crop = _random_crop(rng, name, val, min(round(size), shortest_side(name)))
    pixels = _cut(name, crop)
    _window(canvas, pixels, _random_place(rng, pixels[..., 0], canvas.shape[0]))[:] = pixels
    return {"kind": "patch", "photo": name, "crop": list(crop)}


def _add_stroke(rng, canvas: np.ndarray, size: float, contrast: float) -> dict:
    side = canvas.shape[0]
    corner = rng.uniform(0, max(side - size, 1), 2)
    knots = corner + rng.uniform(0, size, (3, 2))
    t = np.linspace(0, 1, 17)[:, None]
    curve = (1 - t) ** 2 * knots[0] + 2 * t * (1 - t) * knots[1] + t**2 * knots[2]
    ink = np.zeros((side, side), np.uint8)
    width = max(1, round(size * rng.uniform(0.08, 0.2)))
    cv2.polylines(ink, [np.round(curve).astype(np.int32)], False, 255, width, cv2.LINE_AA)
    x, y, w, h = _bounds(ink > 0)
    if w:
        alpha = ink[y : y + h, x : x + w].astype(np.float32) / 255
        under = _window(canvas, alpha, (x, y))
        _paste(under, alpha, _colour(rng, under, alpha, contrast))
    return {"kind": "stroke"}


def _add_piece(rng, canvas: np.ndarray, size: float, spec: DigitsSpec, val: bool) -> dict:
    """Half to three quarters of a digit that is no object, cut across either axis."""
    label = int(rng.integers(spec.num_classes, 10))
    sample = int(rng.choice(digits_by_class(val)[label]))
    glyph = _glyph(rng, sample, size)
    if rng.integers(2):
        glyph = glyph.T
    kept = math.ceil(len(glyph) * rng.uniform(0.5, 0.75))
    glyph = _trim(glyph[:kept] if rng.integers(2) else glyph[-kept:], 0.02)
    if glyph.size and max(glyph.shape) <= canvas.shape[0]:
        under = _window(canvas, glyph, _random_place(rng, glyph, canvas.shape[0]))
        _paste(under, glyph, _colour(rng, under, glyph, spec.contrast))
    return {"kind": "piece", "digit": sample}


def _paste(under: np.ndarray, alpha: np.ndarray, colour: np.ndarray):
    under += np.float32(alpha)[..., None] * (colour - under)


def _window(canvas: np.ndarray, patch: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The view of the canvas that a patch at x, y covers."""
    x, y = place
    return canvas[y : y + patch.shape[0], x : x + patch.shape[1]]


def _trim(alpha: np.ndarray, threshold: float) -> np.ndarray:
    x, y, w, h = _bounds(alpha > threshold)
    return alpha[y : y + h, x : x + w]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, w, h of the true pixels; zeros when there is none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def _log_uniform(rng, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _to_uint8(canvas: np.ndarray) -> np.ndarray:
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)

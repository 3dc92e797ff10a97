"""Any YOLO dataset gives its boxes as they were put in, and counts others; or one line."""

import json
import random

import pytest
from damage import damaged, fuzzed
from written import Photo, read_back, write_image

from soft_teacher.data.datasets.formats.yolo import parse
from soft_teacher.utils.errors import ConfigError

pytestmark = pytest.mark.timeout(120)

PHOTO = Photo("photo", 64, 48)
UNTOUCHED = [("cat", [16, 12, 32, 24])]
NAMES = ["cat", "no", "Über: größe", "1", "null"]
NO_NUMBERS = ["abc", "1,5", "nan", "inf", "-", "0x10", "1e999", "½", "[0.5]"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for stem in ("photo", "untouched"):
        write_image(tmp_path / "images" / "train" / f"{stem}.png", PHOTO)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "untouched.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "train.txt").write_text("./images/train/photo.png\nimages/train/untouched.png\n")
    return tmp_path


def any_yaml(rng):
    """A data.yaml as some tool may write it."""
    names = rng.choice([NAMES, dict(enumerate(NAMES))])
    train = rng.choice(["images/train", "./images", "../images/train", "train.txt"])
    train = rng.choice([train, [train], ["train.txt", "images/train"]])
    keys = {"train": train, "names": names}
    keys |= rng.choice([{}, {"path": "."}, {"path": ""}, {"path": "/content/data"}])
    keys |= rng.choice([{}, {"nc": len(NAMES)}, {"val": None, "download": "x"}])
    items = list(keys.items())
    rng.shuffle(items)
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in items]
    if isinstance(names, dict):  # JSON's keys are texts
        lines = [line.replace('"0": ', "0: ") for line in lines]
    ending = rng.choice(["\n", "\r\n", "\n# comment: [\n"])
    return ending.join(["", *lines, ""]).encode(rng.choice(["utf-8", "utf-8-sig"]))


class Labels:
    """A label file as some tool may write it.

    Attributes:
        text: of the file.
        expected: class and box of each line that is fine.
        broken: how many others there are.
    """

    def __init__(self, rng):
        self.expected, self.broken = [], 0
        lines = [self._line(rng) for _ in range(rng.randint(0, 6))]
        blank = rng.choice(["", "", " \t"])
        self.text = rng.choice(["", "\ufeff", "\n"]) + rng.choice(["\n", "\r\n"]).join(
            [*lines, blank]
        )

    def _line(self, rng):
        left, top = rng.randint(0, PHOTO.width - 2), rng.randint(0, PHOTO.height - 2)
        box = [left, top, rng.randint(1, PHOTO.width - left), rng.randint(1, PHOTO.height - top)]
        number = rng.randrange(len(NAMES))
        category = rng.choice([f"{number}", f"{number}.0", f"{number}.000e+00"])
        values = rng.choice([self._sides, self._sides, self._polygon])(rng, *box)
        if rng.random() < 0.3:
            self.broken += 1
            category, values = self._broken(rng, category, values)
        else:
            self.expected.append((NAMES[number], box))
        return rng.choice([" ", "\t", "   "]).join([rng.choice(["", " "]) + category, *values])

    @staticmethod
    def _sides(rng, left, top, width, height):
        x, y = (left + width / 2) / PHOTO.width, (top + height / 2) / PHOTO.height
        numbers = [x, y, width / PHOTO.width, height / PHOTO.height]
        text = rng.choice([repr, "{:.17f}".format, "{:.16e}".format])
        return [text(n) for n in numbers] + rng.choice([[], [f"{rng.random()}"]])

    @staticmethod
    def _polygon(rng, left, top, width, height):
        right, bottom = left + width, top + height
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
        points += [(left, top)] * rng.randint(0, 2)
        rng.shuffle(points)
        return [repr(n) for x, y in points for n in (x / PHOTO.width, y / PHOTO.height)]

    @staticmethod
    def _broken(rng, category, values):
        place = rng.randrange(4)
        how = rng.randrange(6)
        if how == 0:
            return rng.choice(["cat", "-1", f"{len(NAMES)}", "0.5", "nan", "1e300"]), values
        if how == 1:
            return category, values[:place]
        if how == 2:
            odd = rng.choice(["nan", rng.choice(NO_NUMBERS)])
            return category, [*values[:place], odd, *values[place + 1 :]]
        if how == 3:
            return category, values[:2] + rng.choice([["0", "0.5"], ["0.5", "-0.5"]])
        if how == 4:
            return category, [rng.choice(["1.7", "-0.7", "12"]), "0.5", "0.2", "0.2"]
        return category, [f"{rng.random()}" for _ in range(rng.choice([7, 9, 11]))]


def close(found, expected):
    """Whether classes are the same and boxes, but for rounding."""
    return [name for name, _ in found] == [name for name, _ in expected] and all(
        box == pytest.approx(true, abs=1e-9) for (_, box), (_, true) in zip(found, expected)
    )


def check_labels(folder, rng):
    labels = Labels(rng)
    (folder / "labels" / "train" / "photo.txt").write_text(labels.text, encoding="utf-8")
    (folder / "data.yaml").write_bytes(any_yaml(rng))
    kept, dropped = read_back(parse(f"{folder}/data.yaml@train"))
    assert list(kept) == ["images/train/photo.png", "images/train/untouched.png"]
    assert close(kept["images/train/photo.png"], labels.expected), labels.text
    assert close(kept["images/train/untouched.png"], UNTOUCHED)
    assert dropped == labels.broken, labels.text


def check_damaged_labels(folder, rng):
    file = folder / "labels" / "train" / "photo.txt"
    file.write_bytes(damaged(rng, Labels(rng).text.encode()))
    (folder / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    kept, _ = read_back(parse(f"{folder}/data.yaml@train"))
    assert len(kept) == 2 and close(kept["images/train/untouched.png"], UNTOUCHED)


def check_damaged_files(folder, rng):
    """A data.yaml and a list of images of any bytes."""
    (folder / "data.yaml").write_bytes(damaged(rng, any_yaml(rng)))
    images = b"./images/train/photo.png\nimages/train/untouched.png\n"
    (folder / "train.txt").write_bytes(damaged(rng, images) if rng.random() < 0.5 else images)
    try:
        raw = parse(f"{folder}/data.yaml@train")
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        return
    read_back(raw)
    for annotation in raw.annotations:
        assert annotation["image_id"].endswith("untouched.png")
        assert annotation["bbox"] == UNTOUCHED[0][1] and annotation["category_id"] == 0


@pytest.mark.parametrize("check", [check_labels, check_damaged_labels, check_damaged_files])
@fuzzed(150, 1500)
def test_any_file(folder, check, seeds):
    for seed in seeds:
        check(folder, random.Random(seed))

"""Whatever a COCO JSON or a path holds: one line of refusal, or data that is right."""

import contextlib
import copy
import io
import json
import math
import random

import pytest
from damage import fuzzed
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.evaluated import has_annotations
from soft_teacher.data.datasets.loading import load_reading, loaded_once
from soft_teacher.utils.errors import ConfigError

SIZE = 64
IMAGES = 4
CLASSES = ("cat", "dog")
NUMBERS = [0, 1, -1, 2, 3, 5, 63, 64, 65, 0.3, 20.5, 1e9, 2**31, 2**63, 10**400, -7]
NUMBERS += [float("nan"), float("inf"), -float("inf")]
WORDS = ["", "1", "2", "1.0", "12.5", "x", "0.png", "../0.png", "a\0b", "\ud800", "nan", "1e999"]
ODD = [*NUMBERS, *WORDS, None, True, False, [], {}, [1], [[1]], {"a": 1}, [1, 1, 20, 20]]
FORMS = ["@", "{json}@", "@{folder}", "{json}@nowhere", "{folder}@{json}", "{json}x", "{folder}/*"]
FORMS += ["{folder}/", "{folder}/**", "{folder}[", "~", "~nobody", ".", "*", "{json}@{json}"]
FORMS += ["{json}.txt", "{list}", "{LIST}", "\0", "\n", "{json}\0", "%", "{{}}"]
FORMS += ["{folder}/0.png", "{folder}/.hidden", "x" * 300 + ".json", "http://x.json", "?", "[]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, one of them in a folder of its own."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        Image.new("RGB", (SIZE, SIZE)).save(root / f"{number}.png")
    (root / "empty.png").touch()
    return root


@pytest.fixture(autouse=True)
def surroundings(own_catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def whole(rng):
    """A COCO JSON with nothing wrong in it."""
    sizes = {"height": SIZE, "width": SIZE}
    annotations = []
    for number in range(8):
        x, y, width, height = (rng.randint(1, 30) for _ in range(4))
        place = {"id": number + 1, "image_id": rng.randint(1, IMAGES), "iscrowd": 0}
        box = {"bbox": [x, y, width, height], "area": width * height}
        annotations.append({**place, **box, "category_id": number % 2 + 1, "segmentation": []})
    return {
        "info": {},
        "images": [{"id": n + 1, "file_name": f"{n}.png", **sizes} for n in range(IMAGES)],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES, 1)],
    }


def places(value, path=()):
    """All (path, value) of a JSON."""
    yield path, value
    items = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else items:
        yield from places(item, (*path, key))


def mutated(rng, content):
    """The JSON with one place changed, removed, repeated or swapped for another."""
    path, value = rng.choice([place for place in places(content) if place[0]])
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.choice(["odd", "odd", "odd", "remove", "repeat", "text", "everywhere"])
    if kind == "remove":
        del parent[path[-1]]
    elif kind == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(value))
    elif kind == "text":
        parent[path[-1]] = str(value)
    elif kind == "everywhere" and len(path) > 2 and isinstance(content[path[0]], list):
        odd = rng.choice(ODD)
        for item in content[path[0]]:
            if isinstance(item, dict):
                item[path[2]] = odd
    else:
        parent[path[-1]] = rng.choice(ODD)


def one_line(check, *args, **kwargs):
    """What the check gives; None if it refuses in one line that can be printed."""
    try:
        return check(*args, **kwargs)
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 12_000
        text.encode()
        return None


def check_labeled(name):
    dicts = labeled_dicts([name])
    balance = load_reading(name).balance
    assert sum(len(d["annotations"]) for d in load_reading(name).dicts) == (
        balance.learned + balance.dropped["crowd"]
    )
    assert balance.read == balance.learned + balance.dropped.total() and balance.learned > 0
    classes = MetadataCatalog.get(name).thing_classes
    for record in dicts:
        for annotation in record["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in (x, y))
            assert width >= 1 and height >= 1 and annotation["bbox_mode"] == BoxMode.XYWH_ABS
            assert x < record["width"] and y < record["height"] and x + width > 0 and y + height > 0
            assert annotation["category_id"] in range(len(classes))
            assert annotation.get("iscrowd", 0) in (0, 1)


def check_evaluation(name):
    """Perfect boxes get an AP of 100, by the JSON that COCO's evaluation reads."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(MetadataCatalog.get(name).json_file)
        if not has_annotations(name):
            assert "annotations" not in truth.dataset
            return
        found = [
            {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0}
            for a in truth.dataset["annotations"]
            if not a["iscrowd"]
        ]
        assert {a["image_id"] for a in found} <= {d["image_id"] for d in DatasetCatalog.get(name)}
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # of up to 100 boxes
    assert precision[precision > -1].mean() == pytest.approx(1)


def check_unlabeled(name):
    """An image file is enough."""
    dicts = unlabeled_dicts([name], classes=CLASSES)
    assert dicts and not any("annotations" in d for d in dicts)


ROLES = ("labeled", "unlabeled", "test")


def accepted(name, role):
    """The warnings about a dataset in a role; None if it is refused in one line."""
    names = {**dict.fromkeys(ROLES, []), role: [name]}
    found = one_line(check_datasets, **names, num_classes=2)
    assert found is None or all("\n" not in line for line in found)
    return found


def check_content(folder, tmp_path, seed):
    rng = random.Random(seed)
    content = whole(rng)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        mutated(rng, content)
    path = tmp_path / f"{seed}.json"
    path.write_text(json.dumps(content))
    name = f"{path}@{folder}"
    roles = {"labeled": check_labeled, "test": check_evaluation, "unlabeled": check_unlabeled}
    with loaded_once():
        for role, check in roles.items():
            if accepted(name, role) is not None:
                check(name)


@fuzzed(250, 2500, each=50)
def test_any_content(seeds, folder, tmp_path):
    for seed in seeds:
        check_content(folder, tmp_path, seed)


def check_path(name):
    for role in ROLES:
        accepted(name, role)


def test_any_path(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "a@b").mkdir()
    json_file, images = tmp_path / "a@b" / "x.json", str(folder)
    json_file.write_text(json.dumps(whole(random.Random(0))))
    names = {"json": json_file, "folder": images, "list": "l.txt", "LIST": "l.TXT"}
    for suffix in ("txt", "TXT"):
        (tmp_path / f"l.{suffix}").write_bytes(b"\xff\xfe0.png")
    for form in FORMS:
        check_path(form.format(**names))
    assert labeled_dicts([f"{json_file}@{images}"])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_any_path_at_length(seed, folder, tmp_path):
    rng = random.Random(seed)
    letters = ["a", "b/", ".json", ".txt", "@", "*", "?", "[", "]", "\\", ".", "\0", " ", "é", "%"]
    for _ in range(50):
        check_path("".join(rng.choices(letters, k=rng.randint(1, 6))))

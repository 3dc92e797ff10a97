"""soft-teacher-splits; what the families draw is tested in tests/data/datasets/splits."""

import json

import pytest
from written import CLASSES, write_coco, write_voc, write_yolo

from soft_teacher.commands import splits as command
from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.splits import families as splits
from soft_teacher.data.datasets.splits.manifest import read_manifest


@pytest.fixture(autouse=True)
def coco(tmp_path, monkeypatch):
    """$DETECTRON2_DATASETS with a train2017 of 200 images, 150 of them with a box."""
    root = tmp_path / "datasets" / "coco"
    (root / "annotations").mkdir(parents=True)
    boxes = [{"image_id": i, "iscrowd": 0} for i in range(150)]
    write(root / "annotations" / "instances_train2017.json", range(200), annotations=boxes)
    write(root / "annotations" / "image_info_unlabeled2017.json", range(300, 310))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    return root


@pytest.fixture
def small(tmp_path):
    """Options for ten images and an output folder of their own."""
    write(tmp_path / "small.json", range(10))
    return ["--json", tmp_path / "small.json", "--output", tmp_path / "splits"]


@pytest.fixture
def failure(capsys):
    """The one line of a refused call, which exits with status 2."""

    def failure(*options):
        try:
            status = run(*options)
        except SystemExit as error:
            status = error.code
        line = capsys.readouterr().err
        assert status == 2 and line.startswith("error: ") and line.count("\n") == 1
        return line

    return failure


def write(path, ids, **keys):
    path.write_text(json.dumps({"images": [{"id": i} for i in ids], **keys}))


def run(*options):
    return command.main([str(option) for option in options])


def manifests(folder):
    return {path.name: read_manifest(path) for path in folder.glob("*.json")}


def test_by_default_stac_s_folds_are_written_where_training_looks(coco, capsys, monkeypatch):
    loads, read = [], command.json_source
    monkeypatch.setattr(command, "json_source", lambda f, *a: loads.append(f.name) or read(f, *a))
    assert run() == 0
    assert loads == ["instances_train2017.json"], "read once"
    made = manifests(coco / "splits")
    assert sorted(made) == sorted(
        f"stac_{percent}p_fold{fold}.json" for percent in (1, 2, 5, 10) for fold in range(1, 6)
    )
    split = made["stac_10p_fold3.json"]
    assert split == splits.stac_split(range(200), 10, 3, source="instances_train2017.json")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["file", "labeled", "unlabeled", "sha256"] and len(rows) == 3 + 20
    counts = str(len(split.labeled)), str(len(split.unlabeled))
    assert ["stac_10p_fold3.json", *counts, split.sha256[:12], "written"] in rows


def test_all_families_shares_and_folds(tmp_path):
    index = tmp_path / "index.txt"
    index.write_text(json.dumps({"2.0": {"1": [0, 1, 2], "0": [149, 0, 1]}}))
    families = ["full", "without_replacement", "unbiased_teacher"]
    options = ["--percent", 2, "--folds", 0, 1, "--index-file", index, "--output", tmp_path]
    assert run("--family", *families, *options) == 0
    made = manifests(tmp_path)
    full = made.pop("full.json")
    assert full.labeled == tuple(range(200)) and full.unlabeled == tuple(range(300, 310))
    assert full.source == "instances_train2017.json + image_info_unlabeled2017.json"
    assert len(made.pop("without_replacement_2p_fold0.json").labeled) == 4
    assert len(made.pop("without_replacement_2p_fold1.json").labeled) == 4
    assert made.pop("unbiased_teacher_2p_fold0.json").labeled == (0, 1, 149)
    assert made.pop("unbiased_teacher_2p_fold1.json").labeled == (0, 1, 2)
    assert not made


def test_an_identical_file_is_kept(small, tmp_path, capsys):
    run(*small, "--percent", 33.5, "--folds", 1)
    path = tmp_path / "splits" / "stac_33.5p_fold1.json"
    before = path.stat()
    assert run(*small, "--percent", 33.5, "--folds", 1, 2) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    rows = map(str.split, capsys.readouterr().out.splitlines())
    assert [row[-1] for row in rows if row[0].endswith(".json")][-2:] == ["kept", "written"]


@pytest.mark.parametrize(
    "damage",
    [lambda text: "", lambda text: text[:-10], lambda text: text.replace('"fold":1', '"fold":2')],
)
def test_a_file_that_differs_is_replaced_only_when_forced(small, tmp_path, damage, failure):
    options = [*small, "--percent", 50, "--folds", 1]
    run(*options)
    path = tmp_path / "splits" / "stac_50p_fold1.json"
    right = path.read_text()
    path.write_text(damage(right))
    assert f"{path} exists and differs: pass --force" in failure(*options)
    assert path.read_text() == damage(right) != right
    assert run(*options, "--force") == 0
    assert path.read_text() == right


@pytest.mark.parametrize(
    "options, message",
    [
        (["--family", "stack"], "invalid choice: 'stack'"),
        (["--family", "unbiased_teacher"], "needs --index-file, the file dataseed/COCO_supervis"),
        (["--json", "gone"], "gone does not exist: set $DETECTRON2_DATASETS, or pass --json FILE"),
        (["--family", "full", "--unlabeled-json", "gone"], "or pass --unlabeled-json FILE"),
        (["--json", __file__], "cannot be read as COCO JSON"),
        (["--percent", "0"], "'0' is no percentage"),
        (["--percent", "101"], "'101' is no percentage"),
        (["--percent", "nan"], "'nan' is no percentage"),
        (["--percent", "ten"], "'ten' is no percentage"),
        (["--percent", "10.0000001"], "at most 6 digits"),
        (["--percent", "1"], "1 of 10 images is none"),
        (["--folds", "one"], "invalid int value: 'one'"),
        (["--percent", "50", "--folds", "-1"], "fold = -1"),
        (["--percent", "50", "--output", f"{__file__}/splits"], __file__),
        (["--percent"], "expected at least one argument"),
        (["--count", "11"], "count = 11: use 1 to 10"),
        (["--count", "0.5"], "invalid int value: '0.5'"),
        (["--count", "2", "--percent", "20"], "--percent: not allowed with argument --count"),
        (["--count", "2", "--family", "unbiased_teacher"], "unbiased_teacher needs --percent"),
        (["--family", "shots"], "--family shots needs --shots"),
        (["--shots", "1", "--family", "stac"], "--family stac needs --percent or --count"),
        (["--shots", "0"], "images[0] needs a file_name"),
        (["--dataset", "x"], "--dataset: not allowed with argument --json"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(small, options, message, failure):
    assert message in failure(*small, *options)


@pytest.mark.parametrize("sizes", [["--percent", 50, 1], ["--count", 5, 11]])
def test_a_mistake_in_the_last_split_leaves_no_file_of_the_first(small, tmp_path, sizes, failure):
    failure(*small, *sizes, "--folds", 1)
    assert not (tmp_path / "splits").exists()


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert " --family full" in capsys.readouterr().out


def test_a_dataset_of_ones_own_is_split_into_parts_that_a_run_takes(
    tmp_path, capsys, datasets_folder
):
    text = (datasets_folder / "digits" / "annotations" / "train.json").read_text()
    (tmp_path / "my").mkdir()
    own = tmp_path / "my" / "boxes.json"
    own.write_text(text)
    images = datasets_folder / "digits" / "train"
    assert run("--json", own, "--images", images, "--percent", 25, "--folds", 1) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = dict(line for line in lines if line[0].startswith("DATASETS."))
    assert list(names) == ["DATASETS.TRAIN_LABELED", "DATASETS.TRAIN_UNLABELED"]
    labeled = labeled_dicts([names["DATASETS.TRAIN_LABELED"]], filter_empty=False)
    unlabeled = unlabeled_dicts([names["DATASETS.TRAIN_UNLABELED"]])
    split = read_manifest(own.parent / "splits" / "stac_25p_fold1.json")
    assert tuple(d["image_id"] for d in labeled) == split.labeled
    assert tuple(d["image_id"] for d in unlabeled) == split.unlabeled
    boxes = sum(len(d["annotations"]) for d in labeled)
    held_out = sum(len(d["hidden_annotations"]) for d in unlabeled)
    assert boxes + held_out == len(json.loads(text)["annotations"]) and held_out > 0


def test_images_without_annotations_are_split_too(small, tmp_path):
    assert run(*small, "--percent", "20", "--folds", "1") == 0
    part = json.loads((tmp_path / "splits" / "stac_20p_fold1" / "unlabeled.json").read_text())
    assert len(part["images"]) == 8 and part["annotations"] == []


# --- numbers of images, and of images for each class --------------------------------------------


def test_a_count_labels_exactly_as_many_images_unless_stac_is_named(small, tmp_path):
    assert run(*small, "--count", 2, 6, "--folds", 1) == 0
    assert run(*small, "--family", "stac", "--count", 6, "--folds", 1) == 0
    made = manifests(tmp_path / "splits")
    counts = {name: (split.count, len(split.labeled)) for name, split in made.items()}
    assert counts == {
        "without_replacement_2_fold1.json": (2, 2),
        "without_replacement_6_fold1.json": (6, 6),
        "stac_6_fold1.json": (6, len(splits.stac_split(range(10), count=6).labeled)),
    }
    assert counts["stac_6_fold1.json"][1] < 6


@pytest.fixture
def boxes(tmp_path):
    """Options for a COCO JSON in which a cat is in images 0 to 7, a dog in 8 and a fox in none."""
    cats = [{"image_id": i, "category_id": 1, "bbox": [0, 0, 4, 4]} for i in range(8)]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(10)],
        "annotations": [*cats, {**cats[0], "image_id": 8, "category_id": 2}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("cat", "dog", "fox"), 1)],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return ["--json", tmp_path / "boxes.json", "--output", tmp_path / "splits"]


def test_shots_label_images_of_every_class_and_name_the_classes_with_too_few(
    boxes, tmp_path, capsys
):
    assert run(*boxes, "--shots", 1, 3, "--folds", 1, 2) == 0
    made = manifests(tmp_path / "splits")
    assert sorted(made) == [f"shots_{k}_fold{fold}.json" for k in (1, 3) for fold in (1, 2)]
    for name, split in made.items():
        assert len(split.labeled) == split.count + 1 and 8 in split.labeled, name
        assert split.family == "shots" and 9 in split.unlabeled
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("note: ")] == [
        "note: fewer than 1 images show fox (none)",
        "note: fewer than 3 images show dog (1), fox (none)",
    ]
    part = json.loads((tmp_path / "splits" / "shots_3_fold1" / "labeled.json").read_text())
    assert [a["category_id"] for a in part["annotations"]] == [1, 1, 1, 2]


def test_shots_of_no_images_or_classes_are_refused(boxes, tmp_path, failure):
    assert "shots = 0: use at least 1" in failure(*boxes, "--shots", 0)
    content = json.loads((tmp_path / "boxes.json").read_text())
    (tmp_path / "boxes.json").write_text(json.dumps({**content, "annotations": []}))
    assert "boxes.json: no image shows a class" in failure(*boxes, "--shots", 1)
    assert not (tmp_path / "splits").exists()


# --- datasets of every form ---------------------------------------------------------------------

FORMATS = {
    "coco": lambda folder: write_coco(folder),
    "voc": lambda folder: f"{write_voc(folder, sets={'train': ['a', 'b', 'c']})}@train",
    "yolo": lambda folder: f"{write_yolo(folder)}@train",
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_any_dataset_is_split_into_parts_that_a_run_takes(
    write, tmp_path, capsys, monkeypatch, own_catalog
):
    monkeypatch.chdir(tmp_path)
    assert run("--dataset", write(tmp_path / "my"), "--shots", 1, "--folds", 1) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = dict(line for line in lines if line[0].startswith("DATASETS."))
    labeled = labeled_dicts([names["DATASETS.TRAIN_LABELED"]])
    unlabeled = unlabeled_dicts([names["DATASETS.TRAIN_UNLABELED"]], classes=CLASSES)
    # The only dog is in b, with a cat.
    assert [d["file_name"].rpartition("/")[2] for d in labeled] == ["b.png"]
    assert [d["file_name"].rpartition("/")[2] for d in unlabeled] == ["a.jpg", "c.png"]
    assert [len(d["hidden_annotations"]) for d in unlabeled] == [1, 0]
    (manifest,) = (tmp_path / "output" / "splits").rglob("shots_1_fold1.json")
    assert read_manifest(manifest).labeled == (2,)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--dataset", "gone"], "--dataset names 'gone', which is neither a registered dataset"),
        (["--dataset", "gone.json"], "gone.json cannot be read"),
        (["--dataset", "my", "--count", "4"], "count = 4: use 1 to 3"),
        (["--dataset", "my", "--images", "my"], "--images is the folder of --json"),
        (["--dataset", "my", "--family", "full"], "made of --json and --unlabeled-json"),
        (["--dataset", "my/JPEGImages", "--count", "1"], "no image has an annotation"),
    ],
)
def test_a_mistake_in_a_dataset_is_one_line_and_leaves_no_file(
    options, message, tmp_path, monkeypatch, failure, own_catalog
):
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path / "my")
    assert message in failure(*options)
    assert not (tmp_path / "output").exists()

"""tools/make_splits.py on a JSON with as many images as COCO's train2017."""

import json
import subprocess
import sys

import make_splits
import numpy as np
import pytest
from training import ROOT

from soft_teacher.data.datasets.dataset_dicts import labeled_dicts, unlabeled_dicts
from soft_teacher.data.datasets.splits import families as splits
from soft_teacher.data.datasets.splits.manifest import read_manifest

NUM_IMAGES, NUM_WITH_BOXES, NUM_UNLABELED = 118_287, 117_266, 123_403
STAC_COUNTS = {
    1: [1174, 1175, 1174, 1174, 1175],
    5: [5764, 5772, 5756, 5766, 5762],
    10: [11285, 11261, 11234, 11262, 11235],
}


@pytest.fixture(scope="module")
def image_ids():
    """Ids as train2017 has them: with gaps, up to 581,929, in no order."""
    return np.random.default_rng(0).permutation(581_929)[:NUM_IMAGES] + 1


@pytest.fixture(scope="module")
def ids_with_boxes(image_ids):
    return sorted(image_ids[1021:].tolist())


@pytest.fixture(scope="module")
def datasets(tmp_path_factory, image_ids, ids_with_boxes):
    """$DETECTRON2_DATASETS with the JSONs of train2017 and unlabeled2017, and no image."""
    root = tmp_path_factory.mktemp("datasets")
    annotations = root / "coco" / "annotations"
    annotations.mkdir(parents=True)
    crowds = [{"image_id": i, "iscrowd": 1} for i in image_ids[:500].tolist()]
    boxes = [{"image_id": i, "iscrowd": 0} for i in [*ids_with_boxes, *ids_with_boxes[:1000]]]
    train = {"images": records(image_ids), "annotations": crowds + boxes}
    (annotations / "instances_train2017.json").write_text(json.dumps(train))
    unlabeled = {"images": records(np.arange(NUM_UNLABELED) * 4 + 1)}
    (annotations / "image_info_unlabeled2017.json").write_text(json.dumps(unlabeled))
    return root


@pytest.fixture(scope="module")
def index_file(tmp_path_factory):
    """Shaped as the published one: percent to fold, "0" to "9", to positions."""
    rng = np.random.default_rng(1)
    sizes = {"0.01": 11, "10.0": 11_726}
    index = {
        percent: {
            str(fold): rng.choice(NUM_WITH_BOXES, size, replace=False).tolist()
            for fold in range(10)
        }
        for percent, size in sizes.items()
    }
    path = tmp_path_factory.mktemp("index") / "COCO_supervision.txt"
    path.write_text(json.dumps(index))
    return path


@pytest.fixture(autouse=True)
def environment(datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))


@pytest.fixture
def small(tmp_path):
    """Options for ten images and an output folder of their own."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"images": records(np.arange(10))}))
    return ["--json", str(path), "--output", str(tmp_path / "splits")]


def records(ids):
    return [{"id": i} for i in ids.tolist()]


def run(*options):
    return make_splits.main([str(option) for option in options])


def failure(capsys, *options):
    """The one line of a refused call, which exits with status 2."""
    try:
        status = run(*options)
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def manifests(folder):
    return {path.name: read_manifest(path) for path in folder.glob("*.json")}


# --- COCO's protocols ---------------------------------------------------------------------------


def test_by_default_stac_s_folds_are_written_where_training_looks(
    datasets, image_ids, capsys, monkeypatch
):
    loads = []
    monkeypatch.setattr(
        make_splits, "read_coco_ids", lambda f: loads.append(f) or splits.read_coco_ids(f)
    )
    assert run() == 0
    assert [path.name for path in loads] == ["instances_train2017.json"], "read once"
    made = manifests(datasets / "coco" / "splits")
    assert sorted(made) == sorted(
        f"stac_{percent}p_fold{fold}.json" for percent in (1, 2, 5, 10) for fold in range(1, 6)
    )
    for percent, counts in STAC_COUNTS.items():
        found = [made[f"stac_{percent}p_fold{fold}.json"] for fold in range(1, 6)]
        assert [len(split.labeled) for split in found] == counts
        assert [len(split.unlabeled) for split in found] == [NUM_IMAGES - c for c in counts]

    split = made["stac_10p_fold3.json"]
    np.random.seed(3)
    drawn = np.random.choice(range(NUM_IMAGES), size=int(10 / 100.0 * NUM_IMAGES))
    assert split.labeled == tuple(np.unique(image_ids[drawn]))
    assert split.unlabeled == tuple(np.setdiff1d(image_ids, image_ids[drawn]))
    assert split.source == "instances_train2017.json"

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["file", "labeled", "unlabeled", "sha256"]
    assert len(rows) == 3 + 20
    checksum = split.sha256[:12]
    assert ["stac_10p_fold3.json", "11234", "107053", checksum, "written"] in rows


def test_without_replacement_labels_exactly_the_share(tmp_path):
    assert run("--family", "without_replacement", "--percent", 10, "--output", tmp_path) == 0
    made = manifests(tmp_path)
    assert len(made) == 5
    assert {(len(s.labeled), len(s.unlabeled)) for s in made.values()} == {(11_828, 106_459)}
    assert len({s.labeled for s in made.values()}) == 5


def test_unbiased_teacher_takes_the_published_positions(tmp_path, index_file, ids_with_boxes):
    options = ["--family", "unbiased_teacher", "--index-file", index_file, "--output", tmp_path]
    assert run(*options, "--percent", 10, "--folds", *range(10)) == 0
    assert run(*options, "--percent", 0.01, "--folds", 0) == 0
    made = manifests(tmp_path)
    assert len(made.pop("unbiased_teacher_0.01p_fold0.json").labeled) == 11
    assert sorted(made) == [f"unbiased_teacher_10p_fold{fold}.json" for fold in range(10)]
    for split in made.values():
        assert (len(split.labeled), len(split.unlabeled)) == (11_726, 117_266 - 11_726)
    positions = json.loads(index_file.read_text())["10.0"]["7"]
    labeled = made["unbiased_teacher_10p_fold7.json"].labeled
    assert labeled == tuple(sorted(ids_with_boxes[p] for p in positions))


def test_full_labels_all_of_train_and_takes_all_of_the_unlabeled_images(tmp_path, image_ids):
    assert run("--family", "full", "--output", tmp_path) == 0
    made = manifests(tmp_path)
    assert list(made) == ["full.json"]
    assert made["full.json"].labeled == tuple(np.sort(image_ids))
    assert made["full.json"].unlabeled == tuple(range(1, 4 * NUM_UNLABELED, 4))
    assert made["full.json"].source == "instances_train2017.json + image_info_unlabeled2017.json"


def test_a_manifest_takes_three_bytes_an_image(tmp_path):
    assert run("--percent", 10, "--folds", 1, "--output", tmp_path) == 0
    assert (tmp_path / "stac_10p_fold1.json").stat().st_size < 3 * NUM_IMAGES


# --- any dataset --------------------------------------------------------------------------------


def test_several_families_shares_and_folds_of_any_json(small, tmp_path):
    families = ["stac", "without_replacement"]
    assert run(*small, "--family", *families, "--percent", 33.5, 100, "--folds", 0, 77) == 0
    made = manifests(tmp_path / "splits")
    assert sorted(made) == sorted(
        f"{family}_{percent}p_fold{fold}.json"
        for family in families
        for percent in ("33.5", "100")
        for fold in (0, 77)
    )
    assert len(made["without_replacement_33.5p_fold0.json"].labeled) == 3
    assert made["without_replacement_100p_fold77.json"].labeled == tuple(range(10))


def test_what_is_there_and_identical_is_kept(small, tmp_path, capsys):
    run(*small, "--percent", 50, "--folds", 1)
    path = tmp_path / "splits" / "stac_50p_fold1.json"
    before = path.stat()
    assert run(*small, "--percent", 50, "--folds", 1, 2) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    rows = map(str.split, capsys.readouterr().out.splitlines())
    assert [row[-1] for row in rows if row[0].endswith(".json")][-2:] == ["kept", "written"]


def flip_fold(text):
    return text.replace('"fold":1', '"fold":2')


@pytest.mark.parametrize("damage", [flip_fold, lambda text: "", lambda text: text[:-10]])
def test_what_differs_is_replaced_only_when_forced(small, tmp_path, damage, capsys):
    options = [*small, "--percent", 50, "--folds", 1]
    run(*options)
    path = tmp_path / "splits" / "stac_50p_fold1.json"
    right = path.read_text()
    path.write_text(damage(right))
    assert path.read_text() != right
    found = failure(capsys, *options)
    assert f"{path} exists and differs: pass --force" in found
    assert path.read_text() == damage(right)
    assert run(*options, "--force") == 0
    assert path.read_text() == right


def test_another_dataset_does_not_replace_the_manifests_of_the_first(small, tmp_path, capsys):
    run(*small, "--percent", 50)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"images": records(np.arange(12))}))
    assert "differs" in failure(capsys, *small, "--percent", 50, "--json", other)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", "--unlabeled-json"])
def test_a_missing_json(small, tmp_path, option, capsys):
    path = tmp_path / "missing.json"
    found = failure(capsys, *small, "--family", "full", option, path)
    assert f"{path} does not exist: set $DETECTRON2_DATASETS, or pass {option} FILE" in found


@pytest.mark.parametrize("text", ["", "[1]", '{"images": [{}]}', '{"images": []}'])
def test_a_json_that_is_no_dataset(small, tmp_path, text, capsys):
    path = tmp_path / "other.json"
    path.write_text(text)
    found = failure(capsys, *small, "--json", path)
    assert "cannot be read as COCO JSON" in found or "needs at least one image" in found


def test_unbiased_teacher_needs_its_index_file(small, capsys):
    found = failure(capsys, *small, "--family", "unbiased_teacher")
    assert "needs --index-file" in found and "COCO_supervision.txt" in found


def test_an_index_file_of_another_dataset(tmp_path, index_file, capsys):
    unbiased = ["--family", "unbiased_teacher", "--index-file"]
    options = ["--percent", 10, "--folds", 1, "--output", tmp_path / "splits"]
    other = tmp_path / "index.txt"
    other.write_text(json.dumps({"10.0": {"1": list(range(11_828))}}))
    found = failure(capsys, *unbiased, other, *options)
    assert f"{other}: 11828 positions at 10 % do not fit 117266 images" in found
    other.write_text("no JSON")
    assert f"{other} is no index file" in failure(capsys, *unbiased, other, *options)
    found = failure(capsys, *unbiased, index_file, *options, "--percent", 3)
    assert "has no 3 %: it has 0.01, 10.0" in found
    found = failure(capsys, *unbiased, index_file, *options, "--folds", 10)
    assert "has no fold 10: it has 0, 1" in found
    assert not (tmp_path / "splits").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--family", "stack"], "invalid choice: 'stack'"),
        (["--percent", "0"], "'0' is no percentage"),
        (["--percent", "101"], "'101' is no percentage"),
        (["--percent", "nan"], "'nan' is no percentage"),
        (["--percent", "ten"], "'ten' is no percentage"),
        (["--percent", "10.0000001"], "at most 6 digits"),
        (["--percent", "1"], "1 of 10 images is none"),
        (["--folds", "one"], "invalid int value: 'one'"),
        (["--percent", "50", "--folds", "-1"], "fold = -1"),
        (["--percent"], "expected at least one argument"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_options(small, options, message, capsys):
    assert message in failure(capsys, *small, *options)


def test_an_output_that_cannot_be_written(small, tmp_path, capsys):
    (tmp_path / "file").touch()
    found = failure(capsys, *small, "--percent", 50, "--output", tmp_path / "file" / "splits")
    assert str(tmp_path / "file") in found


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    assert "make_splits.py --family full" in capsys.readouterr().out


def test_a_mistake_ends_the_command_with_one_line_and_status_2(tmp_path):
    path = tmp_path / "missing.json"
    command = [sys.executable, "-W", "ignore", ROOT / "tools" / "make_splits.py", "--json", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path} does not exist")
    assert done.stderr.count("\n") == 1


# --- a dataset of one's own ---------------------------------------------------------------------


def test_a_dataset_of_ones_own_is_split_into_parts_that_a_training_takes(
    tmp_path, capsys, tiny_digits
):
    digits = json.loads((tiny_digits / "digits" / "annotations" / "train.json").read_text())
    own = tmp_path / "my" / "boxes.json"
    own.parent.mkdir()
    own.write_text(json.dumps(digits))
    images = tiny_digits / "digits" / "train"
    command = ["--json", own, "--images", images, "--percent", 25, "--folds", 1]
    assert make_splits.main([str(word) for word in command]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = dict(line for line in lines if line[0].startswith("DATASETS."))
    assert list(names) == ["DATASETS.TRAIN_LABELED", "DATASETS.TRAIN_UNLABELED"]
    labeled = labeled_dicts([names["DATASETS.TRAIN_LABELED"]], filter_empty=False)
    unlabeled = unlabeled_dicts([names["DATASETS.TRAIN_UNLABELED"]])
    split = read_manifest(own.parent / "splits" / "stac_25p_fold1.json")
    assert tuple(d["image_id"] for d in labeled) == split.labeled
    assert tuple(d["image_id"] for d in unlabeled) == split.unlabeled
    boxes = sum(len(d["annotations"]) for d in labeled)
    hidden = sum(len(d["hidden_annotations"]) for d in unlabeled)
    assert boxes + hidden == len(digits["annotations"]) and hidden > 0


@pytest.mark.parametrize("content", ["", "[]", '{"images": 5}', '{"images": [{"id": 1}, 2]}'])
def test_annotations_that_cannot_be_read_are_one_line(content, tmp_path, capsys):
    (tmp_path / "my.json").write_text(content)
    assert "cannot be read as COCO JSON" in failure(capsys, "--json", tmp_path / "my.json")


def test_an_image_without_annotations_key_is_enough(small, tmp_path, capsys):
    assert make_splits.main([*small, "--percent", "20", "--folds", "1"]) == 0
    part = json.loads((tmp_path / "splits" / "stac_20p_fold1" / "unlabeled.json").read_text())
    assert len(part["images"]) == 8 and part["annotations"] == []

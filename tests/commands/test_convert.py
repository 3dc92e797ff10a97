"""soft-teacher-convert: what it prints, and what it refuses in one line."""

import json

import pytest
from foreign import as_mmdetection, narrow_detector, save, save_annotations, two_networks

from soft_teacher.commands import convert


@pytest.fixture(scope="module")
def state():
    return as_mmdetection(narrow_detector())


@pytest.fixture
def annotations(tmp_path):
    return save_annotations(tmp_path / "train.json", (3, "cow"), (1, "ant"), (2, "bee"))


@pytest.fixture
def failure(tmp_path, capsys):
    """The one line of a refused call; nothing has been written."""

    def failure(*options):
        assert call(tmp_path, *options) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and line.count("\n") == 1
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]
        return line

    return failure


def call(folder, *options):
    return convert.main([str(o) for o in (*options, "--output", folder / "out")])


def test_a_folder_is_written_and_described(state, annotations, tmp_path, capsys):
    path = save(tmp_path / "a.pth", state, optimizer={})
    assert call(tmp_path, path, "--annotations", annotations) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "295 tensors converted, 53 counters of batches dropped, 0 unknown",
        "left out: meta, optimizer",
        f"written: {tmp_path / 'out'}, 3 classes",
    ]
    names = ["classes.json", "config.yaml", "keys.tsv", "model.pth"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == ["ant", "bee", "cow"]
    assert call(tmp_path, path, "--annotations", annotations) == 2
    assert "is there already: name another" in capsys.readouterr().err


def test_style_and_classes_that_are_not_known(state, annotations, tmp_path, failure):
    path = save(tmp_path / "a.pth", state)
    assert "are not COCO's" in failure(path)
    assert "but the checkpoint's own config says caffe" in failure(path, "--style", "pytorch")
    path = save(tmp_path / "b.pth", state, meta={})
    assert "add --style caffe" in failure(path, "--annotations", annotations)


def test_other_layouts(state, tmp_path, failure):
    path = save(tmp_path / "a.pth", {**state, "extra.weight": state["backbone.bn1.weight"]})
    assert f"checkpoint '{path}' cannot be converted: it has tensors of an unknown" in failure(path)
    half = {k: v for k, v in two_networks(narrow_detector(), narrow_detector()).items()}
    del half["teacher.rpn_head.rpn_cls.bias"]
    assert "have different tensors" in failure(save(tmp_path / "b.pth", half))


def test_no_file(tmp_path, failure):
    assert "does not exist" in failure(tmp_path / "gone.pth")

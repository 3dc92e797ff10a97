"""Files of classes."""

import pytest

from soft_teacher import ConfigError
from soft_teacher.experiment.class_file import as_categories, read_classes, write_classes


def test_categories_come_back(tmp_path):
    wanted = [{"id": 9, "name": "größer"}, {"id": 2, "name": "b"}]
    write_classes(str(tmp_path), wanted)
    assert read_classes(str(tmp_path / "classes.json")) == wanted


@pytest.mark.parametrize(
    "name, text", [("a.json", '["a", "b b"]'), ("a.txt", "a\n\n b b \n"), ("a.names", "a\nb b")]
)
def test_names_have_ids_from_1_on(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_classes(str(tmp_path / name)) == as_categories(["a", "b b"])


@pytest.mark.parametrize("text", ["{", '"a"', "[1]", '[{"id": 1}]', '[{"name": "a"}]', '["a", 1]'])
def test_another_file_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match="a.json (cannot be read|holds no classes)"):
        read_classes(str(tmp_path / "a.json"))
    with pytest.raises(ConfigError, match="none.json cannot be read"):
        read_classes(str(tmp_path / "none.json"))

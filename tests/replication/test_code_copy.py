"""The copy of the code that trains."""

import pytest
from replication.code_copy import copy_code


@pytest.fixture
def repository(tmp_path):
    for name in ("train_net.py", "projects/p/a.py", "configs/c.yaml", "tools/t.py", "docs/d.md"):
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "repository"


def test_scripts_package_and_configs_are_copied(repository, tmp_path):
    root = copy_code(tmp_path / "code", repository)
    copied = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert copied == {"train_net.py", "projects/p/a.py", "configs/c.yaml", "tools/t.py"}
    assert (root / "projects/p/a.py").read_text() == "projects/p/a.py"


def test_the_same_code_is_copied_once_and_other_code_beside_it(repository, tmp_path):
    first = copy_code(tmp_path / "code", repository)
    assert copy_code(tmp_path / "code", repository) == first
    (repository / "docs/d.md").write_text("other")
    assert copy_code(tmp_path / "code", repository) == first
    (repository / "configs/c.yaml").write_text("other")
    second = copy_code(tmp_path / "code", repository)
    assert second != first
    assert (first / "configs/c.yaml").read_text() == "configs/c.yaml"


def test_a_file_that_is_renamed_is_other_code(repository, tmp_path):
    first = copy_code(tmp_path / "code", repository)
    (repository / "projects/p/a.py").rename(repository / "projects/p/b.py")
    assert copy_code(tmp_path / "code", repository) != first

"""The copy of the code that trains."""

from soft_teacher.runs.code_copy import copy_code


def test_the_package_and_its_configs_are_copied_once_for_each_state(tmp_path):
    """In a checkout the configs are a link."""
    package, names = tmp_path / "p", {"p/__init__.py", "p/a/b.py", "p/zoo/configs/c.yaml"}
    for name in ("__init__.py", "a/b.py", "a/notes.md", "../configs/c.yaml"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    (package / "zoo").mkdir()
    (package / "zoo" / "configs").symlink_to(tmp_path / "configs")
    first = copy_code(tmp_path / "code", package)
    copied = [path for path in first.rglob("*") if path.is_file()]
    assert {str(path.relative_to(first)) for path in copied} == names
    assert (first / "p/a/b.py").read_text() == "a/b.py"

    (package / "a/notes.md").write_text("other")
    assert copy_code(tmp_path / "code", package) == first
    (tmp_path / "configs/c.yaml").write_text("other")
    second = copy_code(tmp_path / "code", package)
    (package / "a/b.py").rename(package / "a/c.py")
    assert len({first, second, copy_code(tmp_path / "code", package)}) == 3
    assert (first / "p/zoo/configs/c.yaml").read_text() == "../configs/c.yaml"

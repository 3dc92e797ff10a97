"""The copy of the code that trains."""

from replication.code_copy import copy_code


def test_scripts_package_and_configs_are_copied_once_for_each_state(tmp_path):
    repository, names = tmp_path / "repository", {
        "train_net.py",
        "projects/p/a.py",
        "configs/c.yaml",
    }
    for name in (*names, "docs/d.md", "tools/t.sh"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(name)
    first = copy_code(tmp_path / "code", repository)
    copied = [path for path in first.rglob("*") if path.is_file()]
    assert {str(path.relative_to(first)) for path in copied} == names
    assert (first / "projects/p/a.py").read_text() == "projects/p/a.py"

    (repository / "docs/d.md").write_text("other")
    assert copy_code(tmp_path / "code", repository) == first
    (repository / "configs/c.yaml").write_text("other")
    second = copy_code(tmp_path / "code", repository)
    (repository / "projects/p/a.py").rename(repository / "projects/p/b.py")
    assert len({first, second, copy_code(tmp_path / "code", repository)}) == 3
    assert (first / "configs/c.yaml").read_text() == "configs/c.yaml"

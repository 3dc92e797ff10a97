import pytest

from soft_teacher import ConfigError
from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.engine.identity import RunIdentity, flat


@pytest.mark.parametrize(
    "before, now",
    [
        ({}, {}),
        ({"A": 1, "B": (0.5, "x"), "C": None}, {"A": 1, "B": [0.5, "x"], "C": None}),
        # What a LazyConfig calls is the same in another module, and as an object.
        (
            {"a._target_": "old.module.build_policy"},
            {"a._target_": "soft_teacher.new.build_policy"},
        ),
        ({"a._target_": "old.module.build_policy"}, {"a._target_": build_policy}),
    ],
)
def test_the_same_run_is_resumed(before, now):
    assert RunIdentity(now).check(RunIdentity(before).state_dict()) == []


@pytest.mark.parametrize(
    "before, now, said",
    [
        ({"A": 1}, {"A": 2}, "A was 1 and is 2"),
        ({"A": 1}, {}, "A was 1 and is not set"),
        ({}, {"A": 1}, "A was not set and is 1"),
        ({"A": 1}, {"A": 1.0}, "A was 1 and is 1.0"),
        ({"A": "one\nline"}, {"A": "x"}, "A was one line and is x"),
        ({"A": "x.b"}, {"A": "y.b"}, "A was x.b and is y.b"),
        ({"a._target_": "x.b"}, {"a._target_": "x.c"}, "a._target_ was x.b and is x.c"),
        ({}, {"a._target_": "x.b"}, "a._target_ was not set and is x.b"),
    ],
)
def test_changes_are_named(before, now, said):
    saved = RunIdentity(before).state_dict()
    with pytest.raises(ConfigError, match=r".*RunIdentity\.allow_changes to True\Z") as error:
        RunIdentity(now).check(saved)
    assert said in str(error.value)
    assert RunIdentity(now, allow_changes=True).check(saved) == [said]


def test_of_many_changes_a_few_are_named():
    saved = RunIdentity({f"K{n}": 0 for n in range(9)}).state_dict()
    with pytest.raises(ConfigError, match="and 4 more") as error:
        RunIdentity({f"K{n}": 1 for n in range(9)}).check(saved)
    assert str(error.value).count(" was ") == 5


def test_functions_and_classes_are_compared_by_name():
    found = RunIdentity({"A": build_policy, "B": [RunIdentity, 1]}).values
    assert found == {"A": "build_policy", "B": "[RunIdentity, 1]"}


def test_a_nested_config_becomes_flat_without_what_does_not_matter():
    config = {"A": {"B": 1, "C": {"D": 2, "E": 3}}, "F": [4], "G": {"H": 5}}
    assert flat({}, without=()) == {}
    assert flat(config, without=("A.C.D", "G")) == {"A.B": 1, "A.C.E": 3, "F": [4]}
    assert flat({"A": {"B": 1}}, without=("B", "A.B.C")) == {"A.B": 1}

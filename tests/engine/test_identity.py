import pytest

from soft_teacher import ConfigError
from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.engine.identity import RunIdentity, flat


def refusal(identity, saved):
    with pytest.raises(ConfigError) as error:
        identity.check(saved)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_training_of_nothing_is_itself():
    assert RunIdentity({}).check({}) == []


def test_the_same_values_are_the_same_training():
    values = {"A": 1, "B": (0.5, "x"), "C": None}
    assert RunIdentity(values).check(RunIdentity(values).state_dict()) == []


@pytest.mark.parametrize(
    "before, now, said",
    [
        ({"A": 1}, {"A": 2}, "A was 1 and is 2"),
        ({"A": 1}, {}, "A was 1 and is not set"),
        ({}, {"A": 1}, "A was not set and is 1"),
        ({"A": 1}, {"A": 1.0}, "A was 1 and is 1.0"),
        ({"A": "one\nline"}, {"A": "x"}, "A was one line and is x"),
    ],
)
def test_what_changed_is_named(before, now, said):
    saved = RunIdentity(before).state_dict()
    found = refusal(RunIdentity(now), saved)
    assert said in found and "RunIdentity.allow_changes" in found
    assert RunIdentity(now, allow_changes=True).check(saved) == [said]


def test_of_many_changes_a_few_are_named():
    saved = RunIdentity({f"K{n}": 0 for n in range(9)}).state_dict()
    found = refusal(RunIdentity({f"K{n}": 1 for n in range(9)}), saved)
    assert found.count(" was ") == 5 and "and 4 more" in found


def test_functions_and_classes_are_compared_by_name():
    def text(value):
        return RunIdentity({"A": value}).values["A"]

    assert text(build_policy) == "build_policy" and text(RunIdentity) == "RunIdentity"
    assert text([build_policy, 1]) == "[build_policy, 1]"


def test_a_nested_config_becomes_flat_without_what_does_not_matter():
    config = {"A": {"B": 1, "C": {"D": 2, "E": 3}}, "F": [4], "G": {"H": 5}}
    assert flat({}, without=()) == {}
    assert flat(config, without=("A.C.D", "G")) == {"A.B": 1, "A.C.E": 3, "F": [4]}
    assert flat({"A": {"B": 1}}, without=("B", "A.B.C")) == {"A.B": 1}

"""Checks of single values: which are accepted, and what is reported of others."""

import math

import pytest

from soft_teacher import ConfigError, TrainingError
from soft_teacher.utils.checks import Each, Flag, Number, Text, check_choice, check_file, shown


def refusal(check, value):
    with pytest.raises(ConfigError) as error:
        check("KEY", value)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "check, fine",
    [
        (Number(), [0, -1, 0.5, 1e300]),
        (Number(0, 1), [0, 1, 0.5]),
        (Number(above=0), [1e-300]),
        (Number(1, whole=True), [1, 2**31 - 1]),
        (Number(0, optional=True), [None, 0]),
        (Flag(), [True, False]),
        (Text(), ["", "a", None]),
        (Text(("a", "b")), ["a", "b"]),
        (Each(Number()), [[], (), [1, 2.5]]),
        (Each(Number(), ascending=True), [[], [1], [1, 2]]),
        (Each(Text(), single=True), ["a", ["a", "b"]]),
    ],
)
def test_values_that_are_accepted(check, fine):
    for value in fine:
        check("KEY", value)


@pytest.mark.parametrize(
    "check, value, said",
    [
        (Number(), None, "a finite number, got None"),
        (Number(), math.nan, "a finite number, got nan"),
        (Number(), -math.inf, "a finite number, got -inf"),
        (Number(), True, "a finite number, got True"),
        (Number(), "1", "a finite number, got '1'"),
        (Number(), [1], "a finite number, got [1]"),
        (Number(), 10**400, "a finite number, got 1000"),
        (Number(0, 1), 1.5, "a number of at least 0 and of at most 1, got 1.5"),
        (Number(above=0), 0, "a number above 0, got 0"),
        (Number(1, whole=True), 0, "a whole number of at least 1, got 0"),
        (Number(whole=True), 1.0, "a whole number, got 1.0"),
        (Number(whole=True), 2**31, "a number of at most 2147483647, got 2147483648"),
        (Number(0, optional=True), -1, "a number of at least 0 or None, got -1"),
        (Flag(), 1, "True or False, got 1"),
        (Flag(), None, "True or False, got None"),
        (Text(), 1, "a text, got 1"),
        (Text(), "a\0", "a text, got 'a\\x00'"),
        (Text(empty=False), "", "a text that is not empty, got ''"),
        (Text(empty=False), None, "a text that is not empty, got None"),
        (Text(("a", "b")), "c\nd", "one of a, b, got 'c\\nd'"),
        (Each(Number()), 1, "a list, got 1"),
        (Each(Text()), "ab", "a list, got 'ab'"),
        (Each(Number(), length=2), [1], "KEY must have 2 items, got [1]"),
        (Each(Number(), empty=False), [], "KEY must not be empty"),
        (Each(Number(above=0)), [1, 0], "each item of KEY must be a number above 0, got 0"),
        (Each(Each(Number())), [[1], ["a"]], "each item of KEY must be a finite number, got 'a'"),
        (Each(Number(), ascending=True), [1, 1], "KEY must be ascending, got [1, 1]"),
    ],
)
def test_values_that_are_refused(check, value, said):
    assert said in refusal(check, value)


def test_a_choice():
    check_choice("KEY", "a", ("a", "b"))
    assert refusal(lambda key, value: check_choice(key, value, ("a",)), "b") == (
        "KEY must be one of a, got 'b'"
    )


def test_a_file(tmp_path):
    assert refusal(check_file, str(tmp_path)) == f"KEY '{tmp_path}' is not a file"
    missing = tmp_path / "missing"
    assert refusal(check_file, str(missing)) == f"KEY '{missing}' does not exist"
    missing.write_text("")
    check_file("KEY", str(missing))


def test_a_value_is_shown_on_one_short_line():
    for value in ("", "a\nb\u2028c", "x" * 1000, 10**5000, [1] * 1000):
        assert len(shown(value).splitlines()) == 1 and len(shown(value)) < 120


@pytest.mark.parametrize("kind", [ConfigError, TrainingError])
def test_errors_are_one_line_whatever_is_put_in(kind):
    assert str(kind()) == ""
    assert str(kind("a  b")) == "a  b"
    assert str(kind("a\n  b\r\nc\x85d")) == "a b c d"

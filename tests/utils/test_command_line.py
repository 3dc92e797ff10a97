from argparse import ArgumentParser

import pytest

from soft_teacher.utils.command_line import (
    PACKAGE,
    add_config_arguments,
    exit_status,
    shown_command,
)
from soft_teacher.utils.errors import ConfigError, TrainingError


class WrongKey(ConfigError):
    pass


# --- how a command ends -------------------------------------------------------------------------


@pytest.mark.parametrize("returned, status", [(None, 0), (0, 0), (1, 1)])
def test_a_main_that_returns_has_its_own_status(returned, status, capsys):
    assert exit_status(lambda: returned)() == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error, status", [(ConfigError("X: use Y"), 2), (WrongKey("X"), 2), (TrainingError("X"), 1)]
)
def test_an_error_for_the_user_is_one_line_and_a_status(error, status, capsys):
    @exit_status
    def main():
        raise error

    assert main() == status
    assert capsys.readouterr() == ("", f"error: {error}\n")


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), KeyboardInterrupt()])
def test_other_errors_are_raised(error, capsys):
    @exit_status
    def main():
        raise error

    with pytest.raises(type(error)) as raised:
        main()
    assert raised.value is error and capsys.readouterr().err == ""


def test_a_decorated_main_takes_its_arguments_and_keeps_its_name():
    @exit_status
    def main(argv=None, *, count=0):
        """Counts."""
        return len(argv or ()) + count

    assert (main(), main(["a"]), main(["a"], count=2)) == (0, 1, 3)
    assert (main.__name__, main.__doc__) == ("main", "Counts.")


# --- the config ---------------------------------------------------------------------------------


@pytest.fixture
def parse():
    parser = ArgumentParser()
    add_config_arguments(parser)
    parser.add_argument("--number", type=int)
    return parser.parse_args


def test_a_config_must_be_named(parse, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse([])
    assert "--config-file" in capsys.readouterr().err


@pytest.mark.parametrize("opts", [[], ["KEY", "1"], ["key=1"], ["KEY", "-1", "OTHER", "--number"]])
def test_what_follows_the_options_are_overrides_whatever_they_look_like(opts, parse):
    args = parse(["--number", "3", "--config-file", "a.yaml", *opts])
    assert (args.number, args.config_file, args.opts) == (3, "a.yaml", opts)


@pytest.mark.parametrize(
    "argv, shown",
    [
        (["train_net.py"], "python train_net.py"),
        (["/venv/bin/soft-teacher-train", "A", "b c"], "/venv/bin/soft-teacher-train A 'b c'"),
        ([str(PACKAGE / "commands" / "train.py")], "python -m soft_teacher.commands.train"),
    ],
)
def test_a_command_is_shown_as_it_can_be_typed_again(argv, shown):
    assert shown_command(argv) == shown

import os
import signal
from types import SimpleNamespace

import pytest

from soft_teacher.engine.stopping import StopOnSignal, resume_command


@pytest.fixture
def hook():
    loop = SimpleNamespace(wants_to_stop=False, stops=False)
    hook = StopOnSignal(loop)
    hook.trainer = SimpleNamespace(iter=4)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    hook.before_train()
    yield hook
    hook.after_train()
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def send(number):
    os.kill(os.getpid(), number)


def test_without_a_signal_the_run_continues(hook, capsys):
    hook.after_step()
    hook.after_train()
    assert hook.loop.wants_to_stop is False and capsys.readouterr().out == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_it_comes_in_and_names_the_command(
    number, hook, capsys, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["train_net.py", "--config-file", "a b.yaml", "SEED", "1"])
    send(number)
    assert hook.loop.wants_to_stop is True
    hook.after_step()  # the ranks have not agreed yet
    hook.loop.stops = True
    with pytest.raises(SystemExit) as stopped:
        hook.after_step()
    assert stopped.value.code == 128 + number
    hook.after_train()
    assert capsys.readouterr().out.splitlines() == [
        f"stopped by {signal.Signals(number).name} after 5 steps; resume with",
        "  python train_net.py --resume --config-file 'a b.yaml' SEED 1",
    ]


def test_another_rank_s_signal_stops_this_one(hook):
    hook.loop.stops = True
    with pytest.raises(SystemExit) as stopped:
        hook.after_step()
    assert stopped.value.code == 143


def test_an_evaluation_is_stopped_at_once(hook):
    def evaluate():
        send(signal.SIGTERM)
        raise AssertionError("the evaluation continued")

    with pytest.raises(SystemExit) as stopped:
        hook.interruptible(evaluate)()
    assert stopped.value.code == 143


def test_after_an_evaluation_a_signal_waits_for_the_end_of_the_step_again(hook):
    assert hook.interruptible(lambda: 5)() == 5
    send(signal.SIGTERM)
    assert hook.loop.wants_to_stop is True


@pytest.mark.parametrize(
    "argv, command",
    [
        (["train_net.py"], "python train_net.py --resume"),
        (["t.py", "--resume", "A", "('b',)"], "python t.py --resume A '('\"'\"'b'\"'\"',)'"),
    ],
)
def test_the_command_to_resume_with(argv, command):
    assert resume_command(argv) == command

"""A training that is interrupted and gone on with is the training that was not."""

import random
import signal

import pytest
import torch
from interrupted import Training
from training import weights

pytestmark = [pytest.mark.usefixtures("tiny_digits"), pytest.mark.long]

OPTS = [
    "train.max_iter=40",
    # BatchNorm wants a labeled image in every process during the burn-in.
    "dataloader.train.labeled_share=0.5",
    "train.checkpointer.period=7",
    "train.checkpointer.max_to_keep=2",
    "train.eval_period=11",
    "train.log_period=3",
    "train.burn_in=4",
    "lr_multiplier.scheduler.milestones=[30,40]",
]

# Parts beyond the paper, some with a state of their own.
BEYOND = [
    *("model.pseudo_labeler.by_density=True", "model.pseudo_labeler.density.window=3"),
    *("model.pseudo_labeler.density.foreground=1.5", "model.pseudo_labeler.density.ignore=3"),
    *("model.pseudo_labeler.stable_share=0.5", "model.statistics=labeled"),
    "ema.through_burn_in=True",
]
# Processes and overrides.
RUNS = {
    "one process": (1, OPTS),
    "two processes": (2, OPTS),
    "two processes, beyond the paper": (2, [*OPTS, *BEYOND]),
}


def equal(one, other) -> bool:
    """Whether two nested states hold the same bits."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def assert_same(training: Training, whole: Training) -> None:
    """Weights of both networks, optimizer, schedule, losses and AP, to the last bit."""
    states = [
        torch.load(run.folder / "model_final.pth", weights_only=True) for run in (training, whole)
    ]
    for key in ("model", "iteration"):
        assert equal(states[0][key], states[1][key])
    ours, theirs = (state["trainer"] for state in states)
    assert equal(ours["optimizer"], theirs["optimizer"])
    for hook in ("LRScheduler", "DensityThresholdsHook"):
        assert equal(ours["hooks"].get(hook), theirs["hooks"].get(hook))
    assert training.lines() == whole.lines()
    assert training.events() == whole.events()
    best = [weights(run.folder, "model_best.pth") for run in (training, whole)]
    assert equal(*best)
    assert training.checkpoints() == whole.checkpoints()


@pytest.fixture(scope="module", params=RUNS.values(), ids=RUNS)
def whole(request, tiny_digits, tmp_path_factory):
    processes, opts = request.param
    folder = tmp_path_factory.mktemp("whole") / "run"
    training = Training(folder, *opts, processes=processes).finish()
    training.overrides = opts
    return training


def again(whole: Training, folder) -> Training:
    return Training(folder / "run", *whole.overrides, processes=whole.processes)


def test_a_whole_training_has_every_line_once(whole):
    steps = [line["iteration"] for line in whole.lines()]
    assert steps == sorted(set(steps))
    assert set(range(2, 40, 3)) <= set(steps)
    assert [s for s, _ in whole.events()["teacher/bbox/AP"]] == [10, 21, 32, 39]
    assert whole.checkpoints() == [
        "model_0000027.pth",
        "model_0000034.pth",
        "model_best.pth",
        "model_final.pth",
    ]


def test_killed_at_random_steps(whole, tmp_path):
    training = again(whole, tmp_path)
    chance = random.Random(whole.processes)
    for number, lines in enumerate([3, 8, 13]):
        training.start(resume=number > 0)
        training.kill(after_lines=lines, delay=chance.random())
    training.finish(resume=True)
    assert_same(training, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_saves_and_prints_the_command_to_go_on_with(number, whole, tmp_path):
    training = again(whole, tmp_path).start()
    status = training.signal(number, after_lines=5, delay=0.1)
    assert status == 128 + number, training.text()[-3000:]
    text = training.text()
    assert f"stopped by {signal.Signals(number).name} after" in text
    command = text[text.index("resume with") :].splitlines()[1].strip()
    assert command.startswith("python ") and "--resume" in command
    assert f"train.output_dir={training.folder}" in command
    assert "Traceback" not in text
    saved = (training.folder / "last_checkpoint").read_text()
    steps = int(text.split("stopped by ")[1].split(" after ")[1].split()[0])
    assert saved == f"model_{steps - 1:07d}.pth"
    training.finish(resume=True)
    assert_same(training, whole)


def test_a_broken_last_checkpoint_is_passed_over(whole, tmp_path):
    training = again(whole, tmp_path).start()
    training.kill(after_lines=7)
    last = training.folder / (training.folder / "last_checkpoint").read_text()
    last.write_bytes(last.read_bytes()[:-1000])
    training.finish(resume=True)
    assert "going back to the checkpoint before" in training.text()
    assert_same(training, whole)

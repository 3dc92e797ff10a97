"""A package whose training command writes what a training leaves behind, without training."""

from pathlib import Path

TRAIN = """
import json, sys, time
from pathlib import Path

opts = sys.argv[sys.argv.index("--resume") + 1:]
values = dict(zip(opts[0::2], opts[1::2]))
folder = Path(values["OUTPUT_DIR"])
calls = folder.parent / "calls.txt"
seed = int(values["SEED"])


def note(text):
    with open(calls, "a") as file:
        print(text, folder.name, file=file)


note("start")
if seed == 13:
    sys.exit("no luck")
time.sleep(float(values.get("SOFT_TEACHER.ALPHA", 0)))
end = time.monotonic() + 60
while calls.read_text().count("start") < int(values.get("VIS_PERIOD", 0)):
    if time.monotonic() > end:
        sys.exit("alone")
    time.sleep(0.02)
line = {"iteration": 3}
for network, ap in {"student": 30.0, "teacher": 31.0 + seed}.items():
    for metric, value in {"AP": ap, "AP50": 2 * ap, "AP75": ap / 2}.items():
        line[f"{network}/bbox/{metric}"] = value
with open(folder / "metrics.json", "w") as file:
    print(json.dumps(line), file=file)
note("end")
"""


def fake_package(root: Path) -> Path:
    """Writes it into a folder.

    Its trainings note in ``calls.txt`` beside their folders when they start and end, sleep for
    SOFT_TEACHER.ALPHA seconds, wait until VIS_PERIOD of them have started, and fail with SEED 13.
    """
    commands = root / "soft_teacher" / "commands"
    commands.mkdir(parents=True)
    for package in (commands.parent, commands):
        (package / "__init__.py").touch()
    (commands / "train.py").write_text(TRAIN)
    return root

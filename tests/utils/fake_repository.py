"""A repository whose train_net.py writes what a training leaves behind, without training."""

from pathlib import Path

TRAIN_NET = """
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


def fake_repository(root: Path) -> Path:
    """Writes it.

    Its trainings note in ``calls.txt`` beside their folders when they start and end, sleep for
    SOFT_TEACHER.ALPHA seconds, wait until VIS_PERIOD of them have started, and fail with SEED 13.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "train_net.py").write_text(TRAIN_NET)
    return root

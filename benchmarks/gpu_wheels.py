#!/usr/bin/env python
"""Wheels to run gpu_check.py on a machine without a network.

``download`` puts those of constraints.txt, for another Python and platform, into a folder that is
copied to that machine with the checkout. ``install`` unpacks them there, beside the packages that
Python has already, into a folder for PYTHONPATH.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

from install_detectron2 import Unavailable, download_wheel  # noqa: E402

CONSTRAINTS = ROOT / "constraints.txt"
# Pure Python without a wheel on PyPI: built here, for any Python.
SOURCE_ONLY = {"antlr4-python3-runtime", "fvcore", "iopath"}
# torch brings its own; of two builds of OpenCV, servers load the one without windows.
LEFT_OUT = {"opencv-python", "torch", "triton"}
DETECTRON2 = "labgym"
# pip takes a tag of glibc literally: a wheel for an older one has its own.
GLIBC = range(5, 40)
OLD_TAGS = ("manylinux1", "manylinux2010", "manylinux2014")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="their folder")
    commands = parser.add_subparsers(dest="command", required=True)
    download = commands.add_parser("download", help="here, with a network")
    download.add_argument("--python", default="3.12", help="version of Python there")
    download.add_argument("--machine", default="x86_64", help="what `uname -m` prints there")
    download.add_argument("--glibc", type=int, default=28, help="N of glibc 2.N there, or less")
    download.add_argument(
        "--has", nargs="*", default=[], metavar="NAME",
        help="packages that are there already, such as torch torchvision: GBs less to copy",
    )  # fmt: skip
    install = commands.add_parser("install", help="there, without a network")
    install.add_argument("--target", type=Path, default=ROOT / ".gpu-site")
    return parser.parse_args(argv)


def pins(has=()) -> dict[str, str]:
    """Package -> version of constraints.txt, by normalized name, without those in ``has``."""
    lines = CONSTRAINTS.read_text().splitlines()
    found = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    skipped = set(map(normalized, has))
    if any(name.startswith("opencv-") for name in skipped):
        skipped.add("opencv-python-headless")
    return {normalized(n): v for n, v in found.items() if normalized(n) not in skipped}


def normalized(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def platform_flags(python: str, machine: str, glibc: int) -> list[str]:
    """Options with which pip takes wheels for another machine."""
    tags = [f"manylinux_2_{n}" for n in GLIBC if n <= glibc] + list(OLD_TAGS)
    flags = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    return flags + [f"--platform={tag}_{machine}" for tag in tags]


def download(args: argparse.Namespace) -> None:
    """Fills the folder."""
    found = {name: f"{name}=={pin}" for name, pin in sorted(pins(args.has).items())}
    there = platform_flags(args.python, args.machine, args.glibc)
    there += ["--dest", str(args.wheels)]
    source = [pin for name, pin in found.items() if name in SOURCE_ONLY]
    binary = [pin for name, pin in found.items() if name not in SOURCE_ONLY | LEFT_OUT]
    if source:
        pip("wheel", "--no-deps", "--wheel-dir", str(args.wheels), *source)
    if binary:
        pip("download", "--no-deps", *there, *binary)
    if "torch" in found:  # with the CUDA packages of its build, which constraints.txt leaves to it
        pip("download", *there, "--constraint", str(CONSTRAINTS), found["torch"])
    if not list(args.wheels.glob(f"{DETECTRON2}-*.whl")):
        download_wheel(args.wheels)
        (args.wheels / "requirement.txt").unlink()


def install(args: argparse.Namespace) -> None:
    """Unpacks the folder; what Python finds elsewhere stays as it is.

    Raises:
        SystemExit: there are no wheels.
    """
    files = sorted(args.wheels.glob("*.whl"))
    names = {normalized(file.name.split("-")[0]) for file in files} - {DETECTRON2}
    if not names:
        sys.exit(f"error: {args.wheels} holds no wheels: run `make gpu-wheels` and copy it here")
    wanted = ["--no-index", "--no-deps", "--no-compile", "--upgrade", "--find-links"]
    pip("install", *wanted, str(args.wheels), "--target", str(args.target), *sorted(names))
    (wheel,) = args.wheels.glob(f"{DETECTRON2}-*.whl")
    path = os.pathsep.join(filter(None, [str(args.target), os.environ.get("PYTHONPATH")]))
    python(
        *(str(TOOLS / "install_detectron2.py"), "--target", str(args.target)),
        *("--wheel", str(wheel)),
        PYTHONPATH=path,
    )


def pip(command: str, *words: str) -> None:
    python("-m", "pip", command, "--quiet", "--disable-pip-version-check", *words)


def python(*words: str, **environment: str) -> None:
    """Runs Python, and exits as it does where it fails; its own last line says why."""
    done = subprocess.run([sys.executable, *words], env={**os.environ, **environment})
    if done.returncode:
        sys.exit(done.returncode)


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        {"download": download, "install": install}[args.command](args)
    except Unavailable as error:
        sys.exit(f"error: no wheel of Detectron2: {error}")


if __name__ == "__main__":
    main()

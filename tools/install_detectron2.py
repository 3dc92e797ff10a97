#!/usr/bin/env python
"""Install Detectron2 into the running interpreter's environment, without compiling anything.

Detectron2 is not on PyPI under its own name. In order, this tool

1. keeps a Detectron2 that already imports (``probe_detectron2.py``),
2. takes the pure-Python tree that the PyPI wheel ``LabGym`` carries, pinned by SHA-256,
3. builds Detectron2 from its git repository at a pinned commit.

None of them brings Detectron2's own requirements: ``setup.cfg`` names those. Install them first,
because Detectron2 imports them (1, 2) and builds against PyTorch (3).
"""

import argparse
import base64
import csv
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

WHEEL = "LabGym==3.1.2"
WHEEL_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"
WHEEL_TREE = "LabGym/detectron2/"
WHEEL_PREFIX = re.compile(rb"\bLabGym\.detectron2\b")

GIT_COMMIT = "e0ec4e189d438848521aee7926f9900e114229f5"
GIT_URL = f"git+https://github.com/facebookresearch/detectron2.git@{GIT_COMMIT}"

VERSION = "0.6"
PACKAGE = "detectron2"
DIST_INFO = f"detectron2-{VERSION}.dist-info"

COPYRIGHT = "Copyright 2019-2020, detectron2 contributors\n"
NOTICE = f"""\
Detectron2 (https://github.com/facebookresearch/detectron2)
{COPYRIGHT}
This tree is the folder {WHEEL_TREE} of the PyPI wheel {WHEEL}
(SHA-256 {WHEEL_SHA256}).
Only the import prefix was rewritten, from LabGym.detectron2 to detectron2.
"""
METADATA = f"""\
Metadata-Version: 2.1
Name: {PACKAGE}
Version: {VERSION}
Summary: Detectron2 without its compiled operators, unpacked from the wheel {WHEEL}
Home-page: https://github.com/facebookresearch/detectron2
License: Apache-2.0
"""

PROBE = Path(__file__).with_name("probe_detectron2.py")


class Unavailable(Exception):
    """One source cannot provide Detectron2; the message says why."""


def run(*args, **env):
    """Run the current interpreter with ``args``; raise ``Unavailable`` with its telling line."""
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        # pip reports its own errors as ERROR and passes on those of git as fatal.
        errors = [line for line in lines if line.startswith(("ERROR:", "fatal:"))]
        raise Unavailable((errors or lines or [f"exit code {done.returncode}"])[-1])
    return done.stdout.strip()


def imported(target):
    """Return the folder of the Detectron2 that Python imports, wherever it is."""
    env = {}
    # A target that is on Python's path has its place there; any other is put first to be used.
    if not any(Path(place).resolve() == target.resolve() for place in sys.path[1:]):
        path = [str(target.resolve()), os.environ.get("PYTHONPATH")]
        env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    # -P: the folder of the tools is not on the path of train_net.py.
    return run("-P", PROBE, **env).splitlines()[-1]


def checked(done, target):
    """Return the line ``done`` and what Python imports now; exit if that is broken."""
    try:
        return f"{done}; Python imports {imported(target)}"
    except Unavailable as error:
        sys.exit(f"install_detectron2: {done}, but Python finds {error}; remove that one")


def install_wheel(target, wheel=None):
    """Unpack the pinned wheel's Detectron2 tree into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    # Staging beside the destination makes the final moves renames: all or nothing.
    with tempfile.TemporaryDirectory(prefix=".detectron2-", dir=target) as folder:
        staging = Path(folder)
        wheel = verified(wheel or download_wheel(staging))
        unpack(wheel, staging / PACKAGE)
        write_dist_info(staging)
        for name in (PACKAGE, DIST_INFO):
            swap(staging / name, target / name, staging / f"old-{name}")
    return f"unpacked Detectron2 from the wheel {WHEEL} into {target / PACKAGE}"


def download_wheel(folder):
    """Download the pinned wheel into ``folder`` and return its path."""
    pin = folder / "requirement.txt"
    pin.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    # The wheel's Python bound and its requirements are LabGym's, not those of the tree inside it.
    flags = ["--quiet", "--no-deps", "--ignore-requires-python", "--only-binary=:all:"]
    run("-m", "pip", "download", *flags, "--require-hashes", "-r", pin, "-d", folder)
    return next(folder.glob("*.whl"))


def verified(wheel):
    """Return ``wheel``, or raise if it is not the pinned file."""
    try:
        found = hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    except OSError as error:
        raise Unavailable(f"cannot read {wheel}: {error.strerror}") from error
    if found != WHEEL_SHA256:
        raise Unavailable(f"{wheel} is not {WHEEL}: SHA-256 {found}, expected {WHEEL_SHA256}")
    return wheel


def unpack(wheel, package):
    """Write the wheel's Detectron2 tree as ``package``, importable by its own name."""
    package.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(WHEEL_TREE) or member.is_dir():
                continue
            path = (package / member.filename[len(WHEEL_TREE) :]).resolve()
            if not path.is_relative_to(package.resolve()):
                raise Unavailable(f"{wheel} holds a path outside its tree: {member.filename}")
            content = archive.read(member)
            if path.suffix == ".py":
                content = WHEEL_PREFIX.sub(PACKAGE.encode(), content)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    if not (package / "modeling" / "__init__.py").is_file():
        raise Unavailable(f"{wheel} holds no complete {WHEEL_TREE} tree")
    (package / "LICENSE").write_text(COPYRIGHT + "\n" + license_text())
    (package / "NOTICE").write_text(NOTICE)


def license_text():
    """Return the text of Apache-2.0: of the checkout, or of the installed soft-teacher."""
    path = Path(__file__).resolve().parents[1] / "LICENSE"
    if path.is_file():
        return path.read_text()
    try:
        files = importlib.metadata.files("soft-teacher") or ()
        return next(file for file in files if file.name == "LICENSE").read_text()
    except (importlib.metadata.PackageNotFoundError, StopIteration) as error:
        raise Unavailable(f"there is no {path}, which belongs to the tree") from error


def write_dist_info(root):
    """Describe ``root/detectron2`` so that pip can list and uninstall it."""
    info = root / DIST_INFO
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "INSTALLER").write_text("install_detectron2\n")
    files = [path for top in (PACKAGE, DIST_INFO) for path in sorted((root / top).rglob("*"))]
    rows = [record_row(path, root) for path in files if path.is_file()]
    with open(info / "RECORD", "w", newline="") as record:
        csv.writer(record).writerows([*rows, (f"{DIST_INFO}/RECORD", "", "")])


def record_row(path, root):
    """Return a RECORD row: path, digest and size."""
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return path.relative_to(root).as_posix(), f"sha256={digest}", len(content)


def swap(new, place, old):
    """Move ``new`` to ``place``; what was there goes to ``old``, and back if the move fails."""
    if place.exists():
        os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise


def install_git(target=None):
    """Build Detectron2 from its repository at the pinned commit."""
    # pip would keep an installed 0.6 for a repository of the same version.
    flags = ["--quiet", "--no-build-isolation", "--no-deps", "--force-reinstall"]
    where = ["--target", target] if target else []
    run("-m", "pip", "install", *flags, *where, GIT_URL)
    return f"built Detectron2 from git commit {GIT_COMMIT}"


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--source",
        choices=("auto", "wheel", "git"),
        default="auto",
        help="auto (the default) keeps an importable Detectron2, else tries wheel, then git",
    )
    parser.add_argument("--target", type=Path, help="folder to install into, not site-packages")
    parser.add_argument("--wheel", type=Path, help=f"a local {WHEEL} wheel, for an offline host")
    args = parser.parse_args(argv)
    if args.wheel and args.source == "git":
        parser.error("--wheel and --source git exclude each other")
    return args


def main(argv=None):
    """Try the sources in order; return 0 at the first success, 1 when none can be had."""
    args = parse_args(argv)
    site_packages = args.target or Path(sysconfig.get_path("purelib"))
    sources = {
        "installed": lambda: f"kept the Detectron2 in {imported(site_packages)}",
        "wheel": lambda: checked(install_wheel(site_packages, args.wheel), site_packages),
        "git": lambda: checked(install_git(args.target), site_packages),
    }
    if args.source != "auto":
        sources = {args.source: sources[args.source]}
    elif args.wheel:
        del sources["git"]

    reasons = []
    for name, install in sources.items():
        try:
            print(f"install_detectron2: {install()}")
            return 0
        except (Unavailable, OSError, zipfile.BadZipFile) as error:
            reasons.append(f"{name} ({error})")
    hint = "" if args.wheel else f"; without a network, pass --wheel with a copy of {WHEEL}"
    print(f"install_detectron2: no Detectron2 from {', '.join(reasons)}{hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

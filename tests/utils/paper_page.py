"""docs/paper.md taken apart, and what a page names that does not exist."""

import ast
import fnmatch
import re
from typing import Iterator

import yaml
from coco import NAMES, ROOT, leaves, load, load_lazy
from omegaconf import OmegaConf

PAGE = ROOT / "docs" / "paper.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s:]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
YAML_KEY = re.compile(r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+")
FOLDERS = ("configs/", "docs/", "projects/", "tests/", "tools/")


def rows(text: str) -> Iterator[dict[str, str]]:
    """{heading: cell} of every row of every table."""
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.M):
        head, _, *lines = [[c.strip() for c in t.split("|")[1:-1]] for t in table.splitlines()]
        yield from (dict(zip(head, line, strict=True)) for line in lines)


def keys(row: dict[str, str]) -> list[str]:
    """Config keys of a row, the YAML configs' first."""
    return CODE.findall(LINK.sub("", row.get("Key, code and test", "")))


def symbols(row: dict[str, str], folder: str) -> list[str]:
    """path::name of the definitions that a row links to in files below a folder."""
    links = LINK.findall(" ".join(row.values()))
    return [f"{to[3:]}::{name.strip('`')}" for name, to in links if to.startswith(f"../{folder}")]


def values(row: dict[str, str]) -> dict[str, list]:
    """{config: [paper's value, reference's]} of columns headed by a pattern of configs."""
    codes = {head: CODE.findall(cell) for head, cell in row.items()}
    both = {head: [yaml.safe_load(c[n]) for n in (0, -1)] for head, c in codes.items() if c}
    return {name: both[h] for h in both for name in fnmatch.filter(NAMES, h.strip("`"))}


def defines(body: list, first: str, *others: str) -> bool:
    """Whether statements define a name: a function, a class with its members, a constant."""
    for node in body:
        bound = getattr(node, "targets", [getattr(node, "target", node)])
        if first in [getattr(to, "id", getattr(to, "name", "")) for to in bound]:
            return not others or defines(node.body, *others)
    return False


def broken_links(text: str, page=PAGE) -> Iterator[str]:
    """Links to a file, a heading or a definition that is not there."""
    for words, target in LINK.findall(text):
        path = page.parent / target.split("#")[0] if target[0] != "#" else page
        if not path.is_file():
            yield f"{target}: no such file"
        elif "#" in target:
            heads = re.findall(r"^#+ (.*)", path.read_text(), flags=re.M)
            slugs = [re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in heads]
            if target.split("#")[1] not in slugs:
                yield f"{target}: no such heading"
        elif path.suffix == ".py":
            name, body = words.strip("`"), ast.parse(path.read_text()).body
            if name != path.name and not defines(body, *name.split(".")):
                yield f"{target}: does not define {words}"


def unknown_names(text: str) -> Iterator[str]:
    """Config keys and paths in backticks that are not there."""
    lazy_keys = [code for row in rows(text) for code in keys(row)]
    for name in (code.split()[0] for code in CODE.findall(LINK.sub("", text))):
        if YAML_KEY.fullmatch(name):
            if name not in leaves(load("paper", NAMES[0])):
                yield f"{name}: no such key"
        elif name in lazy_keys and OmegaConf.select(load_lazy("paper", NAMES[0]), name) is None:
            yield f"{name}: no such key"
        elif name.startswith(FOLDERS) and not (ROOT / name).exists():
            yield f"{name}: no such path"

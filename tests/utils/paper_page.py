"""docs/paper.md taken apart, and what on it does not exist."""

import ast
import functools
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set

from coco import NAMES, ROOT, leaves, load, load_lazy
from omegaconf import OmegaConf

from soft_teacher import ConfigError

PAGE = ROOT / "docs" / "paper.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"\[([^\]]+)\]\[([^\]]+)\]")
TARGET = re.compile(r"^\[([^\]]+)\]: (\S+)$", flags=re.M)
CODE = re.compile(r"`([^`]+)`")
SYMBOL = re.compile(r"`(\w+\.py): ([\w.]+)`")
TABLE = re.compile(r"(?:^\|.*\n?)+", flags=re.M)
YAML_KEY = re.compile(r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+")
LAZY_KEY = re.compile(r"[a-z_]+(?:\.\w+|\[\d+\])+")


class Row(NamedTuple):
    """A row of a table: the headings above it, the text between, and its cells by column."""

    section: str
    intro: str
    cells: Dict[str, str]

    def keys(self, pattern: re.Pattern) -> List[str]:
        """Its config keys in one language."""
        return [code for code in CODE.findall(self.cells["Key"]) if pattern.fullmatch(code)]

    def symbols(self, column: str) -> List[str]:
        """Symbols that a column links to, as path::name."""
        return [symbol for symbol in map(symbol_of, LINK.findall(self.cells[column])) if symbol]

    def configs(self) -> List[str]:
        """Shipped configs that the text above the table names."""
        return [name for name in CODE.findall(self.intro) if name in NAMES]


def inline(text: str) -> str:
    """The text with its [links][file] written as [links](path), where the file is given."""
    targets = dict(TARGET.findall(text))

    def written_out(link: re.Match) -> str:
        return f"[{link[1]}]({targets[link[2]]})" if link[2] in targets else link[0]

    return REFERENCE.sub(written_out, text)


def rows(text: str) -> Iterator[Row]:
    """Every row of every table."""
    for part in re.split(r"^#+ ", "\n" + inline(text), flags=re.M):
        section, _, body = part.partition("\n")
        for table in TABLE.finditer(body):
            lines = [[c.strip() for c in line.split("|")[1:-1]] for line in table[0].splitlines()]
            for cells in lines[2:]:
                intro = body[: table.start()]
                yield Row(section, intro, dict(zip(lines[0], cells, strict=True)))


def symbol_of(link) -> str:
    """path::name of a link [`file.py: name`](path), "" of another."""
    text, target = link
    found = SYMBOL.fullmatch(text)
    return f"{Path(target).relative_to('..')}::{found[2]}" if found else ""


@functools.cache
def definitions(path: Path) -> Set[str]:
    """Dotted names that a Python file defines: functions, classes, their members, constants."""
    return set(_defined(ast.parse(path.read_text()).body))


def _defined(body) -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in _defined(node.body))
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name))


@functools.cache
def anchors(path: Path) -> Set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}


def broken_links(text: str) -> List[str]:
    """Links to a file, a heading or a definition that is not there."""
    text, labels = inline(text), [label for _, label in REFERENCE.findall(text)]
    found = [f"[{label}]: is given nowhere" for _, label in REFERENCE.findall(text)]
    found += [f"[{label}]: is not used" for label, _ in TARGET.findall(text) if label not in labels]
    for label, target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        path = (PAGE.parent / name).resolve()
        symbol = SYMBOL.fullmatch(label)
        if not path.is_file():
            found.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(path):
            found.append(f"{target}: no such heading")
        elif path.suffix == ".py" and (not symbol or symbol[1] != path.name):
            found.append(f"{label}: is to name a definition in {path.name}")
        elif symbol and symbol[2] not in definitions(path):
            found.append(f"{target}: does not define {symbol[2]}")
    return found


def unknown_names(text: str) -> List[str]:
    """Config keys, their values, and paths in backticks that are not there."""
    found = []
    for code in CODE.findall(LINK.sub("", inline(text))):
        if YAML_KEY.match(code):
            found += _refused(code)
        elif "://" not in code and "/" in code and not (ROOT / code).exists():
            found.append(f"{code}: no such path")
    for row in rows(text):
        for code in CODE.findall(row.cells.get("Key", "")):
            if LAZY_KEY.fullmatch(code):
                if OmegaConf.select(load_lazy("paper", NAMES[0]), code) is None:
                    found.append(f"{code}: no such key in the LazyConfigs")
            elif not YAML_KEY.fullmatch(code):
                found.append(f"{code}: no config key")
    return found


def _refused(code: str) -> List[str]:
    """What is wrong with a key, or a key and its value, of the YAML configs."""
    key, *value = code.split(maxsplit=1)
    if key not in leaves(load("paper", NAMES[0])):
        return [f"{key}: no such key"]
    try:
        load("paper", NAMES[0], *([key, *value] if value else []))
    except ConfigError as error:
        return [str(error)]
    return []

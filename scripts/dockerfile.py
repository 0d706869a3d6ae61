"""Reading a Dockerfile and its .dockerignore: as much of their grammar as this project's use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Instruction", "Stage", "context_files", "expand", "pairs", "read_stages", "words"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `flags` are its `--name=value`s; `text` is the rest, continued lines joined."""

    name: str
    flags: dict[str, str]
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, from its FROM on; `alias` is empty where it has none."""

    image: str
    alias: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        """Its instructions of one name, in order."""
        return [one for one in self.instructions if one.name == name]


def read_stages(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Return the ARGs before the first FROM, and the stages.

    Raises:
        ValueError: an instruction stands before the first FROM that may not.
    """
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for one in _instructions(text):
        if one.name == "FROM":
            image, _, alias = one.text.partition(" AS ")
            stages.append(Stage(expand(image.strip(), arguments), alias.strip(), ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.image, last.alias, (*last.instructions, one))
        elif one.name == "ARG":
            arguments.update(pairs(one.text))
        else:
            raise ValueError(f"line {one.line}: {one.name} before FROM")
    return arguments, stages


def _instructions(text: str) -> Iterator[Instruction]:
    collected, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not collected):
            continue
        first = first or number
        collected += line.strip()
        if collected.endswith("\\"):
            collected = collected[:-1].rstrip() + " "
            continue
        name, _, rest = collected.partition(" ")
        flags: dict[str, str] = {}
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        yield Instruction(name.upper(), flags, rest.strip(), first)
        collected, first = "", 0


def pairs(text: str) -> dict[str, str]:
    """The names and values of an ARG, ENV or LABEL; an ARG without a value has an empty one."""
    found = re.findall(r'([\w.]+)(?:=("[^"]*"|\S*))?', text)
    return {name: value.strip('"') for name, value in found}


def words(text: str) -> list[str]:
    """A command in the form of a JSON array.

    Raises:
        ValueError: it is in the form of a shell line, which hides the program from signals.
    """
    if not text.startswith("["):
        raise ValueError(f"not in exec form: {text}")
    return [str(word) for word in json.loads(text)]


def expand(text: str, values: dict[str, str]) -> str:
    """Put in the values of `$NAME` and `${NAME}`; a name unknown becomes empty."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], ""), text)


def context_files(root: Path, ignore: str, source: str) -> list[Path]:
    """The files that COPY finds for one source after .dockerignore, relative to `root`, by path."""
    start = root / source
    candidates = [start] if start.is_file() else [path for path in start.rglob("*") if path.is_file()]
    rules = [line.strip() for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
    relative = sorted(path.relative_to(root) for path in candidates)
    return [path for path in relative if _is_sent(path, rules)]


def _is_sent(path: Path, rules: list[str]) -> bool:
    """Whether a file is sent to the engine: the last rule that names it or a folder above it counts."""
    names = [path.as_posix(), *(parent.as_posix() for parent in path.parents if parent != Path())]
    sent = True
    for rule in rules:
        pattern = _pattern(rule.removeprefix("!").strip("/"))
        if any(pattern.fullmatch(name) for name in names):
            sent = rule.startswith("!")
    return sent


def _pattern(rule: str) -> re.Pattern[str]:
    out, rest = "", rule
    while rest:
        if rest.startswith("**/"):
            out, rest = out + "(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            out, rest = out + ".*", rest[2:]
        elif rest[0] == "*":
            out, rest = out + "[^/]*", rest[1:]
        elif rest[0] == "[" and "]" in rest:
            end = rest.index("]") + 1
            out, rest = out + rest[:end], rest[end:]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return re.compile(out)

"""YAML 1.2 as plain values that remember their lines.

Only what a person needs in a table of texts is read: mappings, lists and scalars. Scalars keep the text as shown,
so that ``00123``, ``3e5`` or ``2026-11-10`` under ``variants`` stay what was typed; only ``true``, ``false`` and
empty become values. Tags, anchors and repeated keys are refused with their line: what looks like data must be data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

__all__ = ["MAX_BYTES", "Parsed", "Path", "YamlProblem", "read_yaml"]

MAX_BYTES = 16 * 1024 * 1024
"""Largest file read: about a hundred times the shipped knowledge."""

_MAX_DEPTH = 40

Path = tuple[str | int, ...]
"""Way to a value: keys and positions from the root."""


class YamlProblem(Exception):  # noqa: N818 (an outcome that callers list, not a failure)
    """A file that is no such YAML; ``line`` counts from 1 (0: the whole file)."""

    def __init__(self, line: int, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
        self.path = path


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's value, and the line (from 1) of every key and item in it."""

    value: Any
    lines: Mapping[Path, int] = field(default_factory=dict[Path, int])

    def line_of(self, path: Path) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_yaml(data: bytes, *, numbers: bool = False) -> Parsed:
    """Read one YAML document.

    Args:
        data: the file's bytes, UTF-8 with or without a mark.
        numbers: whether unquoted numbers become numbers instead of staying the text that is shown.

    Raises:
        YamlProblem: undecodable, no YAML, too large or too deep, or using tags, anchors or a key twice.
    """
    if len(data) > MAX_BYTES:
        raise YamlProblem(0, f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlProblem(line, f"not UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from None
    root = _composed(text)
    if root is None:
        return Parsed(None)
    reading = _Reading(numbers)
    return Parsed(reading.value(root, ()), reading.lines)


def _composed(text: str) -> Node | None:
    # Imported here: a server never reads YAML, and the package takes longer to load than all of ours around it.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    # The pure-Python reader in any case: the same messages with and without the C extension.
    reader = YAML(typ="safe", pure=True)
    try:
        return cast("Node | None", reader.compose(text))  # pyright: ignore[reportUnknownMemberType]
    except MarkedYAMLError as error:
        told = cast("Any", error)
        mark = told.problem_mark or told.context_mark
        said = ": ".join(str(part) for part in (told.context, told.problem) if part)
        raise YamlProblem(int(mark.line) + 1 if mark else 0, _explained(said)) from None
    except YAMLError as error:
        raise YamlProblem(0, str(error).splitlines()[0]) from None
    except RecursionError:
        raise YamlProblem(0, "nested too deeply") from None


def _explained(said: str) -> str:
    if r"'\t'" in said or "\\t" in said:
        return f"{said}; indent with spaces, not with tabs"
    if "mapping values are not allowed" in said:
        return f"{said}; put a text that contains ': ' into quotes"
    return said


class _Reading:
    """One pass over the tree of one document."""

    def __init__(self, numbers: bool) -> None:
        self._numbers = numbers
        self.lines: dict[Path, int] = {}
        self._seen: set[int] = set()

    def value(self, node: Node, path: Path) -> Any:
        line = _line(node)
        self.lines.setdefault(path, line)
        if len(path) > _MAX_DEPTH:
            raise YamlProblem(line, "nested too deeply", path)
        # An alias gives the anchored node itself a second time.
        if id(node) in self._seen or cast("Any", node).anchor:
            raise YamlProblem(
                line, "anchors and aliases (& and *) are not used here; write the text out", path
            )
        self._seen.add(id(node))
        match _kind(node):
            case "mapping":
                return self._mapping(node, path)
            case "sequence":
                items = cast("list[Node]", cast("Any", node).value)
                return [self.value(item, (*path, index)) for index, item in enumerate(items)]
            case _:
                return _scalar(node, line, path, self._numbers)

    def _mapping(self, node: Node, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in cast("list[tuple[Node, Node]]", cast("Any", node).value):
            line = _line(key_node)
            if _kind(key_node) != "scalar":
                raise YamlProblem(line, "a key must be a text", path)
            key = str(cast("Any", key_node).value)
            here = (*path, key)
            if key in found:
                raise YamlProblem(line, f"{key} stands here twice (first on line {self.lines[here]})", here)
            self.lines[here] = line
            found[key] = self.value(value_node, here)
        return found


def _kind(node: Node) -> str:
    return str(cast("Any", node).id)


def _line(node: Node) -> int:
    return int(cast("Any", node).start_mark.line) + 1


def _scalar(node: Node, line: int, path: Path, numbers: bool) -> Any:
    scalar = cast("Any", node)
    text, tag = str(scalar.value), str(scalar.tag)
    kind = tag.removeprefix("tag:yaml.org,2002:")
    if tag.startswith("!") or kind not in _KINDS:
        raise YamlProblem(line, f"the tag {tag} is not used here", path)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if numbers and kind in ("int", "float"):
        return _number(text)
    return text


def _number(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_KINDS = frozenset({"null", "bool", "int", "float", "timestamp", "str", "merge", "value"})

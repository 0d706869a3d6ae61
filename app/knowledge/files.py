"""Knowledge files and folders: read, checked, and turned into entries; refused whole when anything is wrong.

Needs no database. Source: the contracts page, sections 1 (knowledge commands) and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.core.errors import FieldProblem, InvalidError
from app.domain.knowledge import Entry, SynonymGroup
from app.knowledge.checks import check_documents
from app.knowledge.codec import Document, entry_from_doc, synonyms_from_docs
from app.knowledge.models import CategoryFile, EntryModel, SynonymModel, document_of, known_keys
from app.knowledge.problems import Place, Problem, Warned, nearest_name
from app.knowledge.yaml_text import MAX_BYTES, Parsed, Path, YamlProblem, read_yaml

__all__ = ["SYNONYMS_FILE", "LoadResult", "load_entries", "model_problems"]

SYNONYMS_FILE = "synonyms.yaml"
"""The one file of a knowledge folder that holds synonym groups instead of entries."""

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What files gave. With any problem there are no entries: an import is refused whole."""

    entries: tuple[Entry, ...]
    synonyms: tuple[SynonymGroup, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Warned, ...]
    files: int

    def require(self) -> None:
        """Raise InvalidError with every problem, if there is any."""
        if self.problems:
            raise InvalidError(
                f"refused: {self.problems[0]}"
                + (f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""),
                code="knowledge_invalid",
                errors=[
                    FieldProblem(field=str(problem.place), message=str(problem), fix=problem.fix)
                    for problem in self.problems
                ],
            )


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry that fits the schema, and where it stands."""

    document: Document
    file: str
    parsed: Parsed
    root: Path


def load_entries(paths: Iterable[FilePath]) -> LoadResult:
    """Read knowledge files, and folders' files directly in them (``*.yaml``, ``*.yml``, in name order).

    Nothing is raised for what stands in files or for missing ones: everything wrong is listed, with file and line.
    """
    loading = _Loading()
    # A folder and a file in it, both named, are no reason to read the file twice.
    files = {file.resolve(): file for path in paths for file in loading.files_of(path)}
    for file in files.values():
        loading.read(file)
    return loading.result()


class _Loading:
    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._warnings: list[Warned] = []
        self._found: list[_Found] = []
        self._synonyms: list[Document] = []
        self._files = 0

    def files_of(self, path: FilePath) -> list[FilePath]:
        """Return the files a path stands for, in name order."""
        if path.is_file():
            return [path]
        if not path.is_dir():
            self._refuse(path, 0, "no such file or folder")
            return []
        files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not files:
            self._refuse(path, 0, "no *.yaml file in this folder")
        return files

    def _refuse(self, file: FilePath, line: int, message: str, **more: str) -> None:
        self._problems.append(Problem(Place(str(file), line), message, **more))

    def read(self, file: FilePath) -> None:
        """Read one file into entries or synonym groups."""
        self._files += 1
        try:
            # One byte more than allowed is enough to know.
            with file.open("rb") as stream:
                parsed = read_yaml(stream.read(MAX_BYTES + 1))
        except OSError as error:
            self._refuse(file, 0, error.strerror or "can't be read")
            return
        except YamlProblem as problem:
            self._refuse(file, problem.line, problem.message)
            return
        if file.name in (SYNONYMS_FILE, "synonyms.yml"):
            self._read_synonyms(file, parsed)
        else:
            self._read_entries(file, parsed)

    def _read_entries(self, file: FilePath, parsed: Parsed) -> None:
        category, items, root = file.stem, parsed.value, cast("Path", ())
        if isinstance(items, dict):
            top = cast("dict[str, Any]", items)
            if not self._is_category_file(file, parsed, top):
                return
            category, items, root = str(top["category"]).strip(), top["entries"], ("entries",)
        if items is None:
            self._warnings.append(Warned(Place(str(file)), "holds no entries"))
            return
        if not isinstance(items, list):
            self._refuse(file, parsed.line_of(root), "must be a list of entries, or {category, entries}")
            return
        for index, item in enumerate(cast("list[object]", items)):
            self._read_entry(file, parsed, (*root, index), item, category)

    def _is_category_file(self, file: FilePath, parsed: Parsed, top: Mapping[str, Any]) -> bool:
        before = len(self._problems)
        allowed = tuple(CategoryFile.model_fields)
        for key in top:
            if key not in allowed:
                near = nearest_name(key, allowed)
                self._refuse(
                    file, parsed.line_of((key,)), f"unknown key {key}",
                    fix=f"did you mean {near}?" if near else "a file is a list of entries, or {category, entries}",
                )  # fmt: skip
        for key in allowed:
            if key not in top:
                self._refuse(
                    file, 1, f"{key} is missing", fix="a file is a list of entries, or {category, entries}"
                )
        name = top.get("category")
        if "category" in top and not (isinstance(name, str) and 0 < len(name.strip()) <= 64):
            self._refuse(file, parsed.line_of(("category",)), "category must be a text of 1 to 64 characters")
        return len(self._problems) == before

    def _read_entry(self, file: FilePath, parsed: Parsed, root: Path, item: object, category: str) -> None:
        name = str(cast("dict[str, Any]", item).get("id") or "") if isinstance(item, dict) else ""
        try:
            model = EntryModel.model_validate(item)
        except ValidationError as error:
            self._problems.extend(
                model_problems(error, entry=name, locate=lambda path: _place(file, parsed, (*root, *path)))
            )
            return
        self._found.append(_Found(document_of(model, category), str(file), parsed, root))

    def _read_synonyms(self, file: FilePath, parsed: Parsed) -> None:
        items: object = parsed.value
        if isinstance(items, dict) and list(cast("dict[str, Any]", items)) == ["synonyms"]:
            items, root = cast("dict[str, Any]", items)["synonyms"], cast("Path", ("synonyms",))
        else:
            root = cast("Path", ())
        if isinstance(items, dict):
            # The short form: {delivery: [快递, 物流]}.
            groups = cast("dict[str, Any]", items)
            listed: list[tuple[Path, object]] = [
                ((*root, name), {"id": name, "words": words}) for name, words in groups.items()
            ]
        elif isinstance(items, list):
            listed = [((*root, index), item) for index, item in enumerate(cast("list[object]", items))]
        elif items is None:
            listed = []
        else:
            self._refuse(file, 1, "must be a list of {id, words}, or a mapping from id to words")
            return
        known = {doc["id"] for doc in self._synonyms}
        for path, item in listed:
            try:
                group = SynonymModel.model_validate(item)
            except ValidationError as error:
                self._problems.extend(
                    model_problems(
                        error, entry="", locate=lambda sub, path=path: _place(file, parsed, path + sub)
                    )
                )
                continue
            if group.id in known:
                self._refuse(file, parsed.line_of(path), f"the synonym group {group.id} stands here twice")
                continue
            known.add(group.id)
            self._synonyms.append(group.model_dump())

    def result(self) -> LoadResult:
        """Check everything found together, and build the entries when nothing is wrong."""
        found = self._found
        findings = check_documents(
            [each.document for each in found],
            lambda index, path: _place(
                FilePath(found[index].file), found[index].parsed, found[index].root + path
            ),
        )
        problems = (*self._problems, *findings.problems)
        return LoadResult(
            entries=() if problems else tuple(entry_from_doc(each.document) for each in found),
            synonyms=() if problems else synonyms_from_docs(self._synonyms),
            problems=tuple(sorted(problems, key=lambda each: (each.place.file, each.place.line))),
            warnings=(*self._warnings, *findings.warnings),
            files=self._files,
        )


def _place(file: FilePath, parsed: Parsed, path: Path) -> Place:
    return Place(str(file), parsed.line_of(path))


def model_problems(
    error: ValidationError, *, entry: str, locate: Callable[[Path], Place]
) -> Sequence[Problem]:
    """Return what a model refused, in words for the person who wrote it.

    Args:
        error: from an entry's or a synonym group's model.
        entry: id of the entry, when it is known.
        locate: gives the place of a path within what was validated.
    """
    return [_problem(details, entry, locate) for details in error.errors(include_url=False)]


def _problem(details: ErrorDetails, entry: str, locate: Callable[[Path], Place]) -> Problem:
    # Pydantic marks a bad key of a mapping by a last step "[key]".
    path = tuple(step for step in details["loc"] if step != "[key]")
    message, fix = details["msg"], ""
    match details["type"]:
        case "extra_forbidden":
            message = "unknown key"
            near = nearest_name(str(path[-1]), known_keys(path[:-1]))
            fix = f"did you mean {near}?" if near else f"known here: {', '.join(known_keys(path[:-1]))}"
        case "missing":
            message = "is missing"
        case "string_type":
            message, fix = "must be a text", "put it into quotes"
        case "model_type" | "model_attributes_type":
            message = "must be a mapping of keys to values"
        case "string_pattern_mismatch":
            message = f"{details['input']!r} is not allowed here"
            fix = "letters, digits, _ and - without spaces"
        case _:
            pass
    return Problem(locate(path), message, entry=entry, field=".".join(str(step) for step in path), fix=fix)

"""``huoji evaluate``: match quality and speed on labelled messages.

Source: the contracts page, section 6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from app.cli.output import note, print_json, will_be_json
from app.core.errors import InvalidError

__all__ = ["evaluate", "read_rows"]


def evaluate(
    kb: Annotated[Path, typer.Option(help='知识，每行 {"intent","text"} · the knowledge, JSON lines')],
    queries: Annotated[
        Path, typer.Option(help='消息，每行 {"text","intent"} · labelled messages, JSON lines')
    ],
    as_json: Annotated[bool, will_be_json()] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="逐条结果写入此文件 · write each result here")
    ] = None,
) -> None:
    """用标注数据衡量匹配质量和速度 · measure match quality and speed on labelled data."""
    import orjson

    from app.intents import evaluate as evaluation

    kb_rows, query_rows = read_rows(kb), read_rows(queries)
    note(f"正在匹配 {len(query_rows)} 条消息", f"matching {len(query_rows)} messages")
    try:
        evaluation.snapshot_of(kb_rows)
    except ValueError as error:
        raise InvalidError(f"{kb}: {error}", code="evaluation_invalid") from None
    try:
        figures = evaluation.evaluate(kb_rows, query_rows)
    except ValueError as error:
        raise InvalidError(f"{queries}: {error}", code="evaluation_invalid") from None
    if predictions is not None:
        with predictions.open("wb") as stream:
            for prediction in figures.predictions:
                stream.write(orjson.dumps(prediction.to_wire(), option=orjson.OPT_APPEND_NEWLINE))
    if as_json:
        print_json(figures.to_wire())
        return
    for name, value in figures.to_wire().items():
        print(f"{name:<26}{_shown(value)}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; blank lines are left out.

    Raises:
        InvalidError: the file can't be read, or a line is no JSON object.
    """
    import orjson

    rows: list[dict[str, Any]] = []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}", code="file_unreadable") from None
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidError(f"{path}:{number}: no JSON: {error.msg}", code="file_invalid") from None
        if not isinstance(row, dict):
            raise InvalidError(f"{path}:{number}: must be one JSON object", code="file_invalid")
        rows.append(cast("dict[str, Any]", row))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return "  ".join(f"{name} {_shown(each)}" for name, each in inner.items())
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

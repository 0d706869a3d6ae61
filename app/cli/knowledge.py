"""``huoji knowledge``: check files, take them into the draft, publish, go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import note, print_json, print_table, say, will_be_json

if TYPE_CHECKING:
    from app.knowledge.files import LoadResult

__all__ = ["commands"]

AUTHOR = "cli"

commands = typer.Typer(help="知识库 · the knowledge base", no_args_is_help=True, rich_markup_mode=None)

Paths = Annotated[list[Path], typer.Argument(help="文件或目录 · files or folders")]


@commands.command()
def check(paths: Paths, as_json: Annotated[bool, will_be_json()] = False) -> None:
    """检查文件，不碰数据库 · check files, without a database."""
    from app.knowledge.files import load_entries

    loaded = load_entries(paths)
    if as_json:
        print_json({
            "entries": len(loaded.entries),
            "files": loaded.files,
            "problems": [_finding(problem) for problem in loaded.problems],
            "warnings": [_finding(warning) for warning in loaded.warnings],
        })  # fmt: skip
    else:
        _print_findings(loaded)
    loaded.require()
    if not as_json:
        say(
            f"{loaded.files} 个文件、{len(loaded.entries)} 条知识，没有错误，{len(loaded.warnings)} 条提醒",
            f"{loaded.files} files, {len(loaded.entries)} entries: no error, {len(loaded.warnings)} warnings",
        )


@commands.command("import")
def import_files(
    paths: Paths,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="按编号并入草稿，而不是替换 · add to the draft by id instead of replacing it"
        ),
    ] = False,
    publish_too: Annotated[bool, typer.Option("--publish", help="随后发布 · publish afterwards")] = False,
    as_json: Annotated[bool, will_be_json()] = False,
) -> None:
    """把文件读入草稿；有任何错误就整个拒绝 · take files into the draft; with any error nothing is taken."""
    from app.cli.session import Session, in_session
    from app.knowledge.files import load_entries
    from app.knowledge.service import ImportReport

    loaded = load_entries(paths)
    if not as_json:
        _print_findings(loaded)
    loaded.require()

    async def job(session: Session) -> tuple[ImportReport, int | None]:
        report = await session.knowledge.import_files(loaded, merge=merge)
        if not publish_too:
            return report, None
        note("正在发布", "publishing")
        return report, await session.knowledge.publish(author=AUTHOR)

    report, version = in_session(job)
    if as_json:
        counts = {"added": report.added, "changed": report.changed, "removed": report.removed}
        print_json({**counts, "unchanged": report.unchanged, "version": version})
        return
    say(
        f"草稿：新增 {report.added}，更改 {report.changed}，删除 {report.removed}，未变 {report.unchanged}",
        f"draft: {report.added} added, {report.changed} changed, {report.removed} removed, {report.unchanged} as before",
    )
    if version is not None:
        _say_published(version)


@commands.command()
def export(
    folder: Annotated[Path, typer.Argument(help="目录，每类一个文件 · a folder; one file a category")],
) -> None:
    """把草稿写成文件 · write the draft as files."""
    from app.cli.session import in_session

    files = in_session(lambda session: session.knowledge.export(folder))
    say(f"已写入 {len(files)} 个文件到 {folder}", f"wrote {len(files)} files into {folder}")


@commands.command()
def publish(
    remark: Annotated[str | None, typer.Option("--note", help="改了什么 · what changed")] = None,
) -> None:
    """发布草稿为新版本 · publish the draft as a new version."""
    from app.cli.session import in_session

    _say_published(in_session(lambda session: session.knowledge.publish(author=AUTHOR, note=remark)))


@commands.command()
def rollback(
    version: Annotated[
        int | None, typer.Argument(help="版本，默认前一个 · version; default: the one before")
    ] = None,
) -> None:
    """换回以前的版本 · go back to an earlier version."""
    from app.cli.session import in_session

    target = in_session(lambda session: session.knowledge.rollback(version, author=AUTHOR))
    say(f"现在使用版本 {target}", f"version {target} is in service")


@commands.command("list")
def list_versions(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """列出已发布的版本 · list the published versions."""
    from app.cli.session import in_session
    from app.core.clock import rfc3339

    versions = in_session(lambda session: session.knowledge.list_versions())
    if as_json:
        print_json({"items": [
            {
                "version": info.version, "entries": info.entry_count, "author": info.author, "note": info.note,
                "created_at": rfc3339(info.created_at_ms), "in_service": info.in_service,
            }
            for info in versions
        ]})  # fmt: skip
        return
    print_table(
        ("VERSION", "ENTRIES", "CREATED", "AUTHOR", "NOTE", ""),
        [
            (
                info.version, info.entry_count, rfc3339(info.created_at_ms), info.author, info.note or "-",
                "in service" if info.in_service else "",
            )
            for info in versions
        ],
    )  # fmt: skip


def _say_published(version: int) -> None:
    say(f"已发布版本 {version}", f"published version {version}")


def _print_findings(loaded: LoadResult) -> None:
    for problem in loaded.problems:
        print(problem)
    for warning in loaded.warnings:
        note(f"提醒：{warning}", f"warning: {warning}")


def _finding(problem: object) -> dict[str, object]:
    from app.knowledge.problems import Problem

    assert isinstance(problem, Problem)
    return {
        "file": problem.place.file,
        "line": problem.place.line,
        "entry": problem.entry or None,
        "field": problem.field or None,
        "message": problem.message,
        "fix": problem.fix or None,
    }

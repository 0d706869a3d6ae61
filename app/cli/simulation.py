"""``huoji simulate``: real messages from a file, posted to a running server, and what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import note, print_json, print_table, say, will_be_json
from app.core.errors import ConflictError, InvalidError

if TYPE_CHECKING:
    from app.cli.buyers import Posted, Target
    from app.cli.outcomes import Outcome, OutcomeReader
    from app.cli.progress import Progress
    from app.cli.session import Session

__all__ = ["read_lines", "simulate"]

_POLL_SECONDS = 1.0
_SHOWN_ENTRIES = 15

_LABELS = {
    "answered": "已回答 answered",
    "asked_back": "反问 asked back",
    "escalated": "转人工 escalated",
    "suggested": "建议给人工 suggested",
    "silent": "不回复 silent",
    "pending": "未处理 pending",
    "parked": "搁置 parked",
    "rejected": "无法解析 rejected",
    "ignored": "忽略 ignored",
    "refused": "被拒 refused",
}


def simulate(
    messages: Annotated[Path, typer.Option(help="每行一条买家消息，UTF-8 · one buyer's message a line")],
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="每秒条数，默认尽快 · lines a second; default: at once")
    ] = None,
    buyers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="买家数，轮流发送；默认每行一位新买家，逐条单独判断；人少时合并、防刷屏等规则会起作用 · buyers taking turns; "
            "default one a line, so that each line is judged by itself. Fewer buyers bring bursts and guards into play",
        ),
    ] = None,
    url: Annotated[str, typer.Option(help="运行中的服务 · the running server")] = "http://127.0.0.1:8000",
    account: Annotated[
        str | None, typer.Option(help="账号，默认唯一的一个 · account; default: the only one")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=1, help="没有进展时等几秒 · seconds to wait without progress")
    ] = 30.0,
    out: Annotated[
        Path | None, typer.Option(help="逐条结果（JSON 行）写入此文件 · write each outcome, JSON lines")
    ] = None,
    as_json: Annotated[bool, will_be_json()] = False,
) -> None:
    """把文件中的消息发给运行中的服务，统计结果 · post messages to a running server and print what became of them.

    密钥和结果取自同一个数据库（HUOJI_DATABASE_URL；演示会自动找到） · the account's secret and the outcomes are read from the
    server's own database (HUOJI_DATABASE_URL; that of a demo started here is found by itself).
    """
    import orjson

    from app.cli.demo import find_demo_database
    from app.cli.outcomes import summarise
    from app.cli.session import in_session
    from app.settings import load_settings

    lines = read_lines(messages)
    settings = load_settings()
    if "database_url" not in settings.model_fields_set:
        settings = load_settings(database_url=find_demo_database(url))

    async def job(session: Session) -> tuple[list[Outcome], float]:
        return await _run(
            session, lines, url=url, account=account, buyers=buyers or len(lines), rate=rate, wait=wait
        )

    outcomes, seconds = in_session(job, settings)
    if out is not None:
        with out.open("wb") as stream:
            for outcome in outcomes:
                stream.write(orjson.dumps(outcome.to_wire(), option=orjson.OPT_APPEND_NEWLINE))
    document = summarise(outcomes, seconds=seconds)
    if as_json:
        print_json(document)
    else:
        _print(document)
    refused = document["outcomes"].get("refused", {}).get("count", 0)
    if refused == len(outcomes):
        raise ConflictError("the server took none of the messages", code="simulation_refused")


def read_lines(path: Path) -> list[str]:
    """Return the file's lines that hold text.

    Raises:
        InvalidError: it can't be read, or holds none.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}", code="file_unreadable") from None
    # Only line feeds end a line: a message may hold other characters that Python would split at.
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise InvalidError(f"{path}: holds no message", code="file_invalid")
    return lines


async def _run(
    session: Session,
    lines: list[str],
    *,
    url: str,
    account: str | None,
    buyers: int,
    rate: float | None,
    wait: float,
) -> tuple[list[Outcome], float]:
    import asyncio

    from app.cli.buyers import post_lines
    from app.cli.outcomes import OutcomeReader
    from app.cli.progress import Progress

    target, account_id = await _target(session, url, account, min(buyers, len(lines)))
    clock = session.clock
    began_ms, began = clock.now_ms(), clock.monotonic()
    reader = OutcomeReader(session.database, account_id=account_id, run=target.run, since_ms=began_ms)
    with Progress(len(lines), clock) as progress:

        def show(posted: Posted) -> None:
            progress.posted(len(posted.acked), posted.refused)

        posting = asyncio.create_task(post_lines(lines, target, clock=clock, rate=rate, on_progress=show))
        try:
            while not posting.done():
                await asyncio.wait({posting}, timeout=_POLL_SECONDS)
                progress.settled(await reader.poll(clock.now_ms()))
            posted = posting.result()
            await _wait_settled(session, reader, len(posted.acked), wait=wait, progress=progress)
        finally:
            posting.cancel()
    if posted.first_refusal is not None:
        note(
            f"{posted.refused} 条被拒：{posted.first_refusal}",
            f"{posted.refused} refused: {posted.first_refusal}",
        )
    texts = {
        target.message_id(index): (target.conversation_id(index), line) for index, line in enumerate(lines)
    }
    outcomes = await reader.finish(texts, {target.message_id(index) for index in posted.acked})
    return outcomes, clock.monotonic() - began


async def _wait_settled(
    session: Session, reader: OutcomeReader, expected: int, *, wait: float, progress: Progress
) -> None:
    """Return when every acked message is settled, or none has been for ``wait`` seconds."""
    clock = session.clock
    moved = clock.monotonic()
    while reader.settled < expected and clock.monotonic() - moved < wait:
        before = reader.settled
        await clock.sleep(_POLL_SECONDS / 4)
        progress.settled(await reader.poll(clock.now_ms()))
        if reader.settled > before:
            moved = clock.monotonic()


async def _target(session: Session, url: str, account: str | None, buyers: int) -> tuple[Target, str]:
    """Choose the account and open its keys.

    Raises:
        InvalidError: there is no account, or several to choose from, or it has no secret.
    """
    from sqlalchemy import Connection, select

    from app.channels.registry import RELAY_CHANNEL
    from app.cli.buyers import Target
    from app.shops.directory import account_from_row
    from app.storage.tables import accounts

    def read(connection: Connection) -> list[dict[str, Any]]:
        rows = select(accounts).where(accounts.c.state != "removed").order_by(accounts.c.id)
        return [dict(row) for row in connection.execute(rows).mappings()]

    rows = await session.database.read(read)
    opened = [account_from_row(row, session.box, session.registry) for row in rows]
    generic = session.registry.get(RELAY_CHANNEL)
    usable = [
        one for one in opened if one.secrets and type(session.registry.for_account(one)) is type(generic)
    ]
    chosen = [one for one in usable if account in (None, one.id)]
    if not chosen or (account is None and len(chosen) > 1 and not _is_demo(session)):
        known = ", ".join(one.id for one in usable) or "none"
        raise InvalidError(
            f"choose an account that speaks the generic format with --account; usable here: {known}",
            code="account_unknown",
        )
    first = chosen[0]
    run = f"sim-{session.ids.token(6)}"
    webhook = f"{url.rstrip('/')}/webhooks/{first.channel}/{first.id}"
    return Target(webhook=webhook, keys=first.secrets, run=run, buyers=buyers), first.id


def _is_demo(session: Session) -> bool:
    from app.cli.demo import is_demo_database

    return is_demo_database(session.settings.database_url)


def _print(document: dict[str, Any]) -> None:
    say(
        f"{document['messages']} 条消息，用时 {document['seconds']:.1f} 秒",
        f"{document['messages']} messages in {document['seconds']:.1f} s",
    )
    for title, name, most in (
        ("OUTCOME", "outcomes", None), ("BAND", "bands", None), ("RULE", "rules", None), ("REASON", "reasons", _SHOWN_ENTRIES), ("ENTRY", "entries", _SHOWN_ENTRIES),
    ):  # fmt: skip
        rows = list(document[name].items())[:most]
        if rows:
            print()
            print_table(
                (title, "COUNT", "SHARE"),
                [(_LABELS.get(key, key), value["count"], f"{value['share']:.1%}") for key, value in rows],
            )

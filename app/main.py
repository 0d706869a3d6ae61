"""The server process: settings in, exit status out.

uvicorn with uvloop and httptools serves one ASGI application; signals end it in order: refuse new work, finish what is
committed, drain for at most ten seconds, close agents' sockets with 1012, exit 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator

import structlog
import uvicorn

from app.core.errors import ConfigurationError
from app.core.logging import configure_logging
from app.core.metrics import Metrics
from app.core.watchdog import LoopWatchdog
from app.settings import Settings
from app.wiring import Application

__all__ = ["DRAIN_SECONDS", "run_server"]

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0
"""Source: the reliability notes, F2."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would end the process by the signal instead of with status 0."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def run_server(
    settings: Settings,
    *,
    host: str,
    port: int,
    demo: bool = False,
    on_ready: Callable[[Application], None] | None = None,
) -> int:
    """Serve until told to stop; return the exit status.

    Args:
        settings: this installation's.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        demo: with the sandbox marketplace and its page.
        on_ready: called once the server listens and takes traffic.

    Raises:
        ConfigurationError: it can't start; the message says what to do.
    """
    metrics = Metrics()
    pretty = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    listener = configure_logging(metrics=metrics, level=settings.log_level, pretty=pretty)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(settings, metrics, host=host, port=port, demo=demo, on_ready=on_ready))
    finally:
        listener.stop()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        log.warning("server.no_uvloop", effect="webhooks cost more than twice the CPU")
        return None
    return uvloop.new_event_loop


async def _serve(
    settings: Settings,
    metrics: Metrics,
    *,
    host: str,
    port: int,
    demo: bool,
    on_ready: Callable[[Application], None] | None,
) -> int:
    listening = _listen(host, port)
    actual_port = listening.getsockname()[1]
    application = Application(settings, metrics=metrics, demo=demo, own_url=f"http://127.0.0.1:{actual_port}")
    await application.start()
    _calm_collector()
    watchdog = LoopWatchdog(metrics=metrics)
    watchdog.start()
    config = uvicorn.Config(
        application,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=256 * 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(DRAIN_SECONDS),
        h11_max_incomplete_event_size=64 * 1024,
        forwarded_allow_ips=",".join(settings.trusted_proxies) or "127.0.0.1",
        proxy_headers=bool(settings.trusted_proxies),
    )

    def announce() -> None:
        log.info("server.ready", port=actual_port, pid=os.getpid())
        if on_ready is not None:
            on_ready(application)

    server = _Server(config, announce)

    def stop() -> None:
        application.refuse_new_work()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    try:
        await server.serve(sockets=[listening])
    finally:
        await application.stop(DRAIN_SECONDS)
        watchdog.stop()
        log.info("server.stopped", pid=os.getpid())
    return 0


def _calm_collector() -> None:
    """Keep what lives as long as the process (knowledge, statements, routes) out of every later garbage collection.

    Messages leave no cycles behind; collecting the whole heap again and again would cost a tenth of the CPU and put
    pauses of tens of milliseconds into the slowest replies.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    with contextlib.suppress(OSError, AttributeError):
        # What starting needed for a moment (parsing texts, loading the index) goes back to the system; glibc only.
        ctypes.CDLL(None).malloc_trim(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port",
            code="port_in_use",
        ) from error
    listening.setblocking(False)
    return listening

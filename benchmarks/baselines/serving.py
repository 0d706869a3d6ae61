"""How every comparison server is run: uvicorn at its fastest, one process, no access log."""

import argparse
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp


def parser(description: str) -> argparse.ArgumentParser:
    """Return the command line that all comparison servers share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--port", type=int, required=True)
    made.add_argument("--secret", required=True, help="whsec_… of the account")
    return made


def serve(app: ASGIApp | Callable[..., object], port: int) -> None:
    """Serve ``app`` on 127.0.0.1:``port`` with uvloop and httptools until told to stop."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="auto",
        access_log=False,
        log_level="warning",
    )

"""``huoji doctor``: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

from typing import Annotated

from app.cli.output import languages, print_json, say, will_be_json

__all__ = ["doctor"]

_MARKS = {"error": "✗", "warning": "!", "info": "·", "ok": "✓", "skipped": "-"}


def doctor(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """检查安装，说明问题和修法；有错误时状态为 1 · say what is wrong and how to mend it; status 1 when something is."""
    import asyncio

    from app.cli.checks.examination import examine
    from app.core.errors import ConfigurationError

    findings = asyncio.run(examine())
    if as_json:
        print_json({
            "ok": all(finding.level != "error" for finding in findings),
            "findings": [finding.to_wire() for finding in findings],
        })  # fmt: skip
    else:
        for finding in findings:
            for language in languages():
                said, mend = (
                    (finding.zh, finding.mend_zh) if language == "zh" else (finding.en, finding.mend_en)
                )
                print(f"{_MARKS[finding.level]} {said}")
                if mend:
                    print(f"    → {mend}")
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if not as_json:
        say(f"{errors} 个错误，{warnings} 个提醒", f"{errors} errors, {warnings} warnings")
    if errors:
        raise ConfigurationError(f"{errors} of the findings must be mended", code="unhealthy")

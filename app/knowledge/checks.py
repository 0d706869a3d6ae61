"""Checks over entry documents that a schema can't say: slots, repeats, tone, lookalikes.

They run on files, on single drafts from the console and on a whole draft before it is published alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from app.core.errors import InvalidError
from app.domain.tone import lint
from app.intents.normalise import normalise
from app.knowledge.codec import Document
from app.knowledge.confusable import lookalikes
from app.knowledge.problems import Place, Problem, Warned
from app.knowledge.yaml_text import Path
from app.replies.templates import check_template

__all__ = ["Findings", "Locate", "check_documents", "normal_form"]

Locate = Callable[[int, Path], Place]
"""Says where a path of the n-th document stands."""

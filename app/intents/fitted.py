"""Everything learned from one version of the knowledge base, and its stored form.

Fitted when a version is published and stored with it, so that starting a server only reads arrays.

Source: the design page, section 6.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from app.domain.knowledge import Snapshot
from app.intents.concepts import concept_words
from app.intents.grams import Lexicon
from app.intents.index import LanguageIndex, Phrasing, fit_language
from app.intents.normalise import Normaliser, language_of

__all__ = ["FORMAT", "FittedIndex", "StoredIndexError", "fit"]

FORMAT: Final = 2
"""Raised when the stored form or the way of learning changes; a stored index of another format is fitted again."""
_BASE_LANGUAGE: Final = "zh"


class StoredIndexError(ValueError):
    """Stored bytes that are no fitted index of this format: fit again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedIndex:
    """What was learned from a snapshot: an index for each language that has phrasings."""

    version: int
    entry_ids: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    languages: Mapping[str, LanguageIndex]

    def to_bytes(self) -> bytes:
        """Return the stored form (numpy's own container; no pickled objects)."""
        header: dict[str, Any] = {
            "format": FORMAT,
            "version": self.version,
            "entries": self.entry_ids,
            "words": dict(self.words),
            "languages": {},
        }
        arrays: dict[str, Any] = {}
        for language, index in self.languages.items():
            header["languages"][language] = {
                "phrasings": [
                    (phrasing.entry, phrasing.text, phrasing.normalised) for phrasing in index.phrasings
                ],
                "vocabulary": index.vocabulary,
            }
            parts: dict[str, Any] = {
                "weights": index.weights,
                "offsets": index.offsets,
                "documents": index.documents,
                "buckets": index.buckets,
                "shown": index.shown,
                "linear_scales": index.linear_scales,
            }
            if index.linear is not None:
                parts["linear"] = index.linear
            arrays |= {f"{language}.{name}": array for name, array in parts.items()}
        arrays["header"] = np.frombuffer(orjson.dumps(header), dtype=np.uint8)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> FittedIndex:
        """Read what ``to_bytes`` wrote. Raises StoredIndexError for anything else, or another format."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            header = orjson.loads(arrays.pop("header").tobytes())
            if header["format"] != FORMAT:
                raise StoredIndexError(
                    f"stored index of format {header['format']}, this program's is {FORMAT}"
                )
            words = {word: tuple(concepts) for word, concepts in header["words"].items()}
            lexicon = Lexicon(words)
            languages = {
                language: LanguageIndex(
                    language=language,
                    phrasings=tuple(Phrasing(*phrasing) for phrasing in part["phrasings"]),
                    vocabulary=tuple(part["vocabulary"]),
                    weights=arrays[f"{language}.weights"],
                    offsets=arrays[f"{language}.offsets"],
                    documents=arrays[f"{language}.documents"],
                    buckets=arrays[f"{language}.buckets"],
                    shown=arrays[f"{language}.shown"],
                    linear=arrays.get(f"{language}.linear"),
                    linear_scales=arrays[f"{language}.linear_scales"],
                    lexicon=lexicon,
                )
                for language, part in header["languages"].items()
            }
            return cls(
                version=header["version"],
                entry_ids=tuple(header["entries"]),
                words=words,
                languages=languages,
            )
        except StoredIndexError:
            raise
        except Exception as error:
            raise StoredIndexError(f"not a stored index: {error}") from error


def fit(snapshot: Snapshot, *, normaliser: Normaliser | None = None) -> FittedIndex:
    """Learn an index from a snapshot: about 1 s for 1,500 phrasings. Nothing but the snapshot goes in."""
    normaliser = normaliser or Normaliser()
    words = concept_words(snapshot.synonyms, normaliser)
    lexicon = Lexicon(words)
    by_language: dict[str, dict[tuple[int, str], Phrasing]] = {}
    for number, entry in enumerate(snapshot.entries):
        texts = [(_BASE_LANGUAGE, text) for text in (entry.question, *entry.variants)]
        for language, localised in entry.texts.items():
            texts.extend((language, text) for text in (localised.question, *localised.variants))
        for language, text in texts:
            if entry.languages and language not in entry.languages:
                continue
            normalised = normaliser.normalise(text)
            if normalised:
                # By the script it is written in: an English phrasing of a Chinese entry is found by English messages.
                phrasings = by_language.setdefault(language_of(normalised), {})
                phrasings.setdefault((number, normalised), Phrasing(number, text, normalised))
    return FittedIndex(
        version=snapshot.version,
        entry_ids=tuple(entry.id for entry in snapshot.entries),
        words=words,
        languages={
            language: fit_language(language, list(phrasings.values()), lexicon)
            for language, phrasings in sorted(by_language.items())
        },
    )

"""A made-up knowledge base and the buyers' questions to it, the same for every run of one seed.

125 intents with 8 variants each are 1,000 variants; ``scale`` multiplies the intents. Run as a
program it writes the knowledge as Huoji's YAML files (one category a file), and as one JSON list
of ``[variant, answer]`` for the comparison bots.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.phrases import ENDINGS, GREETINGS, MODELS, RANGES

DEFAULT_SEED = 20_261_121
VERBATIM_SHARE = 0.25
"""Share of questions that are a variant word for word; shop traffic repeats itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One intent: its id, category, ways to ask, and the answer."""

    id: str
    category: str
    variants: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Query:
    """One buyer's question and the entry that answers it."""

    text: str
    entry: Entry


def entries(scale: int = 1) -> tuple[Entry, ...]:
    """Return 125 × ``scale`` entries of 8 variants each; ``scale`` is at most 20."""
    if not 1 <= scale <= len(MODELS):
        raise ValueError(f"scale must be 1 to {len(MODELS)}")
    made: list[Entry] = []
    for model_number, model in enumerate(MODELS[:scale]):
        for range_ in RANGES:
            for subject_number, subject in enumerate(range_.subjects, 1):
                name = model + subject
                made.extend(
                    Entry(
                        id=f"bench_{range_.code}_{subject_number}_{aspect.code}"
                        + (f"_{model_number}" if model_number else ""),
                        category=f"bench_{range_.code}",
                        variants=tuple(question.format(s=name) for question in aspect.questions),
                        answer=aspect.answer.format(s=name),
                    )
                    for aspect in range_.aspects
                )
    return tuple(made)


class Questions:
    """Noisy questions by number; the same number of the same seed is always the same question."""

    def __init__(self, known: tuple[Entry, ...], seed: int = DEFAULT_SEED) -> None:
        self._entries = known
        self._seed = seed

    def __getitem__(self, number: int) -> Query:
        """Return question ``number``."""
        source = random.Random(self._seed * 1_000_003 + number)
        entry = self._entries[source.randrange(len(self._entries))]
        text = entry.variants[source.randrange(len(entry.variants))]
        if source.random() >= VERBATIM_SHARE:
            text = _noisy(text, source)
        return Query(text, entry)


def _noisy(text: str, source: random.Random) -> str:
    """Greet, end, and now and then drop or swap characters in the second half of ``text``."""
    # The subject mostly stands at the front; a question that lost it would have no right answer.
    first = len(text) // 2
    kind = source.random()
    if kind < 0.2:
        at = source.randrange(first, len(text))
        text = text[:at] + text[at + 1 :]
    elif kind < 0.35:
        at = source.randrange(first, len(text) - 1)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    greeting = source.choice(GREETINGS) if source.random() < 0.4 else ""
    return greeting + text + source.choice(ENDINGS)


def write_yaml(known: tuple[Entry, ...], folder: Path) -> None:
    """Write one knowledge file per category into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    by_category: dict[str, list[Entry]] = {}
    for entry in known:
        by_category.setdefault(entry.category, []).append(entry)
    for category, members in by_category.items():
        lines = [f"category: {category}", "entries:"]
        for entry in members:
            # A JSON string is a YAML string, so nothing needs a YAML library.
            lines += [
                f"  - id: {entry.id}",
                f"    question: {json.dumps(entry.variants[0], ensure_ascii=False)}",
                "    mode: auto",
                "    variants:",
                *(f"      - {json.dumps(variant, ensure_ascii=False)}" for variant in entry.variants[1:]),
                f"    answer: {json.dumps(entry.answer, ensure_ascii=False)}",
            ]
        (folder / f"{category}.yaml").write_text("\n".join(lines) + "\n", "utf-8")


def write_list(known: tuple[Entry, ...], path: Path) -> None:
    """Write ``[[variant, answer], …]`` to ``path``."""
    pairs = [(variant, entry.answer) for entry in known for variant in entry.variants]
    path.write_text(json.dumps(pairs, ensure_ascii=False), "utf-8")


def main() -> None:
    """Write the files that the command line names."""
    made = argparse.ArgumentParser(description="Write the made-up knowledge base.")
    made.add_argument("--scale", type=int, default=1, help="times 1,000 variants (1 to 20)")
    made.add_argument("--yaml", type=Path, help="folder for Huoji's files")
    made.add_argument("--list", type=Path, help="file for [[variant, answer], …]")
    arguments = made.parse_args()
    known = entries(arguments.scale)
    if arguments.yaml:
        write_yaml(known, arguments.yaml)
    if arguments.list:
        write_list(known, arguments.list)
    print(f"{len(known)} intents, {sum(len(entry.variants) for entry in known)} variants")


if __name__ == "__main__":
    main()

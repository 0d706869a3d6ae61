"""CPU time per matched question: Huoji's matcher beside the usual rapidfuzz scans.

``.venv/bin/python -m benchmarks.match``: the matchers take turns over the same noisy questions, at
1,000 and 10,000 variants. Needs neither a server nor a database.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rapidfuzz import fuzz, process

from benchmarks.baselines.memory_bot import normalise
from benchmarks.knowledge import Entry, Query, Questions, entries
from benchmarks.load import percentile
from benchmarks.report import place

Matcher = Callable[[str], str | None]
"""From a question to the id of the entry that answers it, or None."""
Builder = Callable[[tuple[Entry, ...]], Matcher]


def scan(scorer: Callable[..., float]) -> Builder:
    """Return a builder of matchers that score every variant by ``scorer``, as bots usually do."""

    def build(known: tuple[Entry, ...]) -> Matcher:
        texts = [normalise(variant) for entry in known for variant in entry.variants]
        ids = [entry.id for entry in known for _ in entry.variants]

        def match(text: str) -> str | None:
            found = process.extractOne(normalise(text), texts, scorer=scorer)
            return None if found is None else ids[found[2]]

        return match

    return build


def huoji(known: tuple[Entry, ...]) -> Matcher:
    """Return what the server runs for each message, built as publishing builds it."""
    # Here, not above: the comparison with nothing but rapidfuzz must run without Huoji's packages.
    from app.domain.knowledge import Answer, Snapshot
    from app.domain.knowledge import Entry as KnowledgeEntry
    from app.intents.matcher import Scope, build_matcher

    matcher = build_matcher(
        Snapshot(
            version=1,
            entries=tuple(
                KnowledgeEntry(
                    id=entry.id,
                    topic=entry.id,
                    category=entry.category,
                    question=entry.variants[0],
                    variants=entry.variants[1:],
                    default=Answer(text=entry.answer),
                )
                for entry in known
            ),
        )
    )
    scope = Scope(shop_id="bench", channel="generic", now_ms=0)

    def match(text: str) -> str | None:
        questions = matcher.understand(text, scope=scope).questions
        best = questions[0].best if questions else None
        return None if best is None else best.entry_id

    return match


BUILDERS: dict[str, Builder] = {
    "rapidfuzz extractOne WRatio": scan(fuzz.WRatio),
    "rapidfuzz extractOne ratio": scan(fuzz.ratio),
    "Huoji": huoji,
}


def micros(match: Matcher, questions: list[Query]) -> tuple[list[float], float]:
    """Return the CPU microseconds of each question, and the share answered rightly."""
    took: list[float] = []
    right = 0
    for question in questions:
        before = time.thread_time_ns()
        found = match(question.text)
        took.append((time.thread_time_ns() - before) / 1e3)
        right += found == question.entry.id
    return took, right / len(questions)


def measure(scale: int, count: int, rounds: int) -> list[tuple[str, ...]]:
    """Return table rows for a knowledge base of ``scale`` thousand variants."""
    known = entries(scale)
    rows: list[tuple[str, ...]] = []
    built: dict[str, tuple[Matcher, float]] = {}
    for name, builder in BUILDERS.items():
        before = time.process_time()
        try:
            built[name] = builder(known), time.process_time() - before
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    medians: dict[str, list[float]] = {name: [] for name in built}
    tails: dict[str, list[float]] = {name: [] for name in built}
    shares: dict[str, list[float]] = {name: [] for name in built}
    source = Questions(known)
    for number in range(rounds + 1):
        # Other questions in each round, so that no cache answers them.
        questions = [source[number * count + n] for n in range(count)]
        for name, (match, _) in built.items():
            took, share = micros(match, questions)
            if number:
                medians[name].append(sum(took) / len(took))
                tails[name].append(percentile(sorted(took), 0.99))
                shares[name].append(share)
    for name, (_, seconds) in built.items():
        rows.append(
            (
                name,
                f"{scale * 1_000:,}",
                f"{median(medians[name]):,.0f} ({min(medians[name]):,.0f} to {max(medians[name]):,.0f})",
                f"{median(tails[name]):,.0f}",
                f"{median(shares[name]):.1%}",
                f"{seconds:.2f}",
            )
        )
    return rows


def main() -> None:
    """Measure, print, and write the section if asked."""
    made = argparse.ArgumentParser(description="CPU time per matched question.")
    made.add_argument("--questions", type=int, default=300, help="questions in a round")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument(
        "--scales", type=int, nargs="+", default=[1, 10], help="thousands of variants (1 to 20)"
    )
    made.add_argument("--out", type=Path, help="page whose section is replaced, such as docs/benchmarks.md")
    arguments = made.parse_args()
    head = ("matcher", "variants", "CPU µs/question", "p99 µs", "right", "build, CPU s")
    rows = [row for s in arguments.scales for row in measure(s, arguments.questions, arguments.rounds)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in (head, tuple("---" for _ in head), *rows))
    section = (
        "CPU time of matching one noisy question (mean of a round; median, least and greatest of "
        f"{arguments.rounds} rounds of {arguments.questions} questions, the matchers in turn).\n\n{table}\n"
    )
    print(section)
    if arguments.out:
        place(arguments.out, "match", section)


if __name__ == "__main__":
    main()

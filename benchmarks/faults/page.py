"""Report of a campaign."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.faults.episode import FAULTS, Episode

_COUNTED = ("odd", "good", "refused", "starts", "kills")
_WORDS = {
    "odd": "odd requests",
    "good": "right requests answered",
    "refused": "refused in overload",
    "starts": "starts of a server",
    "kills": "kills",
    "accepted": "odd requests answered",
    "wrong": "wrong answers",
    "unanswered": "right requests lost",
    "crashes": "servers that ended by themselves",
    "bad_files": "lost or half-written files",
    "left_behind": "processes or shared memory left",
    "others": "other faults",
}
_MOST_NOTES = 50


def page(episodes: Sequence[Episode], machine: str, command: str) -> str:
    """Markdown: the sums of each part, the parts by subject, and every fault with its note."""
    dates = [one.date for one in episodes]
    lines = ["# Campaign of faults", "", f"{machine}; {min(dates)} to {max(dates)} UTC.", f"Made by `{command}`", ""]
    parts = list(dict.fromkeys(one.part for one in episodes))
    lines += [f"| | {' | '.join(parts)} | together |", f"| --- |{' ---: |' * (len(parts) + 1)}"]
    columns = [[one for one in episodes if one.part == part] for part in parts] + [list(episodes)]
    lines.append(f"| episodes | {' | '.join(f'{len(column):,}' for column in columns)} |")
    lines.append(f"| minutes | {' | '.join(f'{sum(one.seconds for one in c) / 60:.1f}' for c in columns)} |")
    for name in (*_COUNTED, *FAULTS):
        cells = [sum(getattr(one, name) for one in column) for column in columns]
        words = f"**{_WORDS[name]}**" if name in FAULTS else _WORDS[name]
        if name in FAULTS or cells[-1]:
            lines.append(f"| {words} | {' | '.join(f'{cell:,}' for cell in cells)} |")
    lines += ["", "| part | subject | episodes | odd requests | right requests | kills | faults |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for part, subject in dict.fromkeys((one.part, one.subject.partition(":")[0]) for one in episodes):
        own = [one for one in episodes if (one.part, one.subject.partition(":")[0]) == (part, subject)]
        sums = [sum(getattr(one, name) for one in own) for name in ("odd", "good", "kills", "faults")]
        lines.append(f"| {part} | {subject} | {len(own):,} | {' | '.join(f'{one:,}' for one in sums)} |")
    faulty = [one for one in episodes if one.faults]
    lines += ["", *(f"- {one.part} {one.number}, {one.subject}: {one.note}" for one in faulty[:_MOST_NOTES])]
    if len(faulty) > _MOST_NOTES:
        lines.append(f"- and {len(faulty) - _MOST_NOTES:,} more, in the CSV file")
    return "\n".join([*lines, ""]) if faulty else "\n".join(lines)

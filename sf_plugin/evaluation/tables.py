"""The report for people: tables with a row for each condition, and facts."""

from __future__ import annotations

from typing import Any

from sf_plugin.evaluation.metrics import WITHIN
from sf_plugin.positions import STATES

Rows = tuple[list[str], list[list[str]]]
"""A head and rows of cells."""

JUMP_NAMES = {
    "jump": "jumps",
    "pause": "jumps after a pause",
    "printed": "repeats, endings, da capo",
}


def tables(report: dict[str, Any]) -> list[Rows]:
    """All that has anything to say."""
    made = [
        onsets(report, "pooled", "all onsets pooled"),
        onsets(report, "per_piece", "mean of pieces"),
        turns(report),
        jumps(report),
        asides(report),
        time(report),
    ]
    return [(head, rows) for head, rows in made if rows]


def onsets(report: dict[str, Any], kind: str, title: str) -> Rows:
    """Shares of onsets, `kind` "pooled" or "per_piece"."""
    conditions = report["conditions"]
    names = list(dict.fromkeys(name for data in conditions.values() for name in data["figures"]))
    rows = []
    for condition, data in conditions.items():
        if not data["onsets"]:
            continue
        cells = [condition]
        for name in names:
            figure = data["figures"].get(name)
            edges = figure and figure[f"{kind}_interval"]
            cells.append("" if figure is None else _with_edges(figure[kind], edges))
        rows.append(cells)
    return [title, *map(figure_name, names)], rows


def turns(report: dict[str, Any]) -> Rows:
    """Page turns, of conditions that ask for any or made any."""
    head = ["page turns", "due", "made", "right", "false", "precision", "recall"]
    head += ["lead where music reads on", "too late", "behind elsewhere", "false an hour"]
    rows = []
    for condition, data in report["conditions"].items():
        of = data["turns"]
        if of["due"] or of["made"]:
            rows.append(
                [
                    condition,
                    *(str(of[name]) for name in ("due", "made", "right", "false")),
                    _share(of["precision"]),
                    _share(of["recall"]),
                    _spread(of["lead_seconds"]),
                    f"{of['too_late']} of {of['onward']}",
                    _spread(of["behind_seconds"]),
                    f"{of['false_per_hour']:.1f}",
                ]
            )
    return head, rows


def _spread(seconds: dict[str, float | None]) -> str:
    """Median, and the fifth and ninety-fifth of a hundred."""
    if seconds["median"] is None:
        return ""
    return f"{seconds['median']:.2f} s [{seconds['p5']:.2f}, {seconds['p95']:.2f}]"


def jumps(report: dict[str, Any]) -> Rows:
    """Share of jumps after which the right system was found in time."""
    rows = []
    for condition, data in report["conditions"].items():
        for kind, name in JUMP_NAMES.items():
            found = [data["jumps"][kind][f"within_{limit:g}s"] for limit in WITHIN]
            if found[0]["of"]:
                count = str(found[0]["of"])
                rows.append([f"{condition}: {name}", count, *map(_share, found)])
    return ["place found again", "jumps", *(f"within {limit:g} s" for limit in WITHIN)], rows


def asides(report: dict[str, Any]) -> Rows:
    """What was said while something else than the piece was heard."""
    head = ["while the piece is not played", "stretches", "tracking"]
    head += [f"noticed within {limit:g} s" for limit in WITHIN]
    head += ["pages turned", "ended"]
    rows = []
    for condition, data in report["conditions"].items():
        for kind, of in data["asides"].items():
            noticed = [of["noticed"][f"within_{limit:g}s"] for limit in WITHIN]
            rows.append(
                [
                    f"{condition}: {kind}",
                    str(of["ended"]["of"]),
                    *map(_share, (of["tracking"], *noticed)),
                    str(of["turned"]),
                    _share(of["ended"]),
                ]
            )
    return head, rows


def time(report: dict[str, Any]) -> Rows:
    """Calibration, and how the time was spent."""
    rows = [
        [
            condition,
            f"{data['calibration']['error']:.3f}" if data["onsets"] else "",
            *(f"{data['states'][state]:.1%}" for state in STATES),
        ]
        for condition, data in report["conditions"].items()
    ]
    return ["confidence and time", "calibration error", *STATES], rows


def facts(report: dict[str, Any]) -> list[str]:
    """What the tables' figures are of, and what else was measured, a line each."""
    count = max(data["onsets"] for data in report["conditions"].values())
    layout, speed = report["layout"], report["speed"]
    frame = speed["ms_per_frame"]
    lines = [
        f"{report['protocol']}; {report['pieces']} pieces, {report['pages']} pages, "
        f"{count} onsets; seed {report['seed']}; brackets: 95 % bootstrap over pieces"
    ]
    if report.get("aligned"):
        lines.append("aligned: each recording was heard to its end before anything was said")
    if sees := report.get("sees"):
        lines.append(f"{report['follower']} is a baseline; it is told {sees}")
    else:
        for paper, found in layout.items():
            f1 = ", ".join(f"{name} {boxes['f1']:.3f}" for name, boxes in found.items())
            lines.append(f"detected layout, F1 ({paper}): {f1}")
    if report["unreadable"]:
        lines.append(
            f"no staves found in {report['unreadable']} of {report['documents']} documents; "
            "their onsets count as wrong"
        )
    if frame["median"] is not None:
        lines.append(
            f"speed: {frame['median']:.1f} / {frame['p95']:.1f} / {frame['p99']:.1f} ms a frame "
            f"(median / p95 / p99), {speed['real_time_factor']:.3f} of real time, "
            f"{speed['seconds_per_page']:.2f} s a page"
        )
    return lines


def markdown(report: dict[str, Any]) -> str:
    """Tables and facts as Markdown."""
    parts = []
    for head, rows in tables(report):
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
        parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    parts.append("\n".join(f"- {fact}" for fact in facts(report)))
    return "\n\n".join(parts) + "\n"


def figure_name(name: str) -> str:
    """A figure's name as people say it."""
    if name.startswith("within_"):
        return f"within {name.removeprefix('within_').removesuffix('s')} s"
    return f"right {name}"


def _with_edges(value: float, edges: list[float] | None) -> str:
    return f"{value:.3f}" if edges is None else f"{value:.3f} [{edges[0]:.2f}, {edges[1]:.2f}]"


def _share(share: dict[str, Any]) -> str:
    return "" if share["share"] is None else _with_edges(share["share"], share["interval"])

"""A live page of a running sweep: `python -m scaling.sweep FILE --watch PORT`.

In: a sweep's plan and its store, which the page's own thread reads. Out: a page on this machine alone, at an address
with a secret token: the kinds of stages with their progress, what runs and how its loss falls, and test error against
data as runs finish. The page asks again every two seconds; nothing of the sweep waits for it.
"""

import html
import json
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from analysis.figures.looks import looks
from analysis.tables.printing import label
from analysis.tables.runs import label_axes, label_of
from data.json_lines import whole_lines
from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine.eta import spoken
from scaling.engine.status import Status, status
from scaling.engine.store import Store
from scaling.planning.plan import Plan, plan
from scaling.stage import Stage

LOOPBACK = "127.0.0.1"
METRIC = "train/loss"
_STATES = ("done", "running", "failed", "blocked", "waiting")
_WIDTH, _HEIGHT, _LEFT, _BELOW = 640, 320, 56, 40  # of the figure, and its margins, in pixels

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"

Point = tuple[float, float]


@contextmanager
def watched(sweep: Sweep, store: Store, port: int, now: Callable[[], str]) -> Iterator[str]:
    """Serve the page inside this context; gives its address. store: the page's own, since its caches are
    not for several threads. now: the driver's line on its progress.

    Raises ConfigError where the port cannot be had.
    """
    token = secrets.token_urlsafe(16)
    lock = threading.Lock()  # one look at the store at a time, however many pages are open
    text, due = "", 0.0

    def shown() -> str:
        """The state, looked up again when ten times as long has passed as looking takes: the driver needs the time."""
        nonlocal text, due
        if (start := time.monotonic()) >= due:
            text = fragment(sweep, store, now())
            due = start + 11.0 * (time.monotonic() - start)
        return text

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            given = parse_qs(asked.query).get("token", [""])[0]
            if not secrets.compare_digest(given, token) or asked.path not in ("/", "/state"):
                self._reply(404, "Nothing is here: the address has a token, which the sweep prints.")
            elif asked.path == "/":
                self._reply(200, _PAGE.replace("TOKEN", token))
            else:
                with lock:
                    self._reply(200, shown())

        def _reply(self, code: int, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),  # keeps the token out of other servers' logs
                ("Content-Security-Policy", _POLICY),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the driver's terminal for the sweep."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise ConfigError(f"--watch {port}: {error.strerror}; give a free port, or 0 for any.") from error
    thread = threading.Thread(target=server.serve_forever, name="watch", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}/?token={token}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fragment(sweep: Sweep, store: Store, line: str) -> str:
    """What the page shows now, as HTML."""
    current = plan(sweep, store.numbers)
    state = status(current.stages, store)
    parts = [f"<p><b>{html.escape(line)}</b></p>", _stages(current, state), _running(state, store)]
    if state.failed:
        rows = (
            f"<li>{html.escape(stage.name)}: {html.escape(failure['error'])}</li>" for stage, failure in state.failed
        )
        parts.append(f"<h2>Failed</h2><ul>{''.join(rows)}</ul>")
    points = error_points(sweep, current, store)
    parts.append("<h2>Test error</h2>" + (_figure(points) if points else "<p>No run is finished yet.</p>"))
    return "".join(parts)


def error_points(sweep: Sweep, current: Plan, store: Store) -> Mapping[str, Sequence[Point]]:
    """Algorithm with its settings -> (data size, mean test error of the finished seeds), by size."""
    keys = label_axes(sweep, current)
    errors: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in current.settled:
        if (numbers := store.numbers(run.stage)) is not None:
            errors[label_of(run, keys[run.cell.algorithm])][run.cell.data_size].append(numbers["error"])
    return {
        name: [(size, sum(values) / len(values)) for size, values in sorted(by_size.items())]
        for name, by_size in errors.items()
    }


def _stages(current: Plan, state: Status) -> str:
    """A row for each kind of stage, in the order of the flow, with the kinds that it is made from."""
    of: dict[str, Counter[str]] = defaultdict(Counter)
    inputs: dict[str, dict[str, None]] = defaultdict(dict)
    states: dict[Stage, str] = dict.fromkeys(current.stages, "done")  # or not needed, since what it leads to is stored
    states |= {stage: "running" for stage, _ in state.running} | {stage: "failed" for stage, _ in state.failed}
    states |= dict.fromkeys(state.blocked, "blocked") | dict.fromkeys(state.waiting, "waiting")
    for stage, name in states.items():
        of[stage.kind][name] += 1
        inputs[stage.kind] |= dict.fromkeys(
            parent.kind for parent in stage.inputs.values() if parent.kind != stage.kind
        )
    rows = []
    for kind, counts in of.items():
        total = sum(counts.values())
        bar = "".join(f'<i class="{name}" style="width:{100 * counts[name] / total:.2f}%"></i>' for name in _STATES)
        source = f" <small>from {', '.join(inputs[kind])}</small>" if inputs[kind] else ""
        rows.append(
            f"<tr><td>{html.escape(kind)}{source}<td>{counts['done']} of {total}<td><span class=bar>{bar}</span>"
        )
    return f"<h2>Stages</h2><table>{''.join(rows)}</table>"


def _running(state: Status, store: Store) -> str:
    rows = []
    for stage, holder in state.running:
        losses = _losses(store.partial(stage) / "metrics.jsonl")
        drawn = _line_of(losses) if len(losses) > 1 else ""
        rows.append(f"<tr><td>{html.escape(stage.name)}<td>{spoken(time.time() - holder.since)}<td>{drawn}")
    return f"<h2>Running</h2><table>{''.join(rows)}</table>" if rows else ""


def _losses(file: Path) -> list[Point]:
    """(update, loss) so far; nothing for a stage that does not train. The last line may be half written."""
    try:
        rows = [json.loads(line) for _, line in whole_lines(file)]
    except OSError:
        return []
    return [(float(row["update"]), float(row[METRIC])) for row in rows if METRIC in row]


def _line_of(points: Sequence[Point]) -> str:
    """A small picture of a loss, with its last value."""
    placed = _placed(points, (0.0, 120.0), (24.0, 2.0))
    return (
        f'<svg width=120 height=26 role=img aria-label="training loss"><polyline points="{placed}" fill=none'
        f' stroke="currentColor"/></svg> <small>loss {points[-1][1]:.4g}</small>'
    )


def _placed(points: Sequence[Point], across: Point, up: Point) -> str:
    (least_x, most_x), (least_y, most_y) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    return " ".join(
        f"{_between(x, least_x, most_x, *across):.1f},{_between(y, least_y, most_y, *up):.1f}" for x, y in points
    )


def _between(value: float, least: float, most: float, start: float, end: float) -> float:
    return start + (end - start) * ((value - least) / (most - least) if most > least else 0.5)


def _figure(lines: Mapping[str, Sequence[Point]]) -> str:
    """Test error in percent against data size, whose axis is logarithmic."""
    sizes = sorted({size for points in lines.values() for size, _ in points})
    most = max(error for points in lines.values() for _, error in points) or 1.0

    def across(size: float) -> float:
        return _between(log(size), log(sizes[0]), log(sizes[-1]), _LEFT, _WIDTH - 16)

    def up(error: float) -> float:
        return _between(error, 0.0, most, _HEIGHT - _BELOW, 12)

    drawn = [f'<text x="{across(size):.1f}" y="{_HEIGHT - 20}" text-anchor=middle>{size:,.0f}</text>' for size in sizes]
    for share in (0.0, 0.5, 1.0):
        y, percent = up(share * most), f"{100 * share * most:.1f} %"
        drawn.append(f'<line x1={_LEFT} x2={_WIDTH} y1="{y:.1f}" y2="{y:.1f}" class=grid />')
        drawn.append(f'<text x=4 y="{y + 4:.1f}">{percent}</text>')
    names = []
    first = next(iter(lines), None)
    of = looks(list(lines), first)
    for name, points in lines.items():
        colour = "currentColor" if name == first else of[name].colour  # in dark mode too
        at = [(across(size), up(error)) for size, error in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r=3.5 fill="{colour}"/>' for x, y in at)
        drawn.append(f'<polyline points="{line}" fill=none stroke="{colour}"/>{dots}')
        names.append(f'<span style="color:{colour}">&#9679;</span> {html.escape(label(name))}')
    frame = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img aria-label="test error against data size"'
    words = "<small>Mean of the finished seeds against data size.</small>"
    return f"<svg {frame}>{''.join(drawn)}</svg><p>{' &nbsp; '.join(names)}<br>{words}</p>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Running sweep</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; }
td { padding: .15rem .5rem .15rem 0; vertical-align: top; }
small { opacity: .7; }
.bar { display: flex; height: .8rem; min-width: 6rem; background: #8883; margin-top: .35rem; }
.bar i { display: block; }
.done { background: #1e8449; }
.running { background: #e69f00; }
.failed { background: #c0392b; }
.blocked { background: #8e44ad; }
svg { max-width: 100%; height: auto; font-size: 12px; fill: currentColor; }
.grid { stroke: #8884; }
</style></head>
<body><h1>Running sweep</h1><main>Reading the store ...</main>
<script>
async function show() {
  try {
    const reply = await fetch("/state?token=TOKEN");
    document.querySelector("main").innerHTML = await reply.text();
    setTimeout(show, 2000);
  } catch { document.querySelector("h1").textContent = "The sweep has ended; its report is in the results folder."; }
}
show();
</script></body></html>
"""

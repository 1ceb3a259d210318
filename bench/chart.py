"""Bar charts as SVG, single or stacked, for light and dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LABEL, _NUMBER = 760, 216, 80
_BAR, _GAP, _GROUP_GAP = 20, 8, 46
_TOP = 34
_COLUMNS = 3  # of a legend
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-weight: 600; fill: #24292f; }
  .ours { font-weight: 600; fill: #24292f; }
  .rail { fill: #8b949e; fill-opacity: 0.12; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9aa4af; }
    .title, .ours { fill: #e6edf3; }
  }
"""
OURS, OTHER, FLOOR = "#2f81f7", "#8b949e", "#57ab5a"
_PALETTE = (
    *("#8b949e", "#bf8700", "#c69026", "#2f81f7", "#986ee2"),
    *("#39c5cf", "#e0823d", "#c96198", "#e5534b", "#768390", FLOOR),
)


@dataclass(frozen=True)
class Bar:
    """One bar: its length, what is written behind it, and how far the measurements reach."""

    label: str
    value: float
    text: str
    colour: str = OTHER
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Group:
    """Bars that share a scale, under a title."""

    title: str
    bars: Sequence[Bar]


def bars(groups: Sequence[Group], title: str) -> str:
    """Groups of bars, one below the other."""
    body: list[str] = []
    y = 0
    for group in groups:
        y += _TOP
        body.append(_text(0, y - 12, group.title, "title"))
        most = max(max(bar.value, bar.high or 0) for bar in group.bars) or 1
        for bar in group.bars:
            body += _bar(bar, y, (_WIDTH - _LABEL - _NUMBER) / most)
            y += _BAR + _GAP
        y += _GROUP_GAP - _TOP
    return _page(body, y, title)


def _bar(bar: Bar, y: int, scale: float) -> Sequence[str]:
    kind = "ours" if bar.colour == OURS else ""
    parts = [
        _text(_LABEL - 10, y + 15, bar.label, kind, "end"),
        _rect(_LABEL, y, _WIDTH - _LABEL - _NUMBER, "", "rail"),
        _rect(_LABEL, y, bar.value * scale, bar.colour),
    ]
    if bar.low is not None and bar.high is not None and bar.high > bar.low:
        left, right, middle = _LABEL + bar.low * scale, _LABEL + bar.high * scale, y + _BAR / 2
        ends = f"M{left:.1f} {middle - 4}v8M{right:.1f} {middle - 4}v8"
        parts.append(
            f'<path d="M{left:.1f} {middle}H{right:.1f}{ends}" '
            'stroke="#24292f" stroke-opacity="0.55" fill="none"/>'
        )
    return [*parts, _text(_WIDTH - _NUMBER + 10, y + 15, bar.text, kind)]


def stacked(rows: Sequence[tuple[str, Mapping[str, float], str]], title: str) -> str:
    """One bar a row, made of named parts, with a legend; each row has a label and a text behind it."""
    names = list(dict.fromkeys(name for _, parts, _ in rows for name in parts))
    colours = {name: _PALETTE[number % len(_PALETTE)] for number, name in enumerate(names)}
    most = max(sum(parts.values()) for _, parts, _ in rows) or 1
    scale = (_WIDTH - _LABEL - _NUMBER) / most
    body, y = [_text(0, _TOP - 12, title, "title")], _TOP
    for label, parts, text in rows:
        body.append(_text(_LABEL - 10, y + 19, label, "", "end"))
        x = float(_LABEL)
        for name, value in parts.items():
            body.append(_rect(x, y, value * scale, colours[name], height=28, tip=f"{name}: {value:.1f} ms"))
            if value * scale > 34:
                body.append(
                    f'<text x="{x + value * scale / 2:.1f}" y="{y + 19}" text-anchor="middle" '
                    f'style="fill:#fff">{_short(value)}</text>'
                )
            x += value * scale
        body.append(_text(_WIDTH - _NUMBER + 10, y + 19, text))
        y += 28 + _GAP + 4
    y += 12
    for number, name in enumerate(names):
        x, line = _LABEL + number % _COLUMNS * 190, y + number // _COLUMNS * 22
        body += [_rect(x, line, 12, colours[name], height=12), _text(x + 18, line + 11, name)]
    return _page(body, y + -(-len(names) // _COLUMNS) * 22, title)


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    cls = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{cls}>{escape(text)}</text>'


def _rect(
    x: float, y: float, width: float, fill: str, kind: str = "", height: int = _BAR, tip: str = ""
) -> str:
    style = f'class="{kind}"' if kind else f'fill="{fill}"'
    inner = f"<title>{escape(tip)}</title>" if tip else ""
    size = f'width="{max(0.0, width):.1f}" height="{height}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} rx="2" {style}>{inner}</rect>'


def _page(body: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )

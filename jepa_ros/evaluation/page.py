# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file that needs nothing else: no script, no network, light and dark, fit to print."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jepa_ros.errors import JepaError


class PageError(JepaError):
    """A report that cannot be written."""


class Html(str):
    """Text that is HTML already; any other text is escaped where it is put into a page."""


def text(value) -> Html:
    """Return a value as HTML: None as a dash, a float with three digits."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html('&ndash;')
    if isinstance(value, float):
        return Html(f'{value:.3g}'.replace('-', '&minus;'))
    return Html(html.escape(str(value)))


def join(blocks: Iterable) -> Html:
    """Put blocks behind each other."""
    return Html('\n'.join(text(block) for block in blocks if block))


def heading(words, level: int = 2, anchor: str = '') -> Html:
    """Return a heading. :param anchor: id to link to."""
    return Html(f'<h{level}{_attribute("id", anchor)}>{text(words)}</h{level}>')


def paragraph(words, kind: str = '') -> Html:
    """Return a paragraph. :param kind: '' or 'note' (small and grey)."""
    return Html(f'<p{_attribute("class", kind)}>{text(words)}</p>')


def bullets(items: Iterable, kind: str = '') -> Html:
    """Return a list. :param kind: '', or 'faults' for what is wrong."""
    rows = ''.join(f'<li>{text(item)}</li>' for item in items)
    return Html(f'<ul{_attribute("class", kind)}>{rows}</ul>') if rows else Html('')


def link(words, anchor: str) -> Html:
    """Return a link to a heading of the same page."""
    return Html(f'<a href="#{html.escape(anchor)}">{text(words)}</a>')


def badge(words, kind: str) -> Html:
    """Return a small coloured word. :param kind: good, warn or bad."""
    return Html(f'<span class="badge {kind}">{text(words)}</span>')


def cards(items: Iterable[tuple]) -> Html:
    """Return the figures to see first: (label, value, note), with a note that may be ''."""
    rows = ''.join(
        f'<div class="card"><div class="label">{text(label)}</div><div class="value">{text(value)}</div>'
        f'<div class="note">{text(note)}</div></div>'
        for label, value, note in items
    )
    return Html(f'<div class="cards">{rows}</div>')


def table(header: Sequence, rows: Iterable[Sequence], caption: str = '', words: int = 1) -> Html:
    """
    Return a table; '' where there are no rows.

    :param words: how many of the first columns hold words; the others hold numbers and are aligned right.
    """

    def line(cells, tag):
        return (
            '<tr>'
            + ''.join(
                f'<{tag}{"" if i < words else " class=n"}>{text(cell)}</{tag}>'
                for i, cell in enumerate(cells)
            )
            + '</tr>'
        )

    body = ''.join(line(row, 'td') for row in rows)
    if not body:
        return Html('')
    title = f'<caption>{text(caption)}</caption>' if caption else ''
    return Html(
        '<div '
        f'class="scroll"><table>{title}<thead>{line(header, "th")}</thead><tbody>{body}</tbody></table></div>'
    )


def shares(parts: Iterable[tuple[str, float]], caption: str = '') -> Html:
    """Return a bar that is divided in proportion, with a legend: (label, amount)."""
    parts = [(label, amount) for label, amount in parts if amount > 0]
    whole = sum(amount for _, amount in parts)
    if not whole:
        return Html('')
    pieces = ''.join(
        f'<span style="width:{100 * amount / whole:.2f}%;background:var(--s{i % 5})"></span>'
        for i, (_, amount) in enumerate(parts)
    )
    legend = ''.join(
        f'<span><i style="background:var(--s{i % 5})"></i>{text(label)} {100 * amount / whole:.0f} %</span>'
        for i, (label, amount) in enumerate(parts)
    )
    title = f'<div class="note">{text(caption)}</div>' if caption else ''
    return Html(
        f'<div class="shares">{title}<div class="bar">{pieces}</div><div class="legend">{legend}</div></div>'
    )


def figure(svg: str | None, caption='') -> Html:
    """Return a plot as `plots` makes them; '' for None."""
    return Html(f'<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>') if svg else Html('')


def picture(jpeg: str | None, caption='') -> Html:
    """Return a picture. :param jpeg: in base64; None gives ''."""
    if not jpeg:
        return Html('')
    return Html(
        f'<figure><img alt="{html.escape(str(caption))}" src="data:image/jpeg;base64,{jpeg}">'
        f'<figcaption>{text(caption)}</figcaption></figure>'
    )


def row(blocks: Iterable) -> Html:
    """Put blocks beside each other, as many as fit."""
    return Html(f'<div class="row">{join(blocks)}</div>')


def pair(one, other) -> Html:
    """Put two blocks beside each other, whatever the width."""
    return Html(f'<div class="pair">{text(one)}{text(other)}</div>')


def details(summary, blocks: Iterable, opened: bool = False) -> Html:
    """Return blocks that open on a click."""
    return Html(
        f'<details{" open" if opened else ""}><summary>{text(summary)}</summary>{join(blocks)}</details>'
    )


def page(title: str, blocks: Iterable) -> str:
    """Return the whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{_STYLE}</style></head>\n'
        f'<body><main>\n<h1>{html.escape(title)}</h1>\n{join(blocks)}\n</main></body></html>\n'
    )


def write(path: Path, content: str) -> None:
    """
    Write a file so that it is whole or not there.

    :raises PageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'{path.name}.{os.getpid()}.part')
        part.write_text(content, encoding='utf-8')
        part.replace(path)
    except OSError as error:
        raise PageError(f'expected to write {path}, found: {error.strerror or error}') from error


def _attribute(name: str, value: str) -> str:
    return f' {name}="{html.escape(value)}"' if value else ''


_STYLE = """
:root{--ink:#1d2328;--soft:#5d6870;--rule:#dde2e6;--paper:#fff;--panel:#f5f7f8;--good:#1a7f4b;--warn:#a15c00;
--bad:#b3261e;
--s0:#2563a8;--s1:#d9822b;--s2:#3a9a6b;--s3:#8a5bb5;--s4:#9aa5ad}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8eb;--soft:#9ba7b0;--rule:#353d44;--paper:#15191c;
--panel:#1e2429;
--good:#5fcf97;--warn:#f0b45a;--bad:#ff8a80;--s0:#6aa9ec;--s1:#f0a557;--s2:#62c795;--s3:#b891e0;--s4:#6d7982}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px}h1{font-size:26px;margin:8px 0 4px;
line-height:1.25}
h2{font-size:20px;margin:36px 0 8px;padding-top:14px;border-top:1px solid var(--rule)}h3{font-size:16px;
margin:22px 0 6px}
p{margin:6px 0}.note,figcaption,caption{color:var(--soft);font-size:13px}a{color:var(--s0)}
ul{margin:6px 0;padding-left:20px}li{margin:3px 0}.faults{list-style:none;padding:0}
.faults li{border-left:4px solid var(--warn);background:var(--panel);padding:5px 10px;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:14px 0}
.card{background:var(--panel);border:1px solid var(--rule);border-radius:8px;padding:10px 12px}
.card .label{color:var(--soft);font-size:13px}.card .value{font-size:22px;font-weight:600;line-height:1.3}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:8px 0;font-size:14px;
font-variant-numeric:tabular-nums}
caption{text-align:left;padding:4px 0}th{color:var(--soft);font-weight:600;vertical-align:bottom}
th,td{text-align:left;padding:4px 16px 4px 0;border-bottom:1px solid var(--rule)}.n{text-align:right}
figure{margin:10px 0}figure svg,figure img{max-width:100%;height:auto;display:block}
figure img{border-radius:6px}
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));gap:4px 26px;align-items:start}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:6px;align-items:start}
@media(max-width:560px){.row{grid-template-columns:1fr}}
.badge{border-radius:9px;padding:1px 9px;font-size:13px;color:var(--paper)}.badge.good{background:var(--good)}
.badge.warn{background:var(--warn)}.badge.bad{background:var(--bad)}
.shares{margin:8px 0}.bar{display:flex;height:16px;border-radius:4px;overflow:hidden;margin:4px 0}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
details{margin:10px 0;border:1px solid var(--rule);border-radius:8px;padding:4px 14px}
summary{cursor:pointer;font-weight:600;padding:6px 0;overflow-wrap:anywhere}
@media print{details{border:0}main{max-width:none}}
"""

# SPDX-License-Identifier: Apache-2.0
"""A page needs nothing but itself, shows any text as it is, and its plots keep what matters."""

import builtins
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_ros.evaluation import page, plots
from jepa_ros.evaluation.page import Html
from jepa_ros.evaluation.plots import Series

VOID = {'meta', 'img', 'br'}


class Checker(HTMLParser):
    """Collects what a page refers to, and fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.refers, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.refers += [value for name, value in attributes if name in ('src', 'href', 'xlink:href')]

    def handle_startendtag(self, tag, attributes):
        self.refers += [value for name, value in attributes if name in ('src', 'href', 'xlink:href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def checked(content) -> Checker:
    checker = Checker()
    checker.feed(content)
    checker.close()
    assert checker.open == []
    assert all(value.startswith(('data:', '#')) for value in checker.refers), checker.refers
    assert 'url(http' not in content and '@import' not in content and '<script' not in content
    return checker


@given(st.text(st.characters(exclude_categories=['Cs', 'Cc'])))
def test_any_words_come_out_as_they_are_and_break_nothing(words):
    blocks = [
        page.heading(words, anchor='x'),
        page.paragraph(words),
        page.bullets([words], 'faults'),
        page.cards([(words, words, words)]),
        page.table([words, 1], [[words, 2]], words),
        page.shares([(words, 1.0)]),
        page.details(words, [words]),
        page.badge(words, 'bad'),
        page.picture('AAAA', words),
        page.link(words, 'x'),
    ]
    content = page.page(words, blocks)
    checked(content)
    assert content.count(html.escape(words)) >= 10


def test_numbers_and_what_is_missing():
    assert page.text(None) == '&ndash;' and page.text(-0.12345) == '&minus;0.123' and page.text(7) == '7'
    assert (
        page.table(['a'], []) == ''
        and page.figure(None) == ''
        and page.picture(None) == ''
        and page.shares([]) == ''
    )


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_every_colour_is_a_variable_that_both_schemes_define(scheme):
    pytest.importorskip('matplotlib')
    content = page.page('t', [page.figure(_plot())])
    style = content[content.index('<style>') : content.index('</style>')]
    block = style.split('@media(prefers-color-scheme:dark)')[scheme == 'dark']
    used = set(re.findall(r'var\((--[a-z0-9]+)\)', content))
    assert {'--ink', '--rule', '--s0', '--s1'} <= used
    assert all(f'{name}:' in block for name in used)


def _plot(**options):
    return plots.lines(
        [Series('one', [0, 1, 2], [1, None, 2]), Series('two', [0, 1], [3, 3])],
        'x',
        'y',
        marks=[(1, 2, 'here')],
        **options,
    )


def test_a_plot_is_one_svg_element_that_refers_to_nothing_and_knows_no_colour_of_its_own():
    pytest.importorskip('matplotlib')
    svg = _plot()
    checked(svg)
    assert svg.startswith('<svg') and 'here' in svg and 'two' in svg
    assert '#0102' not in svg and plots.lines([Series('', [], [])], 'x', 'y') is None
    assert _plot() == svg, 'the same data gives the same bytes'


def test_without_matplotlib_there_are_no_plots_and_no_error(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.partition('.')[0] == 'matplotlib':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', missing)
    assert _plot() is None and not plots.available()


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), min_size=1, max_size=300), st.integers(10, 60))
def test_a_thinned_line_keeps_its_extremes_its_order_and_a_gap(values, points):
    x, y = plots.thinned(range(len(values)), values, points)
    full = np.array(values, float)
    assert len(x) == len(y) <= max(points, 3 * (points // 2)) and (np.diff(x) > 0).all()
    assert np.isnan(y).any() == np.isnan(full).any()
    if not np.isnan(full).all():
        assert np.nanmax(y) == np.nanmax(full) and np.nanmin(y) == np.nanmin(full)


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    page.write(tmp_path / 'deep' / 'p.html', 'x')
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['p.html']
    (tmp_path / 'file').write_text('')
    with pytest.raises(page.PageError, match='expected to write'):
        page.write(tmp_path / 'file' / 'p.html', 'x')


def test_html_is_not_escaped_twice():
    assert page.text(Html('<b>x</b>')) == '<b>x</b>' and page.text('<b>') == '&lt;b&gt;'

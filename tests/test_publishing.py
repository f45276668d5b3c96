"""The published book: its first page, search, keyboard and screen readers, the archive, citations,
the package's page.
"""

import ast
import base64
import html
import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from book_site import CONTROLS, built, pages, site
from test_book import Visit, open_page

from instab_utils import book, data, store
from instab_utils.book.__main__ import main

FIRST = "book/index"
PAGES = [pytest.param(name, id=name.split("/")[-1]) for name in pages()]
COMMANDS = re.findall(
    r"^\$ (.+)$", (book.ROOT / "book" / "how-to-run.md").read_text("utf-8"), re.MULTILINE
)
ROOMS = sorted(path.parent.name for path in (book.ROOT / "instab_utils").glob("*/__init__.py"))


def html_of(name: str) -> str:
    """A built page's source."""
    page, problem = built()
    if problem:
        pytest.skip("the book was not built; test_the_book_builds_without_a_warning says why")
    return (page.parent / f"{name}.html").read_text("utf-8")


# --- the first page


@pytest.fixture(scope="module")
def first(chromium):
    visit = Visit()
    page = open_page(chromium, site(), FIRST, visit, viewport={"width": 1300, "height": 900})
    yield page, visit
    page.context.close()


@pytest.mark.browser
def test_the_first_page_shows_the_phenomenon_without_scrolling(first):
    page, visit = first
    assert page.locator("figure.landing .instab-split").count() == 4
    for panel in page.locator("figure.landing .landing-panel").all():
        box = panel.bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] <= 900
    assert not visit.outside and not visit.errors
    assert visit.n_bytes < 5e6, "scripts and icons of the theme included"


@pytest.mark.browser
def test_the_handle_wipes_all_four_by_the_keyboard(first):
    page, _ = first
    handle = page.locator("figure.landing input[type=range]")
    handle.focus()
    shots = {}
    for key in ("Home", "End"):
        page.keyboard.press(key)
        page.wait_for_timeout(200)
        shots[key] = [
            picture.screenshot() for picture in page.locator("figure.landing .instab-split").all()
        ]
        assert handle.get_attribute("aria-valuetext").startswith(
            "0 %" if key == "Home" else "100 %"
        )
    assert [before != after for before, after in zip(shots["Home"], shots["End"])] == [True] * 4


def test_the_first_page_shows_the_recorded_pixels():
    from PIL import Image

    worst, _ = store.load_exhibit("07-deep_mri")
    twin, _ = store.load_exhibit("07-deep_mri-twin")
    wanted = [
        worst["pictures"][0],
        worst["pictures"][-1],
        worst["network"][0],
        worst["network"][-1],
        worst["TV"][0],
        worst["TV"][-1],
        worst["network"][0],
        twin["network"],
    ]
    shown = re.findall(r'<img [^>]*src="data:image/png;base64,([^"]+)"', html_of(FIRST))
    assert len(shown) == len(wanted)
    for text, image in zip(shown, wanted):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), image)


def test_the_random_change_is_as_large_as_the_worst_one():
    worst, about = store.load_exhibit("07-deep_mri")
    twin, beside = store.load_exhibit("07-deep_mri-twin")
    assert twin["strength"] == pytest.approx(worst["strengths"][-1], rel=1e-3)
    assert (about["data"], about["seed"], about["profile"]) == (
        beside["data"],
        beside["seed"],
        beside["profile"],
    )
    assert twin["gain"] < 2 < worst["gain network"][-1] / 2


# --- every page

STRUCTURE = """() => ({
  lang: document.documentElement.lang, title: document.title,
  h1: [...document.querySelectorAll('h1')].filter(h => h.offsetParent).map(h => h.textContent),
  levels: [...document.querySelector('.bd-article').querySelectorAll('h1, h2, h3, h4, h5')]
      .map(h => +h.tagName[1]),
  unnamed: [...document.querySelectorAll('img:not([alt]), ' +
      ['a[href]', 'button'].map(e => `${e}:not([aria-label]):not([title])`).join())]
      .filter(e => e.offsetParent && (e.tagName === 'IMG'
          || !e.textContent.trim() && !e.querySelector('img[alt], svg title')
          && !e.closest('.jupyter-widgets')))
      .map(e => e.outerHTML.slice(0, 200)),
  copy: [...document.querySelectorAll('button.copybtn')]
      .map(b => b.getAttribute('aria-label') || b.dataset.tooltip || b.title || ''),
  landmarks: ['main', 'nav', '[role=search], form.bd-search']
      .filter(s => !document.querySelector(s)),
  skip: document.querySelector('a[href="#main-content"]')?.getAttribute('href') })"""


@pytest.fixture(scope="module")
def structure(chromium):
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    found = {}

    def of(name):
        if name not in found:
            page.goto(f"{site()}/{name}.html", wait_until="load")
            found[name] = page.evaluate(STRUCTURE)
        return found[name]

    yield of
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_screen_reader_finds_its_way(structure, name):
    facts = structure(name)
    assert facts["lang"] == "en" and facts["title"].strip()
    assert len(facts["h1"]) == 1, facts["h1"]
    jumps = [(a, b) for a, b in zip(facts["levels"], facts["levels"][1:]) if b > a + 1]
    assert facts["levels"][0] == 1 and not jumps
    assert not facts["unnamed"]
    assert all(facts["copy"]) and not facts["landmarks"]
    assert facts["skip"] == "#main-content"


@pytest.mark.browser
def test_a_skipped_heading_and_an_unnamed_picture_are_seen(chromium):
    page = chromium.new_page()
    page.set_content(
        "<div class=bd-article><h1>a</h1><h3>b</h3>"
        "<img src='data:,' width=9 height=9><button></button></div>"
    )
    facts = page.evaluate(STRUCTURE)
    assert facts["levels"] == [1, 3] and len(facts["unnamed"]) == 2 and len(facts["landmarks"]) == 3
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", [FIRST, CONTROLS])
def test_tab_reaches_everything_and_is_seen(chromium, name):
    page = open_page(chromium, site(), name, Visit(), viewport={"width": 1300, "height": 900})
    seen = []
    for _ in range(150):
        page.keyboard.press("Tab")
        at = page.evaluate("""() => {
            const e = document.activeElement;
            if (!e || e === document.body) return null;
            const style = getComputedStyle(e), near = e.closest('label, .noUi-origin') || e;
            const mark = getComputedStyle(near);
            return {tag: e.tagName, kind: e.type || '', href: e.getAttribute('href') || '',
                    where: e.className.toString(),
                    article: !!e.closest('.bd-article'),
                    seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0
                          || style.boxShadow !== 'none' || mark.boxShadow !== 'none'
                          || style.textDecorationLine !== 'none'}; }""")
        if at is None:
            break
        seen.append(at)
    assert seen[0]["href"] == "#main-content", "the first stop skips to the content"
    places = [index for index, at in enumerate(seen) if at["article"]]
    search = [index for index, at in enumerate(seen) if "search" in at["where"]]
    assert search and places and search[0] < places[0]
    sliders = [at for at in seen if at["kind"] == "range" or "noUi-handle" in at["where"]]
    assert sliders and not [at for at in seen if at["article"] and not at["seen"]]
    page.context.close()


@pytest.mark.browser
def test_search_needs_no_network(chromium):
    visit = Visit()
    page = open_page(chromium, site(), FIRST, visit, viewport={"width": 1300, "height": 900})
    page.keyboard.press("Control+k")
    page.keyboard.type("shearlet")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_load_state("networkidle")
    titles = page.locator("#search-results li > a").all_inner_texts()
    assert any("Reading notes" in title for title in titles)
    assert not visit.outside and not visit.errors
    page.context.close()


# --- the archive


def test_the_archive_is_the_same_every_time_and_begins_with_the_index(tmp_path):
    pages = tmp_path / "html"
    (pages / "b").mkdir(parents=True)
    link = '<link rel="preload" as="font" type="font/woff2" crossorigin href="x.woff2" />'
    for name, text in {"index.html": f"{link}one", "a.html": "two", "b/c.js": link}.items():
        (pages / name).write_text(text)
    one = book.archive(pages, tmp_path / "one.zip").read_bytes()
    (pages / "a.html").touch()
    assert book.archive(pages, tmp_path / "two.zip").read_bytes() == one
    with zipfile.ZipFile(tmp_path / "one.zip") as file:
        assert file.namelist() == [
            "instab-book/index.html",
            "instab-book/a.html",
            "instab-book/b/c.js",
        ]
        assert (
            file.read("instab-book/index.html") == b"one"
            and file.read("instab-book/b/c.js").decode() == link
        )
    assert not list(tmp_path.glob("*partial*"))
    (pages / "index.html").unlink()
    with pytest.raises(book.BookError, match="no pages to pack"):
        book.archive(pages, tmp_path / "none.zip")


@pytest.mark.browser
def test_the_archive_opens_and_searches_by_a_double_click(chromium, tmp_path):
    site()
    with zipfile.ZipFile(book.archive(built()[0].parent, tmp_path / "book.zip")) as file:
        file.extractall(tmp_path)
    assert (tmp_path / "book.zip").stat().st_size < 60e6
    errors, outside = [], []
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            outside.append(request.url)
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    page.goto((tmp_path / "instab-book" / "index.html").as_uri())
    page.wait_for_selector("figure.landing")
    page.keyboard.press("Control+k")
    page.keyboard.type("shearlet")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.locator("#search-results li > a", has_text="Reading notes").first.click()
    page.wait_for_selector(".bd-article h1:has-text('Reading notes')")
    assert not errors and not outside
    context.close()


def test_the_archive_of_no_book_is_a_clear_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "instab_utils.book.archive.__defaults__", (tmp_path / "none", tmp_path / "x.zip")
    )
    assert main(["archive"]) == 1 and "no pages to pack" in capsys.readouterr().err


# --- citing and the package's page


@pytest.fixture(scope="module")
def api():
    sys.path.insert(0, str(book.ROOT / "book" / "_ext"))
    try:
        import package_api
    finally:
        sys.path.pop(0)
    return package_api


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_on_the_package_page(api, room):
    place = book.ROOT / "instab_utils" / room
    stated = [
        ast.literal_eval(node.value)
        for node in ast.parse((place / "__init__.py").read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    purpose, entries = api.room_entries(place, lambda path: None)
    shown = re.findall(r' id="instab_utils\.([^"]+)"', entries)
    assert purpose and shown and len(set(shown)) == len(shown)
    assert not [name for name in (stated or [[]])[0] if f"{room}.{name}" not in shown]
    assert place in api.rooms(book.ROOT / "instab_utils")


def test_every_licence_of_the_registry_is_on_the_page_of_citations():
    text = html.unescape(html_of("book/citing"))
    table = text[text.index("data-licences") :]
    assert not {file.licence for file in data.files() if file.licence not in table}
    assert "10.1073/pnas.1907377117" in text and "10.1007/s11548-021-02482-2" in text


def test_the_citation_file_names_the_papers_of_the_page():
    import yaml

    cff = yaml.safe_load((book.ROOT / "CITATION.cff").read_text("utf-8"))
    bib = (
        (book.ROOT / "book" / "references.bib").read_text("utf-8").replace("{", "").replace("}", "")
    )
    assert cff["cff-version"] == "1.2.0" and len(cff["references"]) >= 3
    for reference in cff["references"]:
        assert reference["title"] in re.sub(r"\s+", " ", bib), reference["title"]


@pytest.mark.parametrize(
    "command",
    sorted({c.partition("#")[0].strip() for c in COMMANDS if "python -m instab_utils" in c}),
)
def test_every_command_of_how_to_run_exists(command):
    """The module runs as a program, and knows the words after it (files, numbers and names of
    networks left out).
    """
    module, *words = command.partition("python -m ")[2].split()
    if module == "instab_utils":
        assert (book.ROOT / module / "__main__.py").is_file()
        module, words = f"{module}.{words[0]}", words[1:]
    place = book.ROOT.joinpath(*module.split("."))
    source = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    assert source.is_file(), f"{module} is no program"
    known = "".join(path.read_text("utf-8") for path in {source, *source.parent.glob("*.py")})
    assert not [word for word in words[:1] if word.isalpha() and word not in known]
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in known]


def test_every_make_target_that_how_to_run_names_exists():
    named = set(
        re.findall(r"`?make ([a-z]+)", (book.ROOT / "book" / "how-to-run.md").read_text("utf-8"))
    )
    rules = set(
        re.findall(r"^([a-z]+):", (Path(book.ROOT) / "Makefile").read_text("utf-8"), re.MULTILINE)
    )
    assert {"book", "test", "archive"} <= named <= rules

"""The built pages in a real browser: nothing is fetched from elsewhere, everything is drawn, every
control works.
"""

import contextlib
import functools
import http.server
import threading
from dataclasses import dataclass, field

import pytest
from book_site import CONTROLS, ROOT, built, pages, site

pytestmark = pytest.mark.browser
PAGES = [pytest.param(name, id=name.split("/")[-1]) for name in pages()]
HEAVIEST_PAGE = 12e6  # bytes over the wire, uncompressed; nearly all of it shared between pages
# Rules that ipywidgets' own markup breaks (a Play button without a name, sliders labelled only by a
# neighbour).
WIDGET_RULES = {"aria-input-field-name", "button-name", "image-alt", "label", "select-name"}
# Sphinx marks up a bibliography by older rules.
THEME_RULES = {"aria-deprecated-role": "doc-biblioentry", "aria-required-children": "citation-list"}

UNDRAWN = """() => [
  ...[...document.querySelectorAll('.bd-content img')]
      .filter(i => !i.complete || (i.offsetParent && !i.naturalWidth))
      .map(i => 'image ' + i.src.slice(0, 80)),
  ...[...document.querySelectorAll('.plotly-graph-div')]
      .filter(d => !d.querySelector('svg.main-svg')).map(d => 'plot ' + d.id),
  ...[...document.querySelectorAll('.math')]
      .filter(m => !m.querySelector('mjx-container')).map(m => 'math ' + m.textContent),
  ...[...document.querySelectorAll('mjx-merror')].map(m => 'math error ' + m.textContent),
  ...[...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
      .filter(s => !s.parentElement.querySelector('.jupyter-widgets'))
      .map(s => 'widget ' + s.textContent)]"""

FILTERED = """() => [...document.querySelectorAll('.bd-content :is(img, canvas, svg)')]
  .flatMap(e => {
  const found = [];  // a filter on anything around an image changes the image too
  for (let node = e; node && node !== document.body; node = node.parentElement) {
    const style = getComputedStyle(node);
    if (style.filter !== 'none' || style.mixBlendMode !== 'normal')
      found.push(node.tagName + ' ' + style.filter);
  }
  return found; })"""

SCROLLING = """() => [...document.querySelectorAll('.cell_input pre')]
  .filter(pre => !pre.closest('details:not([open])') && pre.scrollWidth > pre.clientWidth)
  .map(pre => pre.textContent.split('\\n').reduce((a, b) => a.length > b.length ? a : b))"""

TOO_WIDE = """() => {
  if (document.scrollingElement.scrollWidth <= window.innerWidth) return [];
  const inBox = e => e && (getComputedStyle(e).overflowX !== 'visible' || inBox(e.parentElement));
  return [...document.querySelectorAll('body *')]
      .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
      .filter(e => !inBox(e.parentElement))
      .slice(0, 5).map(e => `${e.tagName}.${e.className} ${e.textContent.slice(0, 60)}`); }"""


# A curve's paths are nothing that axe can judge, and most of a page's elements.
AXE = """rules => axe.run({exclude: [['.plotly-graph-div svg > *']]},
  {runOnly: rules, resultTypes: ['violations']})"""
AXE_RULES = {  # in the dark only colours differ
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "dark": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}


@dataclass
class Visit:
    """What one page did when it was opened at 1300 and at 390 pixels, in light and in dark."""

    status: int = 0
    outside: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    undrawn: list = field(default_factory=list)
    filtered: list = field(default_factory=list)
    too_wide: list = field(default_factory=list)
    scrolling: list = field(default_factory=list)
    violations: dict = field(default_factory=dict)
    n_bytes: int = 0


def open_page(chromium, base: str, name: str, visit: Visit, patience_s=10, **options):
    """A new tab showing one page; requests to anywhere else are stopped and noted."""
    context = chromium.new_context(**options)
    context.set_default_timeout(180_000)  # a busy machine takes its time, and no test is about that
    page = context.new_page()

    def guard(route):
        if route.request.url.startswith((f"{base}/", "data:", "blob:")):
            route.continue_()
        else:
            visit.outside.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    page.on(
        "console",
        lambda message: visit.errors.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("response", lambda r: visit.missing.append(r.url) if r.status >= 400 else None)
    page.on("requestfinished", lambda r: _weigh(r, visit))
    visit.status = page.goto(f"{base}/{name}.html", wait_until="load").status
    page.wait_for_load_state("networkidle")
    with contextlib.suppress(Exception):  # what is left undrawn is a test's to say
        page.wait_for_function(f"({UNDRAWN})().length === 0", timeout=1000 * patience_s)
    return page


def _weigh(request, visit):
    if not request.url.startswith(("data:", "blob:")):
        visit.n_bytes += request.sizes()["responseBodySize"]


@pytest.fixture(scope="session")
def visited(chromium):
    base = site()
    axe = ROOT / "build/npm/node_modules/axe-core/axe.min.js"

    @functools.cache
    def visit(name: str) -> Visit:
        facts = Visit()
        desk = {"viewport": {"width": 1300, "height": 900}, "color_scheme": "light"}
        page = open_page(chromium, base, name, facts, **desk)
        weight = facts.n_bytes
        facts.undrawn = page.evaluate(UNDRAWN)
        facts.scrolling = page.evaluate(SCROLLING)
        page.add_script_tag(path=axe)
        for theme, rules in AXE_RULES.items():
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            page.wait_for_timeout(300)  # the theme's colour transitions
            for rule in page.evaluate(AXE, rules)["violations"]:
                facts.violations.setdefault(
                    f"{rule['id']} ({theme})", [node["html"][:200] for node in rule["nodes"]]
                )
        facts.filtered = page.evaluate(FILTERED)  # in dark mode
        page.context.close()
        page = open_page(chromium, base, name, facts, viewport={"width": 390, "height": 844})
        facts.too_wide = page.evaluate(TOO_WIDE)
        facts.undrawn += page.evaluate(UNDRAWN)
        page.context.close()
        facts.n_bytes = weight
        return facts

    return visit


def test_the_book_builds_without_a_warning():
    page, problem = built()
    assert not problem, problem
    assert page.is_file()


@pytest.mark.parametrize("name", PAGES)
def test_every_page_exists(visited, name):
    visit = visited(name)
    assert visit.status == 200
    assert not visit.missing


@pytest.mark.parametrize("name", PAGES)
def test_no_request_leaves_the_machine(visited, name):
    assert not visited(name).outside


@pytest.mark.parametrize("name", PAGES)
def test_no_error_in_the_console(visited, name):
    assert not visited(name).errors


@pytest.mark.parametrize("name", PAGES)
def test_everything_is_drawn(visited, name):
    assert not visited(name).undrawn


@pytest.mark.parametrize("name", PAGES)
def test_dark_mode_leaves_intensities_alone(visited, name):
    assert not visited(name).filtered


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_telephone(visited, name):
    assert not visited(name).too_wide


@pytest.mark.parametrize("name", PAGES)
def test_no_cell_scrolls_sideways_at_1300_pixels(visited, name):
    assert not visited(name).scrolling


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_not_too_heavy(visited, name):
    assert 0 < visited(name).n_bytes < HEAVIEST_PAGE


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_new(visited, name):
    def known(rule, node):
        return (
            rule in WIDGET_RULES
            and ("widget" in node or "noUi" in node)
            or THEME_RULES.get(rule, "no such") in node
        )

    found = {
        rule: new
        for rule, nodes in visited(name).violations.items()
        if (new := [node for node in nodes if not known(rule.split()[0], node)])
    }
    assert not found


def test_the_page_of_controls_has_one_of_each(chromium):
    """So that the tests above and below do not pass on an empty page."""
    page = open_page(chromium, site(), CONTROLS, Visit())
    for kind, least in {
        ".plotly-graph-div svg.main-svg": 2,
        ".instab img": 4,
        "mjx-container": 2,
        ".noUi-handle": 1,
        ".slider-container": 1,
        "input[type=range]": 1,
        ".cell_output > img, .cell_output .output img": 1,
    }.items():
        assert page.locator(kind).count() >= least, kind
    page.context.close()


def test_a_widget_slider_shows_another_frame(chromium):
    page = open_page(chromium, site(), CONTROLS, Visit())
    box = page.locator(".jupyter-widgets.widget-vbox", has=page.locator(".noUi-handle")).first
    picture = box.locator("img:visible").first
    before = picture.screenshot()
    box.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)
    assert box.locator("img:visible").first.screenshot() != before
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    assert box.locator("img:visible").first.screenshot() == before
    page.context.close()


def test_a_plotly_slider_moves_the_curve(chromium):
    page = open_page(chromium, site(), CONTROLS, Visit(), viewport={"width": 1300, "height": 900})
    plot = page.locator(".plotly-graph-div", has=page.locator(".slider-container"))
    plot.scroll_into_view_if_needed()
    before = plot.locator(".scatterlayer").screenshot()
    rail = plot.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + rail["width"] - 5, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(800)
    page.mouse.move(0, 0)
    assert plot.locator(".scatterlayer").screenshot() != before
    page.context.close()


def test_the_wipe_uncovers_the_second_image(chromium):
    page = open_page(chromium, site(), CONTROLS, Visit())
    picture = page.locator(".instab-split").first
    before = picture.screenshot()
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("End")
    page.wait_for_timeout(300)
    assert picture.screenshot() != before
    page.context.close()


def test_the_guard_sees_what_it_should(chromium, tmp_path):
    """A page that breaks every rule: else the tests above could pass because nothing is ever
    recorded.
    """
    (tmp_path / "bad.html").write_text(
        '<html data-theme=dark><div class=bd-content><img src="none.png">'
        '<img style="filter:brightness(.8)" src="x.svg"><div style="width:900px">wide</div>'
        '<div class=cell_input><pre style="width:40px;overflow:auto">x = long_name</pre></div>'
        '<div class="math">\\(x\\)</div><div class="plotly-graph-div"></div></div>'
        '<script src="http://elsewhere.invalid/x.js"></script>'
        '<script>console.error("no"); undefined_name()</script>'
    )
    (tmp_path / "x.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    )
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    visit = Visit()
    page = open_page(
        chromium,
        f"http://127.0.0.1:{server.server_port}",
        "bad",
        visit,
        1,
        viewport={"width": 390, "height": 844},
    )
    assert visit.outside == ["http://elsewhere.invalid/x.js"]
    assert any("undefined_name" in error for error in visit.errors) and any(
        error == "no" for error in visit.errors
    )
    assert [url.rsplit("/", 1)[1] for url in visit.missing][:1] == ["none.png"]
    assert [line.split()[0] for line in page.evaluate(UNDRAWN)] == ["image", "plot", "math"]
    assert page.evaluate(FILTERED) and page.evaluate(TOO_WIDE)
    assert page.evaluate(SCROLLING) == ["x = long_name"]
    page.context.close()
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_links_lead_to_the_source_not_to_the_executed_copy(chromium):
    page = open_page(chromium, site(), CONTROLS, Visit())
    colab = page.locator("a[href*='colab']").first.get_attribute("href")
    assert colab.endswith(f"/blob/main/{CONTROLS}.ipynb")
    assert page.locator("p.provenance").inner_text().startswith("Ran with: profile smoke")
    page.context.close()
    source = site_file(f"_sources/{CONTROLS}.ipynb")
    assert source["cells"] and not any(cell.get("outputs") for cell in source["cells"])


def site_file(path: str) -> dict:
    import json
    import urllib.request

    with urllib.request.urlopen(f"{site()}/{path}") as response:
        return json.load(response)


def test_plotly_js_is_the_version_that_drew_the_figures():
    import json

    from plotly.offline import get_plotlyjs_version

    wanted = json.loads((ROOT / "book/package.json").read_text())["dependencies"][
        "plotly.js-cartesian-dist-min"
    ]
    assert wanted == get_plotlyjs_version()

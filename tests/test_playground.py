"""The page "In your browser": its arithmetic is torch's, its controls work, it needs no network and
says so when it cannot compute.
"""

import functools
import http.server
import json
import re
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "book" / "_static"
ANSWERS = ROOT / "build" / "playground" / "answers.json"

# Reads float32 pairs, and compares them with an image of the page: ||ours - torch's|| /
# ||torch's||.
HELPERS = """
const P = Playground;
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => new Float32Array(bytes(text).buffer);
const image = text => { const v = floats(text), x = P.blank();
  for (let i = 0; i < P.size; i++) { x.re[i] = v[2 * i]; x.im[i] = v[2 * i + 1]; } return x; };
const scan = k => { const v = P.halves(P.scans.images[k].data), x = P.blank();
  for (let i = 0; i < P.size; i++) { x.re[i] = v[2 * i]; x.im[i] = v[2 * i + 1]; } return x; };
const apart = (x, y) => P.norm(P.add(x, y, -1)) / P.norm(y);
const lines = Uint8Array.from(P.scans.lines);
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def answers() -> dict:
    """Torch's answers, exported with the assets."""
    from instab_utils.book import pages

    pages.assets(ROOT)
    return json.loads(ANSWERS.read_text())


@pytest.fixture(scope="module")
def folder(answers, tmp_path_factory) -> Path:
    """The page's own markup in an empty page, beside the book's static files."""
    place = tmp_path_factory.mktemp("playground")
    (place / "_static").symlink_to(STATIC, target_is_directory=True)
    (place / "book").mkdir()
    markup = re.search(
        r"```\{raw\} html\n(.*?)```", (ROOT / "book/playground.md").read_text("utf-8"), re.S
    ).group(1)
    (place / "book/playground.html").write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>In your browser</title></head>'
        f'<body><main class="bd-content"><h1>In your browser</h1>{markup}</main></body></html>'
    )
    return place


@pytest.fixture(scope="module")
def base(folder):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def opened(
    chromium,
    address: str,
    before: str = "",
    wait: str = "ready",
    weigh: list | None = None,
    **options,
):
    """(page, addresses that were asked for elsewhere, errors): the page once it has computed its
    first answer.
    """
    context = chromium.new_context(**options)
    context.set_default_timeout(60_000)
    page, outside, errors = context.new_page(), [], []
    root = address.rsplit("/book/", 1)[0]

    def guard(route):
        if route.request.url.startswith((root, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and "favicon" not in message.location.get("url", "")
            else None
        ),
    )
    if weigh is not None:
        page.on(
            "requestfinished",
            lambda request: (
                request.url.startswith(root) and weigh.append(request.sizes()["responseBodySize"])
            ),
        )
    if before:
        page.add_init_script(before)
    page.goto(address)
    page.wait_for_function(f"document.getElementById('pg-root').dataset.{wait}")
    return page, outside, errors


@pytest.fixture(scope="module")
def page(chromium, base):
    """One page for the tests that leave it as they found it; it must have asked nobody and have no
    error at the end.
    """
    shown, outside, errors = opened(
        chromium, f"{base}/book/playground.html", viewport={"width": 1300, "height": 900}
    )
    yield shown
    shown.context.close()
    assert not outside and not errors, (outside, errors)


def compute(page, body: str, *values):
    return page.evaluate(f"async values => {{ {HELPERS} {body} }}", list(values))


def settled(page, action):
    """Do something on the page and wait until its answer is there."""
    before = page.evaluate("document.getElementById('pg-root').dataset.ready")
    action()
    page.wait_for_function(
        "before => document.getElementById('pg-root').dataset.ready !== before", arg=before
    )


def db(page, name: str) -> float:
    return float(page.locator(f"#pg-{name}-note").inner_text().removesuffix(" dB"))


@pytest.mark.parametrize("network", ["deep-mri", "zero-filled-unet"])
def test_both_networks_and_their_gradients_are_those_of_torch(page, answers, network):
    gradients = []
    for k, entry in enumerate(answers["images"]):
        wanted = entry["networks"][network]
        found = compute(
            page,
            """
            const [k, network, wanted, r] = values;
            const Q = P.projector(lines), net = P.networks[network];
            const x = scan(k), y = P.measure(x, lines, 0, 0);
            const {x: rec, spread} = P.reconstruct(net, y, Q);
            const {direction} = P.climb(net, P.measure(P.add(x, image(r)), lines, 0, 0), rec, Q);
            const truth = wanted.spread ? floats(wanted.spread) : [0];
            const far = spread ? spread.map((v, i) => Math.abs(v - truth[i])) : [0];
            const off = spread ? Math.max(...far) / Math.max(...truth) : 0;
            Q.dispose();
            return {image: apart(rec, image(wanted.x_rec)), psnr: P.psnr(rec, x), spread: off,
                    gradient: apart(direction, image(wanted.gradient))};
            """,
            k,
            network,
            wanted,
            entry["r"],
        )
        assert found["image"] < 1e-4 and found["spread"] < 1e-4, found
        gradients.append(found["gradient"])
        assert found["psnr"] == pytest.approx(wanted["psnr_db"], abs=1e-2)
    # of float64. A ReLU that rounding turns moves a patch of the gradient by a jump: on a phantom
    # torch's float32 is 1.5e-3 away too
    assert sorted(gradients)[1] < 1e-3 and max(gradients) < 3e-3, gradients


def test_total_variation_is_that_of_the_package(page, answers):
    for k, entry in enumerate(answers["images"]):
        found = compute(
            page,
            """
            const [k, tv] = values, y = P.measure(scan(k), lines, 0, 0);
            const x = await P.totalVariation(y, lines, P.scans.tv.weight, P.scans.tv.n_iter);
            return {off: apart(x, image(tv)), psnr: P.psnr(x, scan(k))};""",
            k,
            entry["tv"],
        )
        assert found["off"] < 1e-5, found  # Python computes in float32, the page in float64
        assert found["psnr"] == pytest.approx(entry["tv_psnr_db"], abs=1e-3)


@pytest.mark.parametrize("network", ["deep-mri", "zero-filled-unet"])
def test_a_whole_attack_ends_where_that_of_the_package_ends(page, answers, network):
    wanted = answers["images"][0]["networks"][network]["attack"]
    found = compute(
        page,
        """
        const [network, r] = values, Q = P.projector(lines), x = scan(0);
        const y = P.measure(x, lines, 0, 0), net = P.networks[network];
        const attack = new P.Attack({net, P: Q, lines, x, y, strength: 0.005,
                                     start: image(r), powers: 0});
        while (!attack.done) attack.advance();
        const {hit, amplification} = attack.answers();
        Q.dispose();
        return {steps: attack.steps, amplification, psnr: P.psnr(hit.x, x),
                strength: attack.strength};""",
        network,
        answers["images"][0]["r"],
    )
    assert found["steps"] == wanted["steps"] and found["strength"] == pytest.approx(0.005)
    assert found["amplification"] == pytest.approx(wanted["amplification"], rel=0.01)
    assert found["psnr"] == pytest.approx(wanted["psnr_db"], abs=0.1)


def test_the_scanner_is_a_projection_onto_the_lines(page):
    """P P = P, <P a, b> = <a, P b>, and a plane wave passes exactly if its line is measured."""
    found = compute(
        page,
        """
        const a = P.gaussian(1), b = P.gaussian(2), p = P.project(a, lines), passed = [];
        for (let k = 0; k < P.n; k += 9) {
          const wave = P.blank();
          for (let i = 0; i < P.size; i++) { const t = 2 * Math.PI * k * Math.floor(i / P.n) / P.n;
            wave.re[i] = Math.cos(t); wave.im[i] = Math.sin(t); }
          passed.push(Math.abs(P.norm(P.project(wave, lines)) / P.norm(wave) - lines[k]));
        }
        const self = Math.abs(P.dot(p, b) - P.dot(a, P.project(b, lines)));
        return {twice: apart(P.project(p, lines), p), self, passed};""",
    )
    assert found["twice"] < 1e-12 and found["self"] < 1e-8 and max(found["passed"]) < 1e-12


def test_lines_are_drawn_as_in_the_package(page):
    counts, centre, again = compute(
        page,
        """
        const all = [16, 42, 96].map(count => P.drawLines(count, 7));
        const sum = v => v.reduce((a, b) => a + b);
        return [all.map(sum), all.every(v => [124, 125, 126, 127, 0, 1, 2, 3].every(k => v[k])),
                P.drawLines(42, 7).join() === all[1].join() &&
                P.drawLines(42, 8).join() !== all[1].join()];""",
    )
    assert counts == [16, 42, 96] and centre and again


def test_drawing_changes_the_pictures_by_pointer_and_by_keyboard(page):
    canvas = page.locator("#pg-truth")
    first = {
        name: page.locator(f"#pg-{name}").screenshot()
        for name in ("truth", "zero", "answer", "stable")
    }
    settled(page, lambda: canvas.click(position={"x": 60, "y": 60}))
    for name, picture in first.items():
        assert page.locator(f"#pg-{name}").screenshot() != picture, name
    settled(page, lambda: page.locator("#pg-clear").click())
    assert page.locator("#pg-answer").screenshot() == first["answer"]
    canvas.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    settled(page, lambda: page.keyboard.press("Enter"))
    assert page.locator("#pg-answer").screenshot() != first["answer"]
    settled(page, lambda: page.keyboard.press("Backspace"))
    assert page.locator("#pg-answer").screenshot() == first["answer"]


def test_sliders_and_choices_answer_to_the_keyboard(page):
    page.locator("#pg-share").focus()
    before = db(page, "zero")
    settled(page, lambda: page.keyboard.press("End"))
    assert db(page, "zero") > before  # more lines
    settled(page, lambda: page.locator("#pg-share").fill("42"))
    page.locator("#pg-noise").focus()
    settled(page, lambda: page.keyboard.press("End"))
    assert db(page, "zero") < before
    settled(page, lambda: page.keyboard.press("Home"))
    settled(page, lambda: page.locator("#pg-network").select_option("zero-filled-unet"))
    assert "predicts for its own error" in page.locator("#pg-alarm-help").inner_text()
    settled(page, lambda: page.locator("#pg-network").select_option("deep-mri"))
    assert "null" in page.locator("#pg-alarm-name").inner_text().lower()


@pytest.mark.parametrize("network, strength", [("zero-filled-unet", "2"), ("deep-mri", "1")])
def test_the_attack_costs_more_than_chance_and_is_amplified_more_than_by_total_variation(
    page, network, strength
):
    if page.locator("#pg-network").input_value() != network:
        settled(page, lambda: page.locator("#pg-network").select_option(network))
    page.locator("#pg-strength").fill(strength)
    page.locator("#pg-attack").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.getElementById('pg-root').dataset.attack"
        " && document.getElementById('pg-stop').disabled"
    )
    end = json.loads(page.evaluate("document.getElementById('pg-root').dataset.attack"))
    assert end["strength"] == pytest.approx(float(strength))
    assert end["clean"] - end["network"] > 3 * abs(end["clean"] - end["twin"]), end
    assert (
        end["amplification"] > 2 * end["twinAmplification"]
        and end["amplification"] > end["stableAmplification"]
    ), end
    assert "random change of the same size" in page.locator("#pg-attack-state").inner_text()
    assert page.locator("#pg-chart polyline").count() == 3
    page.locator("#pg-reset").click()
    assert page.locator("#pg-attack-state").inner_text() == "Not attacked yet."
    page.evaluate("delete document.getElementById('pg-root').dataset.attack")


def test_from_a_folder_without_a_server(chromium, folder):
    page, outside, errors = opened(chromium, f"file://{folder}/book/playground.html")
    assert "dB" in page.locator("#pg-answer-note").inner_text()
    page.context.close()
    assert not outside and not errors


def test_without_webassembly_a_recording_is_shown_and_called_one(chromium, base):
    page, outside, errors = opened(
        chromium, f"{base}/book/playground.html", "delete window.WebAssembly", "recorded"
    )
    assert (
        "recording" in page.locator("#pg-state").inner_text()
        and not page.locator("#pg-live").is_visible()
    )
    picture = page.locator("#pg-recorded-picture")
    first, note = picture.get_attribute("src"), page.locator("#pg-recorded-note").inner_text()
    page.locator("#pg-recorded-strength").focus()
    page.keyboard.press("End")
    assert (
        picture.get_attribute("src") != first
        and page.locator("#pg-recorded-note").inner_text() != note
    )
    assert picture.evaluate("image => image.naturalWidth") == 512
    page.context.close()
    assert not outside


def test_a_telephone_in_the_dark(chromium, base):
    page, _, errors = opened(
        chromium,
        f"{base}/book/playground.html",
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
    )
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert page.evaluate(
        "[...document.querySelectorAll('canvas')].every(c => getComputedStyle(c).filter === 'none')"
    )
    axe = ROOT / "build/npm/node_modules/axe-core/axe.min.js"
    page.add_script_tag(path=axe)
    found = page.evaluate(
        "() => axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    )["violations"]
    page.context.close()
    assert not found, [(rule["id"], rule["nodes"][0]["html"]) for rule in found]
    assert not errors


def test_what_ships_is_small(answers):
    weights = sum(
        path.stat().st_size
        for name in ("deep-mri-s0", "zero-filled-unet-s0")
        for path in (ROOT / "results/weights").glob(f"{name}-*.safetensors")
    )
    assert 0 < weights < 600_000
    loaded = [
        *(STATIC / "vendor/tfjs").iterdir(),
        *(STATIC / "playground").iterdir(),
        *(STATIC / "vendor/playground" / f"{name}.js" for name in ("wasm", "weights", "scans")),
    ]
    assert sum(path.stat().st_size for path in loaded) < 2.2e6  # the theme brings 2.5 MB


def test_the_built_page_computes_and_weighs_little(chromium):
    """Through the theme, where the book of the tests has been built already; this test does not
    build it.
    """
    html = ROOT / "build/test/project/_build/html"
    if not (html / "book/playground.html").exists():
        pytest.skip("the book of the tests is not built yet")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(html))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page, outside, errors = opened(
        chromium, f"http://127.0.0.1:{server.server_port}/book/playground.html", weigh=(sizes := [])
    )
    page.context.close()
    server.shutdown()
    server.server_close()
    assert not outside and not errors, (outside, errors)
    assert 1e6 < sum(sizes) <= 5e6

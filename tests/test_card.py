"""The stability card: what is refused and where, what the page shows and asks for, on paper and
beside another card.
"""

import base64
import html.parser
import json
import re
import sys
from pathlib import Path

import card_example
import numpy as np
import pytest

from instab_utils import report
from instab_utils.report import card, card_comparison, card_page, card_plots
from instab_utils.report.templating import TEMPLATES
from instab_utils.store.files import DamagedFile

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("jsonschema")


def put(found, path, value):
    """Set the entry at a path like worst_case.rows.0.strength; a value of `del` removes it."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        found = found[part]
    if value is del_:
        del found[last]
    else:
        found[last] = value


del_ = object()
PNG = card_example.png(np.zeros((4, 4)))
WRONG = [  # path of the mutation, its value, what the error must say
    ("name", "", r"card\.name: ''.*(too short|non-empty)"),
    ("subject", del_, r"card: 'subject' is a required property"),
    ("stble", {}, r"card: Additional properties are not allowed \('stble' was unexpected\)"),
    ("schema", "instab-card-2", r"card\.schema: 'instab-card-1' was expected"),
    ("subject.access", "telepathy", r"card\.subject\.access: 'telepathy' is not one of \['gradi"),
    ("subject.sha256", "abc", r"card\.subject\.sha256: 'abc' does not match"),
    ("operator.image_shape", (64, 64), r"card\.operator\.image_shape: \(64, 64\) is not a plain"),
    ("clean.psnr_db.mean", "33", r"card\.clean\.psnr_db\.mean: '33' is not of type 'number'"),
    ("clean.psnr_db.mean", np.float32(33), r"card\.clean\.psnr_db\.mean: .* not a plain JSON"),
    (
        "worst_case.rows.2.lost_db.values.1",
        float("nan"),
        r"card\.worst_case\.rows\[2\]\.lost_db\.values\[1\]: nan is not a finite number",
    ),
    ("settings.own", {"x": [1.0, float("inf")]}, r"card\.settings\.own\.x\[1\]: inf is not a fin"),
    (
        "worst_case.rows.0.amplification.ci",
        [9.0, 8.0],
        r"card\.worst_case\.rows\[0\]\.amplification\.ci: .* is not an interval",
    ),
    ("worst_case.rows.0.amplification.ci", [1.0, 2.0, 3.0], r"amplification\.ci: .* is too long"),
    (
        "worst_case.rows.0.amplification.mean",
        5.0,
        r"rows\[0\]\.amplification\.mean: 5\.0 is not the mean of its values, 8\.95",
    ),
    ("worst_case.rows.0.strength", 0.5, r"card\.worst_case\.rows: strengths do not grow"),
    ("worst_case.rows.0.strength", -0.1, r"rows\[0\]\.strength: -0\.1 is less than the minimum"),
    ("worst_case.rows", [], r"card\.worst_case\.rows: \[\].*(too short|non-empty)"),
    ("structure.rows.0.auroc.ci", [0.9, 0.1], r"rows\[0\]\.auroc\.ci: .* is not an interval"),
    ("clean.psnr_stable_db.values", [30.0], r"card\.clean\.psnr_stable_db.*"),
    ("more_samples.psnr_db", [1.0, 2.0], r"\.psnr_db: 2 values; expected as many as share, 6"),
    (
        "more_samples.verdict",
        "improves",
        r"card\.more_samples\.verdict: 'improves' is not verdicts\.more_samples\.word, 'degrades'",
    ),
    ("bracket.rows.1.certificate", "inf", r"rows\[1\]\.certificate: 'inf' is not of type 'number'"),
    ("verdicts.worst_case.word", "safe", r"verdicts\.worst_case\.word: 'safe' is not one of"),
    ("verdicts.structure.stable_word", "stable", r"structure\.stable_word: 'stable' is not one of"),
    ("structure", None, r"card\.verdicts\.structure\.word: 'blurs' is not 'not tested', but"),
    ("steps.0.status", "skipped", r"card\.steps\[0\]\.status: 'skipped' is not one of \['done'"),
    ("run.n_calls", 1.5, r"card\.run\.n_calls: 1\.5 is not of type 'integer'"),
    ("pictures.0.alt", "", r"card\.pictures\[0\]\.alt: ''.*(too short|non-empty)"),
    ("pictures.0.png", "bm90IGEgcGljdHVyZQ==", r"card\.pictures\[0\]\.png: not a PNG file"),
    ("pictures.0.png", "%%%", r"card\.pictures\[0\]\.png: not a PNG file in base64"),
    ("pictures.0.jpeg", PNG, r"card\.pictures\[0\]: .* is valid under each of"),
    ("data.public", False, r"card\.pictures\[0\]: png is lossless, but the data are not public"),
]


def test_the_schema_is_valid_and_published():
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(card.schema())
    shipped = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '"report/*.json", "report/templates/*"' in shipped


def test_the_example_is_accepted_whole_and_with_parts_missing():
    card.validate(card_example.card())
    for part in ("worst_case", "structure", "more_samples", "bracket", "alarms"):
        card.validate(card_example.without(part))


@pytest.mark.parametrize(
    ("path", "value", "says"), WRONG, ids=[f"{i}-{w[0]}" for i, w in enumerate(WRONG)]
)
def test_the_first_wrong_entry_is_named(path, value, says):
    found = card_example.card()
    put(found, path, value)
    with pytest.raises(ValueError, match=says):
        card.validate(found)


@pytest.mark.parametrize("nothing", [None, [], "card", {}])
def test_what_is_no_card_is_refused(nothing):
    with pytest.raises(ValueError, match="^card: "):
        card.validate(nothing)


@pytest.mark.parametrize("suffix", ["html", "json"])
def test_a_saved_card_comes_back_the_same(tmp_path, suffix):
    hostile = card_example.card()
    hostile["name"] = "</script><script>alert(1)</script> & \u2028 “ü”"
    path = report.card.save(hostile, tmp_path / "new" / f"card.{suffix}")
    assert card.load(path) == hostile
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no partial file stays
    with pytest.raises(ValueError, match="ends in .html or .json; got"):
        card.save(hostile, tmp_path / "card.txt")


def test_a_wrong_card_is_not_written(tmp_path):
    found = card_example.card()
    found["clean"]["psnr_db"]["mean"] = float("nan")
    with pytest.raises(ValueError, match="card.clean.psnr_db.mean"):
        card.save(found, tmp_path / "card.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "expected one embedded card"),
        (lambda text: text.replace("482113", "482114"), "SHA-256"),
        (lambda text: text.replace("</html>", ""), "the page's end"),
        (lambda text: "<html></html>", "got 0 cards"),
    ],
)
def test_a_damaged_page_is_refused(tmp_path, damage, says):
    path = card.save(card_example.card(), tmp_path / "card.html")
    path.write_text(damage(path.read_text("utf-8")), "utf-8")
    with pytest.raises(DamagedFile, match=f"not a whole stability card: .*{says}"):
        card.load(path)


def test_a_damaged_json_is_refused(tmp_path):
    path = card.save(card_example.card(), tmp_path / "card.json")
    text = path.read_text("utf-8")
    for damaged, says in (
        (text[:-40], "is not a whole stability card"),
        (text.replace('"unstable"', '"safe"', 1), "verdicts.worst_case.word"),
    ):
        path.write_text(damaged, "utf-8")
        with pytest.raises(DamagedFile, match=says):
            card.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFile, match="utf-8"):
        card.load(path)


def test_a_machine_without_jsonschema_saves_and_says_that_it_did_not_check(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package jsonschema.*pip install"):
        card.validate(card_example.card())
    with pytest.warns(UserWarning, match="card.html is written without a check"):
        path = card.save(card_example.card(), tmp_path / "card.html")
    with pytest.warns(UserWarning, match="is read without a check"):
        assert card.load(path) == card_example.card()


class Read(html.parser.HTMLParser):
    """Elements, addresses and visible words of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.words, self.cells, self._inside = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [
            value
            for name, value in attributes
            if name in ("src", "href", "srcset", "action", "data", "poster")
        ]
        if tag not in ("meta", "img", "br"):
            self._inside.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.words.append(data)
            if {"td", "th"} & set(self._inside):
                self.cells[-1] += data

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))


def test_the_page_asks_for_nothing_and_runs_nothing():
    text = card.page(card_example.card())
    page = Read(text)
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert [attributes.get("type") for tag, attributes in page.tags if tag == "script"] == [
        "application/json"
    ]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert (
        not re.search(r"url\(|@import", text.split("</style>")[0]) and "default-src 'none'" in text
    )
    link = next(attributes for tag, attributes in page.tags if tag == "a")
    assert json.loads(base64.b64decode(link["href"].partition(",")[2])) == card_example.card()


def test_the_numbers_on_the_page_are_the_cards():
    found = card_example.card()
    page = Read(card.page(found))
    row = found["worst_case"]["rows"][3]
    low, high = row["psnr_perturbed_db"]["ci"]
    assert f"{row['psnr_perturbed_db']['mean']:.1f} [{low:.1f}, {high:.1f}]" in page.cells
    assert f"{row['stable_own_amplification']['mean']:.3g} [1.37, 1.53]" in page.cells
    strength = page.cells.index("2\u00a0%")
    assert (
        page.cells[strength + 1].split()[0] == "26.3" == f"{33.1 - 300 * 0.02 - 2000 * 0.02**2:.1f}"
    )
    more = found["more_samples"]
    first = page.cells.index("100\u00a0%")
    assert page.cells[first + 1 : first + 5] == [
        str(more["n_samples"][2]),
        *(str(more[k][2]) for k in ("psnr_db", "psnr_stable_db", "psnr_front_end_db")),
    ]
    for words in (
        found["summary"],
        "−4.6 dB [−5.0, −4.2]",
        "other scanners: one measurement pattern",
        "returned 12 NaN values. Input: y-4.npz.",
        found["data"]["sha256"],
        found["versions"]["code"],
        "stopped after 2 of 3 alarms",
    ):
        assert words.replace(" %", "\u00a0%").replace("\u00a0", " ") in page.text.replace(
            "\u00a0", " "
        ), words


def test_verdicts_are_words_and_symbols():
    page = Read(card.page(card_example.card()))
    for chip in (
        "✗ unstable",
        "◐ between",
        "◐ blurs",
        "✓ preserves",
        "✗ degrades",
        "✓ improves",
        "✗ silent",
    ):
        assert chip in page.text


def test_what_was_not_tested_is_said_in_its_place():
    parts = ("worst_case", "structure", "more_samples", "bracket", "alarms")
    page = Read(card.page(card_example.without(*parts)))
    # sections; verdicts of the network; of the stable solver
    assert page.text.count("– not tested") == 5 + 4 + 3
    for part in parts:
        assert page.text.count(f"invented reason for {part}") == 2  # in its section and in the list
    assert not [
        tag for tag, attributes in page.tags if tag == "svg" and attributes.get("class") == "plot"
    ]


def test_no_certificate_and_a_contradiction_are_said():
    found = card_example.card()
    for row in found["bracket"]["rows"]:
        row["certificate"] = None
    found["bracket"]["why_not"] = "Its layers are not known."
    text = Read(card.page(found)).text
    assert (
        "No certificate for this network: Its layers are not known. An attack" in text
        and "certificate: never more" not in text
    )
    assert "trust neither" not in text
    found = card_example.card()
    found["bracket"]["rows"][0]["certificate"] = found["bracket"]["rows"][0]["attack"] / 2
    assert "At 0.25 % the attack lies above the certificate" in Read(card.page(found)).text.replace(
        "\u00a0", " "
    )


def test_hostile_words_stay_words():
    bad = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&'

    def spoil(value, key=""):
        if isinstance(value, dict):
            return {name: spoil(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [spoil(item, key) for item in value]
        fixed = {
            "schema",
            "access",
            "output",
            "sha256",
            "word",
            "stable_word",
            "verdict",
            "stable_verdict",
            "status",
            "group",
            "kind",
            "png",
        }
        return bad if isinstance(value, str) and key not in fixed else value

    found = spoil(card_example.card())
    card.validate(found)
    for text in (
        card.page(found),
        card_comparison.comparison_page(found, found | {"name": "b" + bad}),
    ):
        page = Read(text)
        assert [attributes.get("type") for tag, attributes in page.tags if tag == "script"] in (
            [],
            ["application/json"],
        )
        assert all(
            attributes["src"].startswith("data:image/")
            for tag, attributes in page.tags
            if tag == "img"
        )
        assert not [
            name for _, attributes in page.tags for name in attributes if name.startswith("on")
        ]
        assert "<script>alert(1)</script>" in page.text


def test_a_shown_card_is_a_frame_without_scripts():
    shown = card.show(card_example.card())
    ((tag, frame),) = Read(shown._repr_html_()).tags
    assert (
        tag == "iframe"
        and "allow-scripts" not in frame["sandbox"]
        and frame["srcdoc"] == card.page(card_example.card())
    )
    assert "Example network" in frame["title"] and "no alarm rings" in repr(shown)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (13.1, 33.1), (-3.2, 0.4), (2.0, 2.0), (0.0, 0.0), (1e-4, 3e-4)]
)
def test_ticks_are_round_and_enclose(low, high):
    ticks = card_plots._ticks(low, high)
    assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 1 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0]) if len(ticks) > 1 else True


@pytest.mark.parametrize("ys", [[10, 10, 10], [250, 251, 252, 253], [5, 100, 101], [17.0]])
def test_names_of_lines_never_overlap(ys):
    placed = card_plots._apart(ys, 15, 10, 260)
    assert (
        all(b - a >= 15 - 1e-9 for a, b in zip(sorted(placed), sorted(placed)[1:]))
        and min(placed) >= 10
        and max(placed) <= 260
    )
    assert np.array_equal(np.argsort(placed, kind="stable"), np.argsort(ys, kind="stable"))


def drawn(line, **options) -> str:
    layout = card_plots.curves([line], **options)
    plots = TEMPLATES.get_template("plots.j2").module
    return plots.curves(layout, alt='"what"', x_label="x", y_label="y")


def test_drawings_live_with_gaps_zeros_and_one_point():
    line = card_plots.Line("a<b", "network", [0.0, 0.1, 0.2], [1.0, None, 0.0])
    for log in (False, True):
        picture = drawn(line, log_y=log)
        assert "a&lt;b" in picture and "&#34;what&#34;" in picture
        assert "nan" not in picture.replace("text-anchor", "") and "inf" not in picture
    assert "No values" in drawn(line._replace(y=[None] * 3))
    rows = [dict(rel_norm=0.1, attack=0.0, twin=0.0, certificate=None)]
    assert card_plots.brackets(rows) is None


def test_curves_go_where_the_numbers_say():
    """Up is more, on a linear and on a logarithmic axis: equal factors are equal heights."""
    for log, values in ((False, [0.0, 5.0, 10.0]), (True, [1.0, 10.0, 100.0])):
        line = card_plots.Line("a", "network", [0.0, 0.5, 1.0], values)
        path = re.search(r'class="line network"[^>]* d="M([^"]+)"', drawn(line, log_y=log)).group(1)
        x, y = np.array([point.split() for point in path.split("L")], float).T
        assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
        assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.11) and y[0] > y[1]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("data.sha256", card_example.digest("other"), "images"),
        ("operator.name", "other", "operator: masked"),
        ("settings.profile", "paper", "profile: standard against paper"),
        ("settings.budget_s", None, "time budget in seconds: 600 against none"),
        ("subject.access", "black box", "access"),
        ("run.interrupted", True, "was interrupted"),
        ("operator.norm", 1.1, "norm of the operator"),
    ],
)
def test_cards_of_other_conditions_may_not_be_compared(path, value, says):
    a, b = card_example.card(), card_example.card()
    assert card_comparison.differing_conditions(
        a, b
    ) == [] and "may be compared" in card_comparison.comparison_page(a, b)
    b["operator"]["norm"] = 1.0 + 1e-9  # found by iteration
    assert card_comparison.differing_conditions(a, b) == []
    put(b, path, value)
    (reasons,) = card_comparison.differing_conditions(a, b)
    assert says in reasons and "may not be compared" in card_comparison.comparison_page(a, b)


def test_differences_are_paired_where_the_images_are_the_same():
    from scipy import stats

    a, b = card_example.card(), card_example.card()
    values = [33.0, 31.0, 34.5, 32.0, 35.0, 36.5]
    b["clean"]["psnr_db"] = {"mean": float(np.mean(values)), "ci": None, "values": values}
    first, second = a["clean"]["psnr_db"]["values"], values
    paired = card_comparison.difference_rows(a, b)[0]
    oracle = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (paired["low"], paired["high"]) == pytest.approx(oracle) and paired[
        "difference"
    ] == pytest.approx(np.mean(values) - 33.1)
    b["data"]["sha256"] = card_example.digest("other")
    apart = card_comparison.difference_rows(a, b)[0]
    oracle = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    assert (apart["low"], apart["high"]) == pytest.approx(oracle)
    few = card_example.without("worst_case", "structure", "alarms")
    assert {row["what"] for row in card_comparison.difference_rows(a, few)} == {
        "PSNR, unchanged (dB)",
        "change with more measurements (dB)",
    }


def opened(chromium, text, **options):
    asked = []
    context = chromium.new_context(bypass_csp=True, **options)
    context.route("**/*", lambda route: (asked.append(route.request.url), route.abort()))
    page = context.new_page()
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.on("console", lambda message: asked.append(message.text))
    page.set_content(text)
    return page, asked


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "scheme"), [("whole", "light"), ("empty", "dark"), ("compared", "dark")]
)
def test_the_page_on_a_telephone(chromium, kind, scheme):
    a, empty = (
        card_example.card(),
        card_example.without("worst_case", "structure", "more_samples", "bracket", "alarms"),
    )
    text = {
        "whole": lambda: card.page(a),
        "empty": lambda: card.page(empty),
        "compared": lambda: card_comparison.comparison_page(a, a),
    }[kind]()
    page, asked = opened(
        chromium, text, viewport={"width": 390, "height": 800}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and asked == []
    cut = """() => [...document.querySelectorAll('svg.plot text')].filter(text => {
        const box = text.getBoundingClientRect();
        const plot = text.ownerSVGElement.getBoundingClientRect();
        return box.right > plot.right + 1 || box.left < plot.left - 1;
    }).map(text => text.textContent)"""
    assert page.evaluate(cut) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 30)"}[scheme]
    axe = ROOT / "build/npm/node_modules/axe-core/axe.min.js"
    if axe.exists():
        page.add_script_tag(path=axe)
        found = page.evaluate("() => axe.run(document)")["violations"]
        assert not found, [(v["id"], v["nodes"][0]["html"][:200]) for v in found]
    page.context.close()


@pytest.mark.browser
def test_on_paper_the_card_is_light_and_short(chromium):
    page, asked = opened(chromium, card.page(card_example.card()), color_scheme="dark")
    paper = page.pdf(prefer_css_page_size=True, print_background=True)
    assert paper.startswith(b"%PDF") and asked == []
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 5
    assert set(re.findall(rb"/MediaBox\s*\[0 0 (\d+)", paper)) <= {b"594", b"595", b"596"}  # A4
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()


@pytest.mark.browser
def test_the_frame_in_a_notebook_is_as_high_as_its_card_and_as_dark_as_the_book(chromium):
    shown = card.show(card_example.card())._repr_html_()
    page, asked = opened(
        chromium,
        f'<!DOCTYPE html><html data-theme="dark"><body>{shown}</body></html>',
        color_scheme="light",
    )
    page.wait_for_function("document.querySelector('iframe').offsetHeight > 2000")
    frame = page.frames[1]
    assert (
        frame.evaluate("document.documentElement.scrollHeight <= innerHeight + 1") and asked == []
    )
    assert frame.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 30)"
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_timeout(100)
    assert frame.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()


def test_the_start_of_the_curves_is_over_the_images_that_were_attacked():
    value = {"mean": 30.0, "ci": [28.0, 32.0], "values": [29.0, 31.0]}
    assert card_page.first_images(value, 2) is value
    assert card_page.first_images(value, 1) == {"mean": 29.0, "ci": None, "values": [29.0]}

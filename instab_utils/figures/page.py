"""What all figures of a page share: the look, the description that every figure carries, numbers as
text, tables.
"""

import html
import re

import numpy as np

# Captions follow the page's light or dark text; the images themselves are never filtered, padded or
# tinted.
STYLE = """<style>
.instab{container-type:inline-size;width:100%;margin:.5rem 0 1rem!important;line-height:1.4;font-size:.9rem;
 color:inherit;text-align:left}
.instab p{margin:.1rem 0 .3rem;line-height:1.35}
.instab .instab-title{font-weight:600;align-self:end}
.instab-note,.instab-scale{font-size:.85em;font-variant-numeric:tabular-nums}
.instab>figcaption{margin:.6rem auto 0;padding:0;max-width:44rem;font:inherit;text-align:left;color:inherit}
.instab-grid{display:grid;grid-template-columns:repeat(var(--columns),minmax(0,var(--side)));gap:0 .75rem;
 justify-content:center}
.instab-panel{display:grid;grid-row:span var(--rows);grid-template-rows:subgrid;align-items:start;
 margin-bottom:.6rem;min-width:0}
.instab-image{position:relative;line-height:0;margin-bottom:.35rem}
.instab img,html[data-theme] .bd-content div.cell_output .instab img{display:block;width:100%;max-width:100%;
 height:auto;margin:0;padding:0;border-radius:0;background:none;filter:none!important}
.instab img.instab-crisp{image-rendering:pixelated}
.instab-box,.instab .instab-inset,html[data-theme] .bd-content div.cell_output .instab .instab-inset{position:absolute;
 box-sizing:border-box;border:2px solid #f5a700}
html[data-theme] .bd-content div.cell_output .instab .instab-inset{width:42%}
.instab-scale{display:flex;flex-wrap:wrap;justify-content:center;gap:.25rem 1.5rem}
.instab-scale span{white-space:nowrap}
.instab-scale i{display:inline-block;width:7rem;height:.7em;margin:0 .45em;vertical-align:-.05em;
 box-shadow:0 0 0 1px #8888}
.instab-card{background:#fff;color:#1b1f24;border:1px solid #8884;border-radius:.4rem;overflow:hidden}
.instab-table{overflow-x:auto}
.instab table{border-collapse:collapse;margin:0 auto;color:inherit;background:none;font-variant-numeric:tabular-nums}
.instab caption{caption-side:top;text-align:left;font-weight:600;color:inherit;padding:.2rem .7rem}
.instab th,.instab td{padding:.25rem .4rem;border:0;border-bottom:1px solid #8885;text-align:right;color:inherit;
 background:none;font-size:inherit}
.instab th{font-weight:600}
.instab td{white-space:nowrap}
.instab td.instab-text{white-space:normal}
.instab td.instab-text:first-child{min-width:6rem}
.instab td span{white-space:nowrap}
.instab .instab-text{text-align:left}
.instab-wipe{width:min(100%,var(--side));margin:0 auto}
.instab-wipe>p{display:flex;justify-content:space-between}
.instab-split{position:relative}
.instab-after{position:absolute;inset:0;clip-path:inset(0 0 0 var(--split))}
.instab-split:after{content:"";position:absolute;inset:0 auto 0 var(--split);width:2px;margin-left:-1px;
 background:#f5a700}
.instab-wipe .instab-image{margin:0}
.instab-wipe input{width:100%;display:block;margin:.5rem 0;accent-color:#0072b2}
.instab-explore .widget-hslider{flex-wrap:wrap;height:auto}
.instab-explore .widget-hslider>.widget-label{flex:1 0 100%;text-align:left}
.instab-explore .slider-container{flex:1 1 10rem;margin-left:.55rem}
.instab-explore .widget-readout{min-width:4.5rem;width:auto;max-width:none;text-align:left;margin-left:.8rem}
.instab-explore .noUi-handle{background:#0072b2;border-color:#fff;box-shadow:0 0 0 1px #0072b2}
.instab-explore .noUi-handle:focus-visible{outline:3px solid #f5a700}
.instab-explore .widget-html-content{width:100%}
.widget-subarea .instab-explore :is(.widget-label,.widget-readout,.widget-html-content){
 color:var(--pst-color-text-base,inherit);font-size:.9rem}
html[data-theme=dark] .bd-content div.cell_output :is(.text_html,.widget-subarea):has(figure.instab){background:none;
 color:inherit;padding:0}
@container (max-width:30rem){
 .instab-grid{grid-template-columns:repeat(var(--narrow),minmax(0,var(--side)))}
 .instab-errors{grid-template-columns:minmax(0,calc(2*var(--side) + .75rem))}
 .instab-errors .instab-panel{grid-row:auto;grid-template-rows:none;grid-template-columns:1fr 1fr;gap:0 .75rem}
 .instab-errors p{grid-column:1/3}
 .instab-errors .instab-image{grid-area:2/1}
 .instab-errors .instab-error{grid-area:2/2}
}
</style>"""


_INTERVAL = re.compile(r"\[[^\[\]]*\]")  # stays on one line


class Html:
    """A figure made of HTML: shows itself as a cell's last line or by `display(...)`; prints as its
    description.
    """

    def __init__(self, body: str, alt: str):
        self.body, self.alt = body, alt

    def _repr_html_(self) -> str:
        return STYLE + self.body

    def __repr__(self) -> str:
        return self.alt


def figure(body: str, alt: str, caption: str = "", style: str = "") -> Html:
    """The body in an HTML figure with its description and, below, its caption."""
    caption = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    style = f' style="{style}"' if style else ""
    label = html.escape(alt)
    return Html(
        f'<figure class="instab" role="group" aria-label="{label}"{style}>{body}{caption}</figure>',
        alt,
    )


def table(rows, *, caption, digits=3) -> Html:
    """A plain HTML table with a caption and column headings; numbers to `digits` significant
    digits, right-aligned.

    Args:
        rows: list of dicts, or a pandas DataFrame; a missing value or None is shown as a dash.
        caption: what the table says; mandatory.
    """
    caption = described("table", caption, "caption")
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    heads = list(dict.fromkeys(key for row in rows for key in row))
    numeric = [
        all(isinstance(row.get(h), (int, float, np.number, type(None))) for row in rows)
        for h in heads
    ]

    def line(tag, cells):
        # and its unit
        texts = [
            _INTERVAL.sub(r"<span>\g<0></span>", html.escape(cell).replace(" %", "\u00a0%"))
            for cell in cells
        ]
        cells = (
            f"<{tag}{'' if right else ' class=instab-text'}>{text}</{tag[:2]}>"
            for right, text in zip(numeric, texts)
        )
        return f"<tr>{''.join(cells)}</tr>"

    head = line('th scope="col"', [str(h) for h in heads])
    body = "".join(line("td", [number(row.get(h), digits) for h in heads]) for row in rows)
    label = html.escape(caption)
    return figure(
        f'<div class="instab-table" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<caption>{label}</caption><thead>{head}</thead><tbody>{body}</tbody></table></div>",
        caption,
    )


def number(value, digits: int) -> str:
    """The value as text: numbers to `digits` significant digits with a true minus sign, None as a
    dash.
    """
    if isinstance(value, (float, np.floating)):
        value = f"{value:.0f}" if 10**digits <= abs(value) < 1e7 else f"{value:.{digits}g}"
        return f"−{value[1:]}" if value.startswith("-") else value
    return "–" if value is None else str(value)


def described(function: str, text, argument: str = "alt") -> str:
    """The text itself; TypeError where there is none: a figure without a description is refused."""
    if not isinstance(text, str) or not text.strip():
        raise TypeError(
            f"{function} needs {argument}: one sentence that says what is to be seen, for readers who "
            f"cannot see it; got {text!r}."
        )
    return text

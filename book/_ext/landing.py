"""The directive {landing-exhibit}: what the book is about, as one control on its first page, drawn
from recorded exhibits.

One handle wipes four pictures at once: the scan, a network's reconstruction, a stable solver's, and
the network's after a random change of the same size. Every pixel and every number comes from
results/exhibits; no program runs behind it.
"""

import html

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from instab_utils import store
from instab_utils.figures import images, page
from instab_utils.store import files

log = logging.getLogger(__name__)
WORST, TWIN = "07-deep_mri", "07-deep_mri-twin"


def panel(name: str, sentence: str, before, after, alts: tuple[str, str]) -> str:
    first, second = (
        images.picture(picture, images.GREY, alt, crisp=False)
        for picture, alt in zip((before, after), alts)
    )
    return (
        f'<div class="landing-panel"><p class="instab-title">{html.escape(name)}</p>'
        f'<div class="instab-split">{first}<div class="instab-after">{second}</div></div>'
        f'<p class="instab-note">{html.escape(sentence)}</p></div>'
    )


def exhibit() -> str:
    """The whole control as HTML."""
    worst, about = store.load_exhibit(WORST)
    twin, _ = store.load_exhibit(TWIN)
    size = f"{100 * worst['strengths'][-1]:g} %"
    network, stable = worst["dB network"], worst["dB TV"]
    scan, changed = worst["pictures"][0], worst["pictures"][-1]
    names = ("before", f"after a change of {size}")
    panels = [
        panel(
            "The scan",
            f"Changed by {size}: look for it.",
            scan,
            changed,
            (
                "A slice through a head.",
                f"The same slice with the change of {size} in it; they look alike.",
            ),
        ),
        panel(
            "A trained network",
            f"From {network[0]:.1f} to {network[-1]:.1f} dB: "
            "bright and dark bands that are not there.",
            worst["network"][0],
            worst["network"][-1],
            (
                "The network's reconstruction of the slice, sharp and close to it.",
                "Its reconstruction after the change, with bright and dark bands that are not in "
                "the slice.",
            ),
        ),
        panel(
            "A stable solver",
            f"The same data, from {stable[0]:.1f} to {stable[-1]:.1f} dB: it hardly notices.",
            worst["TV"][0],
            worst["TV"][-1],
            (
                "The reconstruction by total variation, a little smoother than the slice.",
                "Its reconstruction after the same change, as before.",
            ),
        ),
        panel(
            "Random change",
            "The network, changed by as much at random: "
            f"from {network[0]:.1f} to {twin['dB network']:.1f} dB.",
            worst["network"][0],
            twin["network"],
            (
                "The network's reconstruction of the slice again.",
                f"Its reconstruction after a random change of {size}, as before.",
            ),
        ),
    ]
    move = (
        "const v=this.value;this.closest('figure').style.setProperty('--split',v+'%');"
        "this.setAttribute('aria-valuetext',v+' % of each picture shows before')"
    )
    body = (
        f'<p class="landing-ends"><span>◀ {names[0]}</span><span>{names[1]} ▶</span></p>'
        '<input type="range" value="50" '
        f'aria-label="wipe all four pictures from {names[0]} to {names[1]}" '
        f'aria-valuetext="50 % of each picture shows before" oninput="{move}">'
        f'<div class="landing-panels">{"".join(panels)}</div>'
    )
    caption = (
        "Drag the handle, or use the arrow keys: left of the line before, right of it after. "
        "Deep MRI with its published weights, from a third of the data. "
        f"{', '.join(about['data'])}. "
        f"Recorded on {about['device']}, {about['created'][:10]}, profile {about['profile']}."
    )
    alt = (
        "One control, four pictures: a change that cannot be seen ruins the network's "
        "reconstruction and not the stable solver's."
    )
    figure = page.figure(body, alt, caption, style="--split:50%")
    return page.STYLE + figure.body.replace('class="instab"', 'class="instab landing"', 1)


class LandingExhibit(SphinxDirective):
    has_content = False

    def run(self):
        for name in (WORST, TWIN):
            if path := files.find("exhibits", f"{name}.npz"):
                self.env.note_dependency(str(path))
        try:
            return [nodes.raw("", exhibit(), format="html")]
        except (FileNotFoundError, store.DamagedFile) as reason:
            log.warning("the first page has no picture: %s", reason, location=self.get_location())
            return []


def setup(app):
    app.add_directive("landing-exhibit", LandingExhibit)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

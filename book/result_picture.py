"""Draw book/_static/result.png, the picture in README.md, from the exhibit of chapter 07.

Where INSTAB_RESULTS is not the repository's own results, the picture goes there.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from instab_utils import store
from instab_utils.store.files import results_folder

GAP, HEAD = 12, 44

kept, about = store.load_exhibit("07-deep_mri")
strength = 100 * kept["strengths"][-1]
panels = [
    (kept["pictures"][-1], f"scan, changed by {strength:g} %"),
    (kept["network"][0], f"network, before: {kept['dB network'][0]:.1f} dB"),
    (kept["network"][-1], f"network, after: {kept['dB network'][-1]:.1f} dB"),
    (kept["TV"][-1], f"stable solver, after: {kept['dB TV'][-1]:.1f} dB"),
]
size = panels[0][0].shape[0]
page = Image.new("L", (len(panels) * (size + GAP) - GAP, size + HEAD), 255)
draw = ImageDraw.Draw(page)
for k, (picture, title) in enumerate(panels):
    left = k * (size + GAP)
    page.paste(Image.fromarray(np.asarray(picture)), (left, HEAD))
    draw.text((left, HEAD - 8), title, fill=0, font=ImageFont.load_default(size=14), anchor="ls")
here, folder = Path(__file__).parent, results_folder()
own = folder == here.parent / "results"
path = (here / "_static" if own else folder) / "result.png"
path.parent.mkdir(parents=True, exist_ok=True)
page.save(path, optimize=True)
recorded = f"recorded on {about['device']}, {about['created'][:10]}"
print(f"{path}: {recorded}, profile {about['profile']}")

"""A network saved by torch.export: its file is all there is, no class and no code."""

import tempfile
from pathlib import Path

import torch

from instab_utils import audit, store, training


def main(profile="standard", budget_s=120, folder=None):
    case = training.case("ell-50", profile, n_images=2, tv=False)
    network = store.load_or_train(training.recipe("ell-50", profile)).network
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "ell-50.pt2"
        # what its maker does
        torch.export.save(torch.export.export(network, (case.A.pinv(case.y[:1]),)), path)
        # what its user does
        loaded = audit.load_network(path, device=case.A.device)
    return audit.run(
        audit.post_processor(loaded.network, case.A),
        case.A,
        case.x,
        y=case.y,
        name="an exported Ell-50",
        budget_s=budget_s,
        folder=folder,
        options=audit.AuditOptions(profile=profile, source=case.source, public=True),
    )


if __name__ == "__main__":
    print(main()["summary"])

"""Numbers of Vasconcelos, He, Teh, Table 1."""

VIEWS = (20, 5)
TABLE1 = {"source": "vasconcelos", "where": "Table 1"}
FIELDS = {
    ("dropout", 5): ((26.15, -1.473, 0.111), (24.45, -1.572, 0.083)),
    ("dropout", 20): ((33.74, 0.701, 0.135), (33.08, 1.093, 0.113)),
    ("bbb", 5): ((23.26, -1.190, 0.152), (22.52, 0.138, 0.203)),
    ("bbb", 20): ((28.25, 1.650, 0.121), (28.16, 0.562, 0.119)),
    ("ensemble-2", 5): ((26.31, -1.730, 0.091), (24.49, -1.774, 0.069)),
    ("ensemble-2", 20): ((33.96, 0.005, 0.136), (33.44, -0.372, 0.102)),
    ("ensemble-5", 5): ((26.44, -1.737, 0.085), (24.88, -1.751, 0.067)),
    ("ensemble-5", 20): ((34.31, -0.364, 0.134), (34.02, -0.625, 0.101)),
    ("ensemble-10", 5): ((26.36, -2.226, 0.075), (24.67, -1.969, 0.068)),
    ("ensemble-10", 20): ((34.38, -0.529, 0.131), (33.86, -0.774, 0.096)),
    ("hmc", 5): (None, (24.87, -1.616, 0.090)),
    ("hmc", 20): (None, (29.12, -1.676, 0.009)),
}
"""(method, views) -> PSNR, NLL, ECE on validation and on test phantoms; HMC: one other phantom."""
CLASSICAL = {
    (5, "fbp"): (7.68, 5.15),
    (5, "cgls"): (16.38, 14.62),
    (5, "em"): (21.39, 19.88),
    (5, "sart"): (21.12, 19.75),
    (5, "sirt"): (21.12, 21.12),
    (20, "fbp"): (17.35, 15.71),
    (20, "cgls"): (21.85, 20.82),
    (20, "em"): (30.22, 29.11),
    (20, "sart"): (31.97, 30.45),
    (20, "sirt"): (31.98, 30.44),
}
"""(views, method) -> PSNR on validation and on test phantoms; 21.12 twice is as printed."""


def of_record(method: str, n_views: int, split: str) -> dict | None:
    """Return the `paper` field of a record of fields; None where the paper has no such number."""
    value = FIELDS.get((method, n_views), (None, None))[split == "test"]
    if value is None:
        return None
    psnr, nll, ece = value
    return {**TABLE1, "value": psnr, "nll": nll, "ece": ece}

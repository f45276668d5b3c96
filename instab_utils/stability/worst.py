"""Names of `worst_case`."""

from .comparison import psnr
from .worst_case import attack as attack_as_measured
from .worst_case import effect, random_changes, random_effect
from .worst_case import search as directions

__all__ = ["attack_as_measured", "changes", "directions", "psnr", "twins"]


def twins(case, i, strength, domain, n):
    """Return `random_changes`."""
    return random_changes(case, i, strength, n, domain)


def changes(case, i, strength, e, e_own, domain, size):
    """Return `effect` and `random_effect` under flat names."""
    out = {"rel_norm": strength}
    found = effect(case, i, strength, e, domain)
    random = random_effect(case, i, strength, size.n_twins, domain)
    for method, prefix in (("network", ""), ("tv", "stable_"), ("front_end", "front_end_")):
        m = found[method]
        out[f"{prefix}amplification"] = m["amplification"]
        out[f"psnr_{prefix}clean_db"] = m["psnr_clean_db"]
        out[f"psnr_{prefix}perturbed_db"] = m["psnr_perturbed_db"]
    for method, prefix in (("network", ""), ("tv", "stable_")):
        out[f"{prefix}twin_amplification"] = random[f"{method}_random"]["amplification"]
    return out

"""Records of alarms as they were before their metrics were nested, to test the migration."""

VARIANT = {
    "plain": "",
    "averaged": "_averaged",
    "two_sided": "_two_sided",
    "two_sided_averaged": "_two_sided_averaged",
}


def before(row: dict) -> tuple[str, dict]:
    """Return experiment and metrics of a row as they were."""
    experiment, flat = row["experiment"], {}
    for part, columns in row["metrics"].items():
        if not isinstance(columns, dict):
            flat[part] = columns
            continue
        for metric, value in columns.items():
            base = metric.removesuffix("_ci").removesuffix("_images")
            flat[_name(experiment, part, base) + metric.removeprefix(base)] = value
    if experiment == "alarm":
        attack = row["parameters"]["failure"] in ("worst case", "random twin")
        experiment = "adv_detect" if attack else "art_detect"
    return experiment, flat


def _name(experiment: str, part: str, metric: str) -> str:
    if experiment == "adaptive":
        return metric + ("_naive" if part == "naive" else "")
    if experiment == "alarm":
        if part == "tv":
            return metric.replace("psnr_", "psnr_stable_").replace("ation", "ation_stable")
        if part == "clean":
            return "psnr_clean_db" if metric == "psnr_db" else f"{metric}_clean"
        return metric
    return metric + VARIANT.get(part, "")

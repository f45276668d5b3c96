"""Rules of the three tests, fixed before their results were looked at: a word for a few numbers."""

STRENGTH = 0.02  # ||r|| / ||x|| of the verdict on worst cases
CONTRAST = 0.3  # of the details
RULES = {
    "worst": f"at ‖r‖/‖x‖ = {100 * STRENGTH:g} %: unstable if at least 3 dB are lost and twice "
    "what TV loses, on the same data and in its own worst case; stable if at most 1 dB is lost, "
    "or no more than TV loses in its own worst case; else between",
    "details": f"suits of contrast {CONTRAST:g}: preserves if 80 % of the contrast or more is "
    "shown, erases if 30 % or less; else blurs",
    "samples": "beyond 1.5 times the training's samples: improves or degrades if the mean change "
    "is at least 0.5 dB and two standard errors; else stagnates",
}
CHANGES = {1: "improves", 0: "stagnates", -1: "degrades"}


def worst_word(lost_db: float, lost_tv_db: float, lost_tv_own_db: float) -> str:
    """Return the word by RULES: what the network, TV on the same data and TV's own worst lose."""
    if lost_db >= max(3.0, 2 * lost_tv_db, 2 * lost_tv_own_db):
        return "unstable"
    return "stable" if lost_db <= max(1.0, lost_tv_own_db) else "between"


def own_word(lost_db: float) -> str:
    """Return the word of a method alone, from what it loses in its own worst case."""
    if lost_db <= 1:
        return "stable"
    return "unstable" if lost_db >= 3 else "between"


def detail_word(recovery: float) -> str:
    """Return the word by RULES, from the share of the contrast that is shown."""
    if recovery >= 0.8:
        return "preserves"
    return "erases" if recovery <= 0.3 else "blurs"

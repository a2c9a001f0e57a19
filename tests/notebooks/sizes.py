"""What the notebooks' settings cells hold in the default tests: the same names, few rows and few steps."""

SMALL = {
    "00_tour": "ANSWERS, SETTINGS = 6, wb.Settings(steps=4, batch_size=8, record_every=2)",
    "01_see_importance": "ANSWERS, SETTINGS = 6, wb.Settings(steps=4, batch_size=8, record_every=2)",
    "02_compare_scorers": "ANSWERS, SETTINGS = 6, SETTINGS.replace(steps=2, batch_size=4)",
    "03_unlearn_and_probe": (
        "PROBE_EVERY, PAUSE, ANSWERS = 10, 2, 6\n"
        "SETTINGS = wb.Settings(steps=20, batch_size=8, checkpoint_every=10, record_every=10)"
    ),
    "04_error_analysis": "ANSWERS, SETTINGS = 12, wb.Settings(steps=6, batch_size=8, record_every=3)",
    "05_learned_importance_up_close": "LONG, SHORT, ABLATION = 10, 2, 10",
    "06_is_it_forgotten": (
        "ANSWERS, SETTINGS = 6, wb.Settings(steps=4, batch_size=8, record_every=4)\n"
        "OPTIONS['leak_at_k'] = {'tries': 4, 'k': 2}"
    ),
    "07_requests_and_neighbours": (
        "ANSWERS, REQUESTS = 3, REQUESTS[:2]\nSETTINGS = wb.Settings(steps=2, batch_size=4, record_every=2)\n"
        "DOMAINS = {'most': 2, 'pairs': ['steps=2'], 'level': ''}"
    ),
}

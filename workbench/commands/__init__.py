"""What each command does: read the options, call the package, print for people; returns the `--json` object."""

from workbench.commands.pages import lab, report
from workbench.commands.planting import demo, finetune, list_models
from workbench.commands.probing import probe
from workbench.commands.running import manage_runs, unlearn
from workbench.commands.scores import agree, align, faithfulness, score
from workbench.commands.sweeping import sweep

COMMANDS = {
    "demo": demo,
    "models": list_models,
    "finetune": finetune,
    "score": score,
    "align": align,
    "agree": agree,
    "faithfulness": faithfulness,
    "unlearn": unlearn,
    "probe": probe,
    "runs": manage_runs,
    "sweep": sweep,
    "report": report,
    "lab": lab,
}

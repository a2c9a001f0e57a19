"""What each command does: read the options, call the package, print for people; returns the `--json` object."""

from workbench.commands.probing import probe
from workbench.commands.runs import demo, finetune, lab, list_models, manage_runs, report, unlearn
from workbench.commands.scores import agree, align, faithfulness, score

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
    "report": report,
    "lab": lab,
}

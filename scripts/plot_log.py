"""Draw losses, AP and learning rates of training runs together.

    python scripts/plot_log.py run/
    python scripts/plot_log.py run/ other_run/ --output both.png

A run may still be going on: what it has written so far is drawn. With several runs, each has a
colour of its own. (At its end, training draws its own run: `curves.png` in its folder.)
"""

from pathlib import Path

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.output_file import check_output_file

_OUTPUT = flags.DEFINE_string("output", "curves.png", "PNG to write.")


def main(arguments: list[str]) -> None:
    """Read the logs of the runs that were named, and draw."""
    if not arguments:
        raise ValueError("no runs were named; say, for example: python scripts/plot_log.py run/")
    output = Path(_OUTPUT.value)
    if output.suffix.lower() != ".png":
        raise ValueError(f"--output {output} is no PNG; say a name that ends in .png")
    check_output_file("output", output)

    from anchor_detr_jax.training.curves import has_log, save_curves

    runs = [Path(argument) for argument in arguments]
    for run in runs:
        if not has_log(run):
            raise ValueError(f"{run} has no log of a run: neither train.jsonl nor eval.jsonl")
    save_curves(runs, output)
    print(output)


if __name__ == "__main__":
    run_command(main)

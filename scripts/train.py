r"""Train a detector, or go on with a run that was stopped: the same command does both.

    python scripts/train.py --config configs/anchor_detr_r50_dc5.py --workdir run/ \
        --config.data.root=path/to/coco

Anything in the configuration can be set:
`--config.optimizer.lr=2e-4 --config.schedule.epochs=12 --config.schedule.drop=10`.
Start from a pretrained backbone with `--config.backbone_init=backbone/`, or from a detector with
`--config.init=out/`. docs/training.md has commands for several GPUs, TPUs and hosts.

Exit codes: 0 when the run is finished, 143 or 130 when SIGTERM or SIGINT ended it (it has saved and
can go on), 1 for an error, which is named.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from anchor_detr_jax.command import run_command

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if need be.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "host:port of the first host, for several hosts without a cluster manager."
)
_HOSTS = flags.DEFINE_integer("hosts", 0, "How many processes there are, with --coordinator.")
_HOST = flags.DEFINE_integer("host", -1, "Which of them this is, from 0, with --coordinator.")
_CLUSTER = flags.DEFINE_bool(
    "cluster", False, "Several hosts, found by JAX: on Slurm, GKE, Open MPI and TPU pods."
)
_EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130}
flags.mark_flags_as_required(["config", "workdir"])


def main(arguments: list[str]) -> int:
    """Prepare the run and train."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    import jax

    from anchor_detr_jax.training.config import train_config_from_dict
    from anchor_detr_jax.training.hosts import connect, errors_end_all_hosts

    config = train_config_from_dict(_CONFIG.value.to_dict())
    connect(_COORDINATOR.value, hosts=_HOSTS.value, host=_HOST.value, cluster=_CLUSTER.value)

    from anchor_detr_jax.training.curves import save_curves
    from anchor_detr_jax.training.loop import say, train
    from anchor_detr_jax.training.report import described, ended
    from anchor_detr_jax.training.run import prepare_run

    with errors_end_all_hosts():
        run = prepare_run(config, Path(str(_WORKDIR.value)))
        say(*described(run))
        end = train(run)
    if jax.process_index() == 0:
        save_curves([run.folder], run.folder / "curves.png")
    say(*ended(run, end), f"curves: {run.folder / 'curves.png'}")
    return _EXIT_CODES.get(end.reason, 0)


if __name__ == "__main__":
    run_command(main)

"""Several hosts as one: each runs the same command, and JAX connects them."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import jax

__all__ = ["connect", "errors_end_all_hosts"]

_HEARTBEAT_SECONDS = 30
"""After so long without a sign of life a host counts as lost, and the others end."""

_BETWEEN_HOSTS = re.compile("Gloo|NCCL|coordination service|heartbeat", re.IGNORECASE)
"""Words of those who carry data from host to host."""


def connect(
    coordinator: str = "", *, hosts: int = 0, host: int = -1, cluster: bool = False
) -> None:
    """Join the other hosts of a run; to be called before anything is computed.

    With one host there is nothing to do.

    Args:
        coordinator: host:port of the first host, which all can reach.
        hosts: how many there are.
        host: which of them this is, counted from 0.
        cluster: let JAX find all that out: from Slurm, Open MPI, GKE or a TPU pod.

    Raises:
        ValueError: if only some of it is said, or both ways are.
    """
    said = [bool(coordinator), hosts > 0, host >= 0]
    if cluster and any(said):
        raise ValueError("cluster finds the hosts itself; leave coordinator, hosts and host away")
    if any(said) and not all(said):
        raise ValueError(
            f"coordinator is {coordinator!r}, hosts {hosts} and host {host}: all three are needed, "
            "or none"
        )
    if any(said) and host >= hosts:
        raise ValueError(f"host is {host}, and must be from 0 to {hosts - 1}")
    if cluster:
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    elif all(said) and hosts > 1:
        jax.distributed.initialize(
            coordinator, hosts, host, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS
        )


@contextmanager
def errors_end_all_hosts() -> Iterator[None]:
    """What JAX says of devices and hosts, with the way out.

    On several hosts an error ends its process at once: an orderly end would wait for the others,
    which wait for this one. They end when they notice that it is gone.

    Raises:
        ValueError: if a device's memory is full.
    """
    try:
        yield
    except Exception as error:
        said = _explained(error)
        if jax.process_count() == 1:
            if said is None:
                raise
            raise ValueError(said) from None
        if said is None and not isinstance(error, ValueError | OSError):
            traceback.print_exc()
        print(f"error: {said or error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def _explained(error: Exception) -> str | None:
    """A message for people, where there is more to say than the error does."""
    said = _said_by_jax(error)
    if said is None:
        return None
    first_line = said.partition("\n")[0][:200]
    if "RESOURCE_EXHAUSTED" in said:
        return (
            f"a device's memory is full ({first_line}); set precision=bfloat16, "
            "optimizer.accumulate=2 or more, remat=layers, or a smaller data.batch_size"
        )
    if jax.process_count() == 1:
        return None
    return (
        f"another host of this run is lost, or cannot be reached ({first_line}); start the same "
        "command on all hosts again, and the run goes on after its last checkpoint"
    )


def _said_by_jax(error: BaseException | None) -> str | None:
    """What JAX said, be it the cause of another error: a checkpoint, too, needs all hosts.

    On its way through Orbax it may have become an error of another kind.
    """
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) or _BETWEEN_HOSTS.search(str(error)):
            return str(error)
        error = error.__cause__
    return None

"""The train command in processes of its own, for tests."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from anchor_detr_jax.training.run_log import read_rows

ROOT = Path(__file__).parents[1]


@contextmanager
def train_starter(cache: Path):
    """What starts the command, with its programs in this cache; in the end nothing still runs."""
    started: list[subprocess.Popen[str]] = []

    def start(workdir, *flags, family="anchor_detr", **environment):
        config = f"tests/narrow_run.py:{family}"
        command = ["scripts/train.py", "--config", config, "--workdir", workdir]
        process = subprocess.Popen(
            [sys.executable, *map(str, command), *map(str, flags)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                # How processes begin, end and go on is tested here: sooner, if LLVM does less.
                "XLA_FLAGS": "--xla_backend_optimization_level=0",
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            | environment,
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


def finished(process, code=0, timeout=300):
    """What a command wrote, once it has ended with this code and without a traceback."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == code, output
    assert "Traceback" not in output, output
    return output


def wait_for_row(workdir, step, process, timeout=200):
    """Wait until the log has a row of this step or a later one."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        rows = read_rows(workdir / "train.jsonl") if (workdir / "train.jsonl").exists() else []
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no row of step {step}: {process.communicate()[0]}")

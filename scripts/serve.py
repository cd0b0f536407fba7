"""Serve a detector over HTTP: pictures in, JSON out.

    python scripts/serve.py --checkpoint out/ --port 8000
    curl --data-binary @photo.jpg "http://127.0.0.1:8000/detect?threshold=0.4&top_k=20"

Needs an extra: pip install "anchor_detr_jax[serve]". GET /health says when all programs are
compiled, GET /metrics has numbers for Prometheus, GET / says what is served. SIGTERM and SIGINT
end it: what is under way is answered, and the exit code is 0. docs/serving.md has the rest.
"""

import importlib.util

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import ImageSizeFlags

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector or a run, or a .pth.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: all there are.")
_PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0: any that is free.", 0, 65535)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "What is computed in; bfloat16: accelerators."
)
_SIZE = ImageSizeFlags()
_THRESHOLD = flags.DEFINE_float(
    "threshold", 0.5, "Lowest score, where a request does not say.", 0.0, 1.0
)
_TOP_K = flags.DEFINE_integer("top_k", 100, "Most detections of a picture.", 1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Most pictures at a time; else 1 a device on the CPU, 8 elsewhere.", 1
)
_BATCH_WAIT_MS = flags.DEFINE_float(
    "batch_wait_ms", 5.0, "For how long a picture waits for others.", 0.0
)
_QUEUE_SIZE = flags.DEFINE_integer(
    "queue_size", 64, "Requests under way at once; one more is answered with 503.", 1
)
_MAX_BODY_MB = flags.DEFINE_float("max_body_mb", 20.0, "Largest body of a request.", 0.001)
_MAX_PIXELS = flags.DEFINE_integer("max_pixels", 40_000_000, "Largest picture.", 1)
_READ_TIMEOUT_S = flags.DEFINE_float(
    "read_timeout_s", 30.0, "For a request's head to come, and as much for its body.", 0.001
)
_ANSWER_TIMEOUT_S = flags.DEFINE_float(
    "answer_timeout_s", 60.0, "From there to the answer; else it is 504.", 0.001
)
_KEEP_ALIVE_S = flags.DEFINE_integer(
    "keep_alive_s", 5, "For how long a connection is kept for the next request.", 0
)

_NEEDED = ("prometheus_client", "starlette", "uvicorn")


def main(arguments: list[str]) -> None:
    """Load the detector and serve; a port that is taken is known before."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        needs = f"serving needs {' and '.join(missing)}"
        raise ValueError(f'{needs}: pip install "anchor_detr_jax[serve]"')
    from PIL import Image

    import anchor_detr_jax as ad
    from anchor_detr_jax.serving.limits import Limits
    from anchor_detr_jax.serving.served import ServedDetector
    from anchor_detr_jax.serving.server import bound_socket, serve
    from anchor_detr_jax.serving.service import Service

    limits = Limits(
        queue_size=_QUEUE_SIZE.value,
        max_body_bytes=round(1e6 * _MAX_BODY_MB.value),
        max_pixels=_MAX_PIXELS.value,
        read_timeout_s=_READ_TIMEOUT_S.value,
        answer_timeout_s=_ANSWER_TIMEOUT_S.value,
    )
    Image.MAX_IMAGE_PIXELS = None  # the service has a limit of its own, and says what came
    listener = bound_socket(_HOST.value, _PORT.value)
    dtype = None if _DTYPE.value == "float32" else _DTYPE.value
    served = ServedDetector(
        ad.load(_CHECKPOINT.value, dtype=dtype),
        **_SIZE.value,
        batch_size=_BATCH_SIZE.value,
        top_k=_TOP_K.value,
    )
    service = Service(
        served, limits, threshold=_THRESHOLD.value, batch_wait_s=_BATCH_WAIT_MS.value / 1000
    )
    print(repr(served.detector))
    serve(service, listener, keep_alive_s=_KEEP_ALIVE_S.value)


if __name__ == "__main__":
    run_command(main)

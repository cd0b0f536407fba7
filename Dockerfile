# The service of docs/serving.md: docker build -t detector .
# For NVIDIA's GPUs: docker build --build-arg EXTRAS=serve,cuda -t detector .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=serve
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY anchor_detr_jax anchor_detr_jax
RUN python -m venv --without-pip /environment \
    && pip --python /environment/bin/python install --no-cache-dir ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
COPY --from=build /environment /environment
COPY scripts/serve.py /service/serve.py
# Compiled programs: a volume here makes the next start quick.
RUN mkdir /cache && chown 10001:10001 /cache
ENV PATH=/environment/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/cache
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "/service/serve.py", "--host=0.0.0.0", "--port=8000"]
CMD ["--checkpoint=/model"]

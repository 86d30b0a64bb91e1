# The image that runs on every node. One file for all flavours: `ftl images build --flavour cuda|rocm|cpu` passes the
# arguments of images/matrix.toml. Heredocs are left out on purpose: buildah before 1.33 does not know them.
ARG BASE_IMAGE=nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04

# ---- wheels of your own, where an index is out of reach: `ftl images build --wheels DIR` puts a folder in this place ----
FROM scratch AS wheels

# ---- what the operating system has to have: SkyPilot (rsync, ssh, sudo, fuse, ...), Ray (procps), people ----
FROM ${BASE_IMAGE} AS system
ARG BUILD_PACKAGES=""
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 PYTHONUNBUFFERED=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
       bash ca-certificates curl fuse git iproute2 jq netcat-openbsd openssh-client openssh-server patch pciutils procps \
       python3 python3-pip python3-venv rsync socat sudo tini vim-tiny wget ${BUILD_PACKAGES} \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*

# ---- wheels: everything that is downloaded or compiled, in one virtual environment ----
FROM system AS builder
ARG FLAVOUR=cuda
ARG TORCH=cu130
# The torch of a ROCm base image is kept: the environment sees the base's packages, and only there.
RUN if [ "${TORCH}" = base ]; then flags=--system-site-packages; else flags=; fi; \
    "$(command -v python3)" -m venv ${flags} /opt/ftl
COPY images/torch.txt images/${FLAVOUR}/requirements.txt /opt/ftl-locks/
# A certificate of your own network (a build secret named ca) is used and kept in no layer.
RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=bind,from=wheels,target=/wheels \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    export VIRTUAL_ENV=/opt/ftl UV_LINK_MODE=copy; \
    /opt/ftl/bin/python -m pip install --quiet --disable-pip-version-check "uv==0.9.30" \
    && if [ "${TORCH}" = base ]; then \
         /opt/ftl/bin/python -c 'import torch'; \
       elif [ -n "$(find /wheels -name 'torch-*.whl')" ]; then \
         /opt/ftl/bin/uv pip install --quiet --no-deps --no-index --find-links /wheels -r /opt/ftl-locks/torch.txt; \
       else \
         /opt/ftl/bin/uv pip install --quiet --torch-backend="${TORCH}" -r /opt/ftl-locks/torch.txt; \
       fi
RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=bind,from=wheels,target=/wheels \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    export VIRTUAL_ENV=/opt/ftl UV_LINK_MODE=copy DS_BUILD_OPS=0; \
    /opt/ftl/bin/uv pip install --quiet --no-deps --find-links /wheels -r /opt/ftl-locks/requirements.txt
# FlashAttention has no wheels and takes an hour or more to compile: only where it is asked for.
ARG FLASH_ATTENTION=""
RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    export VIRTUAL_ENV=/opt/ftl UV_LINK_MODE=copy; \
    if [ -n "${FLASH_ATTENTION}" ]; then \
      /opt/ftl/bin/uv pip install --quiet --no-deps --no-build-isolation "flash-attn==${FLASH_ATTENTION}"; \
    fi
COPY pyproject.toml README.md LICENSE /opt/ftl-source/
COPY launcher /opt/ftl-source/launcher
COPY runner /opt/ftl-source/runner
COPY templates /opt/ftl-source/templates
COPY images /opt/ftl-source/images
# Whoever the container runs as may add packages (launch.image.extra_packages).
# hadolint ignore=DL3003
RUN --mount=type=cache,target=/root/.cache --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt SSL_CERT_FILE=/run/secrets/ca.crt; fi; \
    export VIRTUAL_ENV=/opt/ftl UV_LINK_MODE=copy; \
    /opt/ftl/bin/uv pip install --quiet --no-deps /opt/ftl-source \
    && /opt/ftl/bin/uv pip list --format json > /opt/ftl/sbom-python.json \
    && cd "$(dirname "$(find /opt/ftl -path '*/site-packages/ray' -type d)")" \
    && rm -rf torch/test ray/jars && { [ ! -d torch/bin ] || find torch/bin -type f ! -name torch_shm_manager -delete; } \
    && if [ "${FLAVOUR}" = cpu ]; then find bitsandbytes -name 'lib*.so' ! -name '*_cpu*' -delete; fi \
    && find /opt/ftl -depth -type d -name __pycache__ -exec rm -rf {} + \
    && chmod -R a+rwX /opt/ftl

# ---- the image ----
FROM system AS final
ARG FLAVOUR=cuda
ARG LOCK_HASH=unknown
ARG VERSION=unknown
ARG REVISION=unknown
# SkyPilot needs root, or sudo without a password. Not 1000: base images of Ubuntu 24.04 have a user of that number.
RUN useradd --create-home --shell /bin/bash --uid 1200 ftl \
    && printf 'ftl ALL=(ALL) NOPASSWD:ALL\n' > /etc/sudoers.d/ftl && chmod 440 /etc/sudoers.d/ftl \
    && mkdir -p /workspace && chown ftl:ftl /workspace && chmod 1777 /workspace
COPY --from=builder /opt/ftl /opt/ftl
RUN dpkg-query --show --showformat='${Package} ${Version}\n' > /opt/ftl/sbom-debian.txt \
    && printf '{"version": "%s", "flavour": "%s", "lock_hash": "%s", "revision": "%s"}\n' \
       "${VERSION}" "${FLAVOUR}" "${LOCK_HASH}" "${REVISION}" > /opt/ftl/image.json
# SkyPilot activates an environment of its own and calls python3: ours is found first all the same.
ENV PATH=/opt/ftl/bin:$PATH VIRTUAL_ENV=/opt/ftl HF_HUB_ENABLE_HF_TRANSFER=0 RAY_USAGE_STATS_ENABLED=0
LABEL org.opencontainers.image.title="ftl" \
      org.opencontainers.image.description="Fine-tune LLMs anywhere, from one YAML: the runner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      ftl.flavour="${FLAVOUR}" \
      ftl.lock-hash="${LOCK_HASH}"
COPY --chmod=755 images/entrypoint.sh /usr/local/bin/ftl-entrypoint
WORKDIR /workspace
USER 1200
ENTRYPOINT ["tini", "-g", "--", "ftl-entrypoint"]
CMD ["bash"]

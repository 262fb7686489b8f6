# The service as an image. BASE may be any Debian-like image with Python 3.11 to 3.13, venv and CA certificates.
#   docker build -t papertape .
#   docker build -t papertape --secret id=pip,src=$HOME/.config/pip/pip.conf .    (with a package index of your own)
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
COPY requirements.txt /build/
# pip and setuptools are not needed to run, and are what scanners of images complain about most.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=false \
    python3 -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: -r /build/requirements.txt \
    && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools

FROM ${BASE}
LABEL org.opencontainers.image.title="Papertape" \
    org.opencontainers.image.description="A prediction microservice for crypto that trades on paper."
# Numbers, not names: orchestrators check "runs as non-root" by the number.
RUN groupadd --gid 10001 papertape \
    && useradd --uid 10001 --gid papertape --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin papertape \
    && install --directory --owner=papertape --group=papertape --mode=0750 /data /models
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/papertape
COPY app app
COPY ml ml
RUN /opt/venv/bin/python -m compileall -q app ml
# HOST reaches beyond loopback, so the service asks for API_KEY, or for ALLOW_KEYLESS=true from those who publish the
# port on 127.0.0.1 only (docker-compose.yml does).
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATABASE_URL=sqlite:////data/trading.db \
    EVENT_LOG_FILE=/data/events.jsonl \
    MODEL_PATH=/models \
    NUMBA_CACHE_DIR=/data/cache
USER 10001:10001
VOLUME ["/data", "/models"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# The service answers to the names in ALLOWED_HOSTS only, so the check calls it by the first of them.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", "\
import os, http.client as h; \
c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
c.request('GET', '/livez', headers={'Host': os.environ.get('ALLOWED_HOSTS', '127.0.0.1').split(',')[0].strip()}); \
raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "app", "serve"]

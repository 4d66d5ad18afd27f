# The tap: docker build -t tap-unleash .
FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY . .
# The image has no Git from which the version could be read.
ARG VERSION=0.1.0.dev0
ENV SETUPTOOLS_SCM_PRETEND_VERSION=${VERSION}
RUN python -m venv --without-pip /opt/tap-unleash \
    && pip --python /opt/tap-unleash install --no-cache-dir --constraint constraints.txt .

FROM python:3.13-slim-trixie
COPY --from=build /opt/tap-unleash /opt/tap-unleash
# A numeric ID, so that Kubernetes can verify that it is not root.
USER 65532:65532
ENTRYPOINT ["/opt/tap-unleash/bin/tap-unleash"]

# One image with the three programs: no shell, no package manager, nobody's home. `make image` builds it; see docs/kubernetes.md.
ARG BUILD_IMAGE=docker.io/library/rust:1.94-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
# The build of etcd's client reads its protocol with protoc.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p highwater-cli -p highwater-coordinator -p highwater-worker --bins \
 && install -D -t /out target/release/highwater target/release/highwater-coordinator target/release/highwater-worker

FROM ${RUNTIME_IMAGE}
COPY --from=build /out/ /usr/local/bin/
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["highwater"]

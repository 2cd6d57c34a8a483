# forebay in a container: a small image with the binary, the C library and CA certificates, without a shell, run by a user
# that is not root. docs/operations.md shows how other containers reach its socket.
#
#   docker build -t forebay .
#   docker run -v ./forebay.toml:/etc/forebay/forebay.toml:ro -v forebay-run:/run/forebay forebay

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies alone first: this layer is built anew only when they change. Cargo wants to see the benches that the manifest names.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin forebay

# Texts that the binary holds: the template of the configuration, and what the demo sends.
COPY README.md ARCHITECTURE.md ./
COPY config config
COPY docs docs
COPY src src
# The files may be older than what has been built from the stand-ins above.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin forebay \
    && install -D target/release/forebay /image/usr/bin/forebay \
    && install -d /image/run/forebay /image/var/lib/forebay

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="forebay" \
      org.opencontainers.image.description="A producer daemon for Apache Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/usr/bin/forebay /usr/bin/forebay
# The image's own user, by number, so that Kubernetes can tell that it is not root.
COPY --from=build --chown=65532:65532 /image/run/forebay /run/forebay
COPY --from=build --chown=65532:65532 /image/var/lib/forebay /var/lib/forebay
USER 65532:65532
# An image that cannot start is not built.
RUN ["/usr/bin/forebay", "version"]
# The sockets, to be shared with other containers, and the state. Writable although the root file system may be read-only.
VOLUME ["/run/forebay", "/var/lib/forebay"]
# SIGTERM drains what is held: give it longer than daemon.drain_timeout (docker stop --time).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/forebay", "status", "--json"]
ENTRYPOINT ["/usr/bin/forebay"]
CMD ["run", "--config", "/etc/forebay/forebay.toml"]

# The side services of a release, on the same base as the release itself. Each target can be replaced by the name
# of another image; what a service is told (its configuration, its password) is mounted, never built in.
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BASE_IMAGE} AS base
ENV DEBIAN_FRONTEND=noninteractive


# A registry for the images that this machine builds. Data: /var/lib/registry.
FROM base AS registry
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends docker-registry \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
    && install -d -o 10002 -g 10002 /var/lib/registry
COPY docker/registry.yml /etc/docker/registry/config.yml
USER 10002:10002
VOLUME /var/lib/registry
EXPOSE 5000
ENTRYPOINT ["docker-registry"]
CMD ["serve", "/etc/docker/registry/config.yml"]


# HAProxy. Configuration: /etc/haproxy/haproxy.cfg.
FROM base AS proxy
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*
USER 10003:10003
# SIGUSR1 lets connections finish; "hard-stop-after" in the configuration bounds it.
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy"]
CMD ["-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]


# PostgreSQL 17. Data: /var/lib/postgresql. Password: the file that POSTGRES_PASSWORD_FILE names.
FROM base AS postgres
# hadolint ignore=DL3008
RUN install -d /etc/postgresql-common \
    && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends postgresql-17 \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* /var/lib/postgresql \
    && install -d -o 10004 -g 10004 -m 0700 /var/lib/postgresql \
    && echo 'postgres-slipway:x:10004:10004::/var/lib/postgresql:/usr/sbin/nologin' >> /etc/passwd
COPY --chmod=0555 docker/postgres-entrypoint /usr/local/bin/postgres-entrypoint
# The last one is the path of a file, not a secret.
# hadolint ignore=DL3064
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin \
    PGDATA=/var/lib/postgresql/17 \
    POSTGRES_USER=slipway \
    POSTGRES_DB=slipway \
    POSTGRES_PASSWORD_FILE=/run/secrets/DB_PASSWORD
USER 10004:10004
VOLUME /var/lib/postgresql
EXPOSE 5432
# SIGINT is PostgreSQL's fast shutdown: it does not wait for idle clients.
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
HEALTHCHECK --interval=2s --timeout=3s --start-period=30s --retries=5 \
    CMD ["pg_isready", "--quiet", "--host=127.0.0.1"]


# PgBouncer. Configuration: /etc/pgbouncer/pgbouncer.ini.
FROM base AS pgbouncer
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/* \
    && echo 'pgbouncer-slipway:x:10005:10005::/nonexistent:/usr/sbin/nologin' >> /etc/passwd
USER 10005:10005
EXPOSE 6432
# SIGINT is PgBouncer's safe shutdown: it lets running transactions finish.
STOPSIGNAL SIGINT
ENTRYPOINT ["pgbouncer"]
CMD ["/etc/pgbouncer/pgbouncer.ini"]

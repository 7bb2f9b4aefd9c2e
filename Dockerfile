# Every service of Remuda in one image; the command says which: `run picker`, `run api`, … NATS is not in it.
# Debian, not Alpine, for the same C library as everywhere else. No build step: Node runs TypeScript as it is.

FROM node:24.21.0-bookworm-slim@sha256:d6aa754f16b3197301076f047b5def2f02ea1dbbc2ca920407d46d7ec7f87b20 AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
# The image has a Node, so the one that npm brings along for other machines is left out.
RUN rm -rf node_modules/node-linux-* node_modules/.bin/node

FROM node:24.21.0-bookworm-slim@sha256:d6aa754f16b3197301076f047b5def2f02ea1dbbc2ca920407d46d7ec7f87b20
ENV NODE_ENV=production \
    REMUDA_DATA_DIR=/data \
    REMUDA_ALIVE_FILE=/tmp/remuda-alive
WORKDIR /app
# A new volume takes its owner from the folder that it is mounted on, so each such folder is there, and `node`'s (uid 1000).
RUN install -d -o node -g node -m 700 /data /services/nats /services/picker /services/api /services/gateway \
      /services/sources /services/guest-token /services/audit /archive
COPY --from=packages /app/node_modules node_modules
COPY package.json ./
COPY events events
COPY protocol protocol
COPY lists lists
COPY transport transport
COPY state-machines state-machines
COPY runtime runtime
COPY client client
COPY services services
COPY web web
COPY demo demo
COPY cli cli
COPY compose compose
USER node
# No shell and no npm in between: signals reach Node, which ends its service in order.
ENTRYPOINT ["node", "/app/cli/main.ts"]
CMD ["--help"]
# A service that is ready says so every five seconds by the time of this file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["sh", "-c", "find \"$REMUDA_ALIVE_FILE\" -newermt '-15 seconds' | grep -q ."]

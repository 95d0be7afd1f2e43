// Makes dist/pg_replica.mjs: the agent and the CLI in one file, as `make install` puts it beside the extension.
import { chmodSync, readFileSync } from "node:fs";
import { build } from "esbuild";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
await build({
  entryPoints: [new URL("../src/cli/main.ts", import.meta.url).pathname],
  outfile: new URL("../dist/pg_replica.mjs", import.meta.url).pathname,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "esm",
  external: ["pg-native"],
  define: { "globalThis.PG_REPLICA_VERSION": JSON.stringify(version) },
  // Some dependencies are CommonJS and call require() for Node's own modules.
  banner: {
    js: '#!/usr/bin/env node\nimport { createRequire as pgReplicaCreateRequire } from "node:module";\nconst require = pgReplicaCreateRequire(import.meta.url);',
  },
  legalComments: "none",
});
chmodSync(new URL("../dist/pg_replica.mjs", import.meta.url).pathname, 0o755);

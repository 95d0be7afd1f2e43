// Makes dist/pg_replica.mjs: the agent and the CLI in one file, as `make install` puts it beside the extension.
import { chmodSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** Of the repository, whose path may hold blanks. */
const file = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

const { version } = JSON.parse(readFileSync(file("package.json"), "utf8"));
await build({
  // The same text whatever the current directory is: paths in its comments are relative to this.
  absWorkingDir: file("."),
  entryPoints: [file("src/cli/main.ts")],
  outfile: file("dist/pg_replica.mjs"),
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
chmodSync(file("dist/pg_replica.mjs"), 0o755);

/// <reference types="vitest/config" />
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

// `npm run dev` serves the sources and passes requests on to a running gateway.
const gateway = "http://127.0.0.1:8000";

const LICENCES = "virtual:licences";

/** The packages that the page contains, with their licences' texts: for its "About". */
function licences(): Plugin {
  const read = (folder: string): object => {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf-8")) as Record<string, string>;
    const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file)).sort();
    return { name, version, licence: license, text: files.map((file) => readFileSync(`${folder}/${file}`, "utf-8")).join("\n\n") };
  };
  return {
    name: "licences",
    resolveId: (id) => (id === LICENCES ? `\0${LICENCES}` : null),
    load(id) {
      if (id !== `\0${LICENCES}`) return null;
      const { packages } = JSON.parse(readFileSync("package-lock.json", "utf-8")) as {
        packages: Record<string, { dev?: boolean; optional?: boolean }>;
      };
      const shipped = Object.entries(packages).filter(([path, { dev, optional }]) => path !== "" && !dev && !optional);
      return `export default ${JSON.stringify(shipped.map(([path]) => read(path)))}`;
    },
  };
}

export default defineConfig({
  plugins: [svelte(), licences()],
  build: {
    outDir: "../site",
    emptyOutDir: true,
    target: "es2022",
    assetsDir: "assets",
    // Everything is a file of its own: the page's content security policy has no data: scripts and no inline styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { index: "index.html", popout: "popout.html", "tradeul-list": "src/list.ts" },
      // Other pages name the element's module: its address stays, and what it imports is hashed.
      preserveEntrySignatures: "exports-only",
      output: { entryFileNames: ({ name }) => (name === "tradeul-list" ? "[name].js" : "assets/[name]-[hash].js") },
    },
  },
  worker: { format: "es" },
  server: {
    proxy: {
      "/api": gateway,
      "/health": gateway,
      "/openapi.json": gateway,
      "/site.json": gateway,
      "/ws": { target: gateway, ws: true },
    },
  },
  resolve: process.env["VITEST"] ? { conditions: ["browser"] } : {},
  test: { environment: "happy-dom", include: ["src/**/*.test.ts"] },
});

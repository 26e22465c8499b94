/// <reference types="vitest/config" />
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `npm run dev` serves the sources and passes requests on to a running gateway.
const gateway = "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../site",
    emptyOutDir: true,
    target: "es2022",
    assetsDir: "assets",
    // Everything is a file of its own: the page's content security policy has no data: scripts and no inline styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: { index: "index.html", popout: "popout.html" } },
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

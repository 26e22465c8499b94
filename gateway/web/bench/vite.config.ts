import { defineConfig } from "vite";

// Built beside the product, which it imports; nothing of it is in the product.
export default defineConfig({
  base: "./",
  build: { outDir: "../../../build/table-bench", emptyOutDir: true, target: "es2022" },
});

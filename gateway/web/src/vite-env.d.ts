/// <reference types="vite/client" />
/// <reference types="svelte" />

declare module "virtual:licences" {
  const packages: { name: string; version: string; licence: string; text: string }[];
  export default packages;
}

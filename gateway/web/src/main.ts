import { mount } from "svelte";
import "dockview/dist/styles/dockview.css";
import "./workspace/theme.css";
import { startNotifier } from "./notify/notifier";
import { browserOutputs } from "./notify/outputs";
import { stream } from "./stream/client";
import App from "./workspace/App.svelte";
import { COLOURS, link } from "./workspace/link";

const target = document.getElementById("app");
if (!target) throw new Error("expected #app");
mount(App, { target });
startNotifier(
  stream(),
  browserOutputs((symbol) => link(COLOURS[0], symbol)),
);

import { mount } from "svelte";
import "dockview/dist/styles/dockview.css";
import "./workspace/theme.css";
import App from "./workspace/App.svelte";

const target = document.getElementById("app");
if (!target) throw new Error("expected #app");
mount(App, { target });

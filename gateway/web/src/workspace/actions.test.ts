import { expect, test } from "vitest";
import { keyName, shownKeys } from "./actions";

const pressed = (init: KeyboardEventInit): string => keyName(new KeyboardEvent("keydown", init));

test("keys have one name on every keyboard", () => {
  expect(pressed({ key: "k", code: "KeyK", ctrlKey: true })).toBe("Ctrl+k");
  expect(pressed({ key: "∑", code: "KeyW", altKey: true })).toBe("Alt+w");
  expect(pressed({ key: "?", code: "Slash", shiftKey: true })).toBe("?");
  expect(pressed({ key: "ArrowLeft", code: "ArrowLeft", altKey: true, shiftKey: true })).toBe("Alt+Shift+ArrowLeft");
  expect(pressed({ key: "A", code: "KeyA", shiftKey: true })).toBe("a");
  expect(shownKeys("Alt+ArrowLeft")).toEqual(["Alt", "←"]);
});

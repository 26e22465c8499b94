/** What the keyboard and the palette can do. One table: the help sheet, the keys and the palette all read it. */

export interface Action {
  id: string;
  title: string;
  group: "Find" | "Panels" | "Workspace" | "View" | "Market";
  /** As KeyboardEvent.key, with modifiers first: "Alt+w", "Ctrl+k", "?". */
  keys: string[];
  run(): void;
}

const MAC = typeof navigator !== "undefined" && /Mac|iPhone|iPad/.test(navigator.userAgent);
const NAMES: Record<string, string> = {
  " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Alt: MAC ? "⌥" : "Alt", Ctrl: MAC ? "⌘" : "Ctrl",
}; // prettier-ignore

/** Returns the name of what was pressed, as in `keys`. Ctrl stands for Command on a Mac. */
export function keyName(event: KeyboardEvent): string {
  // With Alt (Option) some keyboards make other characters: the key's place tells which it was.
  const place = /^(?:Key|Digit)(\w)$/.exec(event.code)?.[1];
  const key = event.altKey && place ? place.toLowerCase() : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isShifted = event.shiftKey && (event.key.length > 1 || event.altKey || event.ctrlKey || event.metaKey);
  const modifiers = [
    (MAC ? event.metaKey : event.ctrlKey) && "Ctrl",
    event.altKey && "Alt",
    isShifted && "Shift",
  ].filter((each): each is string => typeof each === "string");
  return [...modifiers, key].join("+");
}

/** Returns the keys as the help sheet shows them. */
export function shownKeys(keys: string): string[] {
  return keys.split("+").map((key) => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}

/** True if what is typed belongs to the element that has the focus. */
export function isTyping(event: KeyboardEvent): boolean {
  // The path, as tables are custom elements with a shadow of their own.
  const [target] = event.composedPath();
  if (!(target instanceof Element)) return false;
  return target.matches("input:not([type=range]), textarea, select, [contenteditable=true]") || target.closest("dialog") !== null;
}

interface Options {
  onclose: () => void;
  /** False: neither Escape nor a click beside it closes it. */
  isDismissible?: boolean;
}

/**
 * Shows a dialog for as long as it is in the document, and calls `onclose` when the user dismisses it.
 *
 * `onclose` is called at once, not by the browser's `close` event: that one comes later, when a key may already have opened
 * another dialog.
 */
export function modal(dialog: HTMLDialogElement, options: Options): { destroy: () => void } {
  const { onclose, isDismissible = true } = options;
  const before = document.activeElement;
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (isDismissible) onclose();
  });
  dialog.addEventListener("click", (event) => {
    if (isDismissible && event.target === dialog) onclose();
  });
  // A second Escape without a click between them can't be prevented: the browser has closed the dialog by itself.
  dialog.addEventListener("close", () => {
    if (!dialog.isConnected) return;
    if (isDismissible) onclose();
    else dialog.showModal();
  });
  dialog.showModal();
  return {
    destroy() {
      if (before instanceof HTMLElement) before.focus();
    },
  };
}

// The ground of a panel: keys pressed in it stay in it, and its sliders have names.

const stop = (event) => event.stopPropagation();

// ipywidgets leaves the handle of a slider without a name for screen readers.
function nameSliders(panel) {
  for (const handle of panel.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
    if (label?.textContent) handle.setAttribute("aria-label", label.textContent);
  }
}

function render({ el }) {
  let panel = null;
  const watch = new MutationObserver(() => nameSliders(panel));
  // The panel's own element is in the page only after its children were made.
  const frame = requestAnimationFrame(() => {
    panel = el.closest(".lab-panel");
    panel?.addEventListener("keydown", stop);
    if (!panel) return;
    nameSliders(panel);
    watch.observe(panel, { childList: true, subtree: true });
  });
  return () => {
    cancelAnimationFrame(frame);
    watch.disconnect();
    panel?.removeEventListener("keydown", stop);
  };
}

export default { render };

// The ground of a panel: keys pressed in it stay in it, its sliders have names, its figures fit.

const stop = (event) => event.stopPropagation();

// ipywidgets leaves the handle of a slider without a name for screen readers.
function nameSliders(panel) {
  for (const handle of panel.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
    if (label?.textContent) handle.setAttribute("aria-label", label.textContent);
  }
}

// plotly measures its place before that is laid out, and looks again only when the window changes.
function fitFigures(panel) {
  let timer = null, seen = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(() => window.dispatchEvent(new Event("resize")), 60);
  };
  const resized = new ResizeObserver(later);
  resized.observe(panel);
  const changed = () => {
    const plots = panel.querySelectorAll(".js-plotly-plot").length;
    if (plots !== seen) later();
    seen = plots;
  };
  return { changed, end: () => { clearTimeout(timer); resized.disconnect(); } };
}

function render({ el }) {
  let panel = null, fit = null;
  const watch = new MutationObserver(() => {
    nameSliders(panel);
    fit.changed();
  });
  // The panel's own element is in the page only after its children were made.
  const frame = requestAnimationFrame(() => {
    panel = el.closest(".lab-panel");
    if (!panel) return;
    panel.addEventListener("keydown", stop);
    nameSliders(panel);
    fit = fitFigures(panel);
    watch.observe(panel, { childList: true, subtree: true });
  });
  return () => {
    cancelAnimationFrame(frame);
    watch.disconnect();
    fit?.end();
    panel?.removeEventListener("keydown", stop);
  };
}

export default { render };

// The ground of a panel: keys pressed in it stay in it.

const stop = (event) => event.stopPropagation();

function render({ el }) {
  let panel = null;
  // The panel's own element is in the page only after its children were made.
  const frame = requestAnimationFrame(() => {
    panel = el.closest(".lab-panel");
    panel?.addEventListener("keydown", stop);
  });
  return () => {
    cancelAnimationFrame(frame);
    panel?.removeEventListener("keydown", stop);
  };
}

export default { render };

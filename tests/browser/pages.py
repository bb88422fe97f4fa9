"""What the pages without a kernel share: the two themes, and a model that only remembers."""

STYLE = """<style>
  body { margin: 20px; background: var(--jp-layout-color1, #fff); }
  body.dark { --jp-ui-font-color1: rgba(255, 255, 255, 0.87); --jp-border-color1: #616161;
    --jp-layout-color1: #212121; --jp-layout-color2: #424242; --jp-brand-color1: #64b5f6; }
</style>"""
REMEMBER = """
  window.sent = [];
  window.leaked = [];
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  const remember = (state) => {
    const listeners = {};
    return {
      get: (name) => state[name],
      set: (name, value) => {
        state[name] = value;
        (listeners[`change:${name}`] ?? []).forEach((f) => f());
      },
      save_changes() { window.saved = { ...state }; },
      send: (content) => window.sent.push(content),
      on: (name, f) => (listeners[name] ??= []).push(f),
      off: (name, f) => { listeners[name] = listeners[name].filter((g) => g !== f); },
    };
  };
"""

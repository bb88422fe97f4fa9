// Two answers without names, and a vote. Names come with the status line, after the vote. Model text
// enters the page through textContent alone. Uses compare_parts.js.

const CHOICES = [
  ["a", "A is better"], ["b", "B is better"], ["t", "Tie"], ["x", "Both bad"], ["u", "Undo"],
];
const WINNER = { a: "a", b: "b", t: "tie", x: "bad" };

const makeSide = (letter) => {
  const node = make("section", "lab-side");
  node.setAttribute("aria-label", `Answer ${letter}`);
  const said = make("div", "lab-said");
  said.dir = "auto";
  node.append(make("h4", "", letter), said);
  return { node, said };
};

function render({ model, el }) {
  const root = make("div", "lab-blind");
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Blind vote: keys a, b, t for a tie, x for both bad, u to undo");
  const prompt = make("div", "lab-asked");
  prompt.dir = "auto";
  const sides = { a: makeSide("A"), b: makeSide("B") };
  const pair = make("div", "lab-grid");
  pair.append(sides.a.node, sides.b.node);
  const status = make("div", "lab-blind-status");
  status.setAttribute("role", "status");
  const actions = make("div", "lab-votes");
  const buttons = CHOICES.map(([key, label]) => {
    const node = make("button", "lab-vote");
    node.type = "button";
    node.append(make("kbd", "", key), ` ${label}`);
    node.addEventListener("click", () => act(key));
    return node;
  });
  actions.append(...buttons);
  root.append(prompt, pair, actions, status);
  el.append(root);

  const act = (key) => {
    if (model.get("busy")) return;
    const question = model.get("question").id;
    if (key !== "u" && question === undefined) return;
    model.send(key === "u" ? { action: "undo", question } : { action: "vote", winner: WINNER[key], question });
  };

  root.addEventListener("keydown", (event) => {
    event.stopPropagation();  // else JupyterLab takes the key: `b` would insert a cell
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (CHOICES.some(([key]) => key === event.key)) { event.preventDefault(); act(event.key); }
  });

  const onQuestion = () => {
    const question = model.get("question");
    const shown = question.id !== undefined;
    prompt.textContent = question.prompt ?? "";
    prompt.hidden = pair.hidden = !shown;
    for (const [name, side] of Object.entries(sides)) {
      side.said.textContent = question[name] || "(an empty answer)";
      side.said.scrollTop = 0;
    }
    onState();
    onSize();
  };

  const onSize = () => {
    reachable(prompt, "Long prompt, scrolls");
    for (const { said } of Object.values(sides)) reachable(said, "Long answer, scrolls");
  };

  const onState = () => {
    const busy = model.get("busy"), none = model.get("question").id === undefined;
    root.hidden = !model.get("started");
    root.setAttribute("aria-busy", String(busy));
    const lost = buttons.includes(document.activeElement);
    buttons.forEach((node, i) => { node.disabled = busy || (none && CHOICES[i][0] !== "u"); });
    if (lost && document.activeElement?.disabled !== false) root.focus({ preventScroll: true });
  };

  const onStatus = () => {
    status.textContent = model.get("status");
    status.classList.toggle("lab-status-alert", model.get("alert"));
  };

  const listeners = {
    "change:question": onQuestion, "change:busy": onState, "change:started": onState,
    "change:status": onStatus, "change:alert": onStatus,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  onQuestion();
  onStatus();
  const resized = new ResizeObserver(onSize);
  resized.observe(root);
  return () => {
    resized.disconnect();
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };

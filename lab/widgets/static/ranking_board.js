// The ranking board: cards in order of preference. The order lives in the page's model, as `order`,
// so that two views of one board agree; the kernel gets it with the submit message. Model text
// enters the page through textContent alone.

const el = (tag, className, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const button = (label, className, onClick, text = label) => {
  const node = el("button", className, { type: "button", "aria-label": label });
  node.textContent = text;
  node.addEventListener("click", onClick);
  return node;
};

// --- orders: pure functions on tiers, lists of positions, best first ---------------------------

export const rankOf = (tiers, card) => tiers.findIndex((tier) => tier.includes(card)) + 1;

export const without = (tiers, card) =>
  tiers.map((tier) => tier.filter((c) => c !== card)).filter((tier) => tier.length);

// Puts a card on its own at a place among the others, counted in cards.
export const placeAt = (tiers, card, index) => {
  const rest = without(tiers, card);
  let before = 0, tier = 0;
  while (tier < rest.length && before + rest[tier].length <= index) before += rest[tier++].length;
  return [...rest.slice(0, tier), [card], ...rest.slice(tier)];
};

export const moveBy = (tiers, card, step) => {
  const rank = rankOf(tiers, card) - 1;
  if (tiers[rank].length > 1) {  // out of a tie first
    const rest = tiers.map((tier) => tier.filter((c) => c !== card));
    return [...rest.slice(0, rank + (step > 0)), [card], ...rest.slice(rank + (step > 0))];
  }
  const target = rank + step;
  if (target < 0 || target >= tiers.length) return tiers;
  const order = [...tiers];
  [order[rank], order[target]] = [order[target], order[rank]];
  return order;
};

export const setRank = (tiers, card, rank) => {
  const rest = without(tiers, card);
  const at = Math.min(rank - 1, rest.length);
  return [...rest.slice(0, at), [card], ...rest.slice(at)];
};

// Ties a card with the tier above it; a card that is tied stands on its own again, below.
export const toggleTie = (tiers, card) => {
  const rank = rankOf(tiers, card) - 1;
  const tier = tiers[rank];
  if (tier.indexOf(card) > 0) {
    return [...tiers.slice(0, rank), tier.filter((c) => c !== card), [card], ...tiers.slice(rank + 1)];
  }
  if (rank === 0) return tiers;
  return [...tiers.slice(0, rank - 1), [...tiers[rank - 1], ...tier], ...tiers.slice(rank + 1)];
};

// --- the view ----------------------------------------------------------------------------------

function render({ model, el: root }) {
  const prompt = el("div", "lab-prompt");
  const list = el("ol", "lab-cards", { "aria-label": "Completions, best first" });
  const hint = el("p", "lab-hint");
  const status = el("p", "lab-status", { role: "status", "aria-live": "polite" });
  const fill = el("div", "lab-fill");
  const bar = el("div", "lab-bar", { role: "progressbar", "aria-label": "Rankings", "aria-valuemin": 0 }, fill);
  const count = el("span", "lab-count");
  const submit = button("Submit ranking", "lab-button lab-primary", () => act("submit"));
  const skip = button("Skip", "lab-button", () => act("skip"));
  const undo = button("Undo", "lab-button", () => act("undo"));
  const board = el(
    "div", "lab-board", { role: "group", "aria-label": "Ranking board" },
    el("div", "lab-top", {}, bar, count), prompt, list, hint,
    el("div", "lab-actions", {}, submit, skip, undo, el("span", "lab-spinner", { "aria-hidden": "true" }), status),
  );
  root.append(board);

  let cards = [], grabbed = null, refocus = false;
  const tiers = () => {
    const { id, tiers = [] } = model.get("question");
    const order = model.get("order");
    return order && order.question === id ? order.tiers : tiers;
  };
  const order = () => tiers().flat();

  const setTiers = (next, words) => {
    model.set("order", { question: model.get("question").id, tiers: next });
    if (words) status.textContent = words;
  };

  const act = (action) => {
    if (model.get("busy")) return;
    refocus = board.contains(document.activeElement);
    const content = { action, question: model.get("question").id };
    if (action === "submit") content.tiers = tiers();
    if (action !== "undo" && content.question === undefined) return;
    model.send(content);
  };

  const move = (card, next, pressed = null) => {
    const rank = rankOf(next, card);
    const alone = next[rank - 1].length === 1;
    setTiers(next, alone ? `Moved to rank ${rank}.` : `Tied at rank ${rank}.`);
    // A button pressed by key keeps the focus, to be pressed again; else keys go on with the card.
    if (pressed && !pressed.disabled) pressed.focus();
    else cards[card]?.focus();
  };

  const makeCard = (text, card) => {
    const rank = el("span", "lab-rank");
    const body = el("div", "lab-text", { dir: "auto" });
    body.textContent = text;
    const tool = (label, sign, change) => button(label, "lab-small",
      (event) => move(card, change(tiers()), event.detail === 0 ? event.currentTarget : null), sign);
    const tie = tool("Tie with above", "=", (t) => toggleTie(t, card));
    tie.setAttribute("aria-pressed", "false");
    const node = el(
      "li", "lab-card", { tabindex: "0" }, rank, body,
      el("span", "lab-tools", {},
        tool("Move up", "↑", (t) => moveBy(t, card, -1)),
        tool("Move down", "↓", (t) => moveBy(t, card, 1)),
        tie),
    );
    node.dataset.card = card;
    node.addEventListener("keydown", (event) => onCardKey(event, card));
    return node;
  };

  const onCardKey = (event, card) => {
    if (event.target !== cards[card] || event.ctrlKey || event.metaKey) return;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const shown = order();
    if (step && event.altKey) move(card, moveBy(tiers(), card, step));
    else if (step) cards[shown[shown.indexOf(card) + step]]?.focus();
    else if (event.key >= "1" && event.key <= String(cards.length))
      move(card, setRank(tiers(), card, Number(event.key)));
    else if (event.key === "t" || event.key === "=") move(card, toggleTie(tiers(), card));
    else if (event.key === "PageDown" || event.key === "PageUp") {
      const text = cards[card].querySelector(".lab-text");
      text.scrollBy(0, (event.key === "PageDown" ? 0.9 : -0.9) * text.clientHeight);
    } else return;
    event.preventDefault();
  };

  board.addEventListener("keydown", (event) => {
    event.stopPropagation();  // else JupyterLab takes the key: `b` would insert a cell
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === "BUTTON" && event.key === "Enter") return;
    const action = { Enter: "submit", s: "skip", u: "undo" }[event.key];
    if (action) { event.preventDefault(); act(action); }
  });

  // Drag: the list captures the pointer, since a card that moves in the page would lose it.
  list.addEventListener("pointerdown", (event) => {
    const node = event.target.closest(".lab-card");
    if (!node || event.target.closest("button") || event.button !== 0 || onScrollbar(event)) return;
    grabbed = { card: Number(node.dataset.card), y: event.clientY, moved: false };
    node.focus();
  });
  const onScrollbar = ({ target, offsetX }) => target.matches(".lab-text") && offsetX >= target.clientWidth;
  list.addEventListener("mousedown", (event) => {  // the card keeps the focus, not its long text
    if (event.target.matches(".lab-text") && !onScrollbar(event)) event.preventDefault();
  });
  list.addEventListener("pointermove", (event) => {
    if (!grabbed) return;
    if (!(event.buttons & 1)) return drop();  // let go where the list could not see it
    if (!grabbed.moved && Math.abs(event.clientY - grabbed.y) < 5) return;
    if (!grabbed.moved) { grabbed.moved = true; list.setPointerCapture(event.pointerId); }
    cards[grabbed.card].classList.add("lab-grabbed");
    const others = order().filter((c) => c !== grabbed.card);
    const index = others.filter((c) => {
      const box = cards[c].getBoundingClientRect();
      return event.clientY > box.top + box.height / 2;
    }).length;
    if (order().indexOf(grabbed.card) !== index) setTiers(placeAt(tiers(), grabbed.card, index));
  });
  const drop = () => {
    if (grabbed?.moved && cards[grabbed.card]) {
      cards[grabbed.card].classList.remove("lab-grabbed");
      status.textContent = `Moved to rank ${rankOf(tiers(), grabbed.card)}.`;
    }
    grabbed = null;
  };
  list.addEventListener("pointerup", drop);
  list.addEventListener("pointercancel", drop);

  // --- the model moves the view

  const onQuestion = () => {
    grabbed = null;
    const question = model.get("question");
    prompt.textContent = question.prompt ?? "";
    prompt.hidden = list.hidden = hint.hidden = !question.prompt;
    const hadFocus = refocus || board.contains(document.activeElement);
    cards = (question.completions ?? []).map(makeCard);
    list.replaceChildren();
    onTiers();
    if (hadFocus && cards.length) cards[order()[0]]?.focus({ preventScroll: true });
    refocus = false;
    hint.textContent = "";
    const keys = [["↑ ↓", "choose a card"], [`1–${cards.length}`, "give it a rank"],
      ["Alt+↑ ↓", "move it"], ["t", "tie with above"], ["Enter", "submit"], ["s", "skip"], ["u", "undo"]];
    for (const [key, what] of keys) {
      const kbd = el("kbd");
      kbd.textContent = key;
      hint.append(el("span", "", {}, kbd, ` ${what}`), " ");
    }
  };

  // Text that scrolls can be reached and scrolled by keys.
  const onSize = () => cards.forEach((node) => {
    const text = node.querySelector(".lab-text");
    const long = text.scrollHeight > text.clientHeight + 1;
    text.classList.toggle("lab-long", long);
    if (!long) ["tabindex", "role", "aria-label"].forEach((name) => text.removeAttribute(name));
    else if (!text.hasAttribute("tabindex")) {
      text.tabIndex = 0;
      text.setAttribute("role", "group");
      text.setAttribute("aria-label", "Long completion, scrolls");
    }
  });

  const onTiers = () => {
    const shown = order();
    const focused = document.activeElement;
    shown.forEach((card, i) => {
      if (cards[card] && list.children[i] !== cards[card]) list.insertBefore(cards[card], list.children[i] ?? null);
    });
    if (board.contains(focused)) focused.focus({ preventScroll: true });
    tiers().forEach((tier, i) => tier.forEach((card, j) => {
      const node = cards[card];
      if (!node) return;
      node.querySelector(".lab-rank").textContent = i + 1;
      node.classList.toggle("lab-tied", j > 0);
      node.classList.toggle("lab-joined", j < tier.length - 1);
      const [up, down] = node.querySelectorAll(".lab-small");
      up.disabled = i === 0 && tier.length === 1;
      down.disabled = i === tiers().length - 1 && tier.length === 1;
      const tie = node.querySelector("[aria-pressed]");
      tie.setAttribute("aria-pressed", String(j > 0));
      tie.disabled = i === 0 && j === 0;
      node.setAttribute("aria-label", `Rank ${i + 1}${tier.length > 1 ? ", tied" : ""}: ${node.querySelector(".lab-text").textContent}`);
    }));
    onSize();
  };

  const onState = () => {
    const done = model.get("done"), goal = model.get("goal"), busy = model.get("busy");
    fill.style.width = `${Math.min(100, (100 * done) / Math.max(1, goal))}%`;
    bar.setAttribute("aria-valuemax", goal);
    bar.setAttribute("aria-valuenow", Math.min(done, goal));
    count.textContent = `${done} of ${goal}`;
    board.classList.toggle("lab-busy", busy);
    board.setAttribute("aria-busy", String(busy));
    submit.disabled = skip.disabled = busy || !model.get("question").prompt;
    undo.disabled = busy;
  };

  const onStatus = () => {
    if (status.textContent !== model.get("status")) status.textContent = model.get("status");
    status.classList.toggle("lab-alert", model.get("alert"));
  };

  const listeners = {
    "change:question": () => { onQuestion(); onState(); },
    "change:order": onTiers, "change:status": onStatus, "change:alert": onStatus,
    "change:done": onState, "change:goal": onState, "change:busy": onState,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  onQuestion();
  onState();
  onStatus();
  const resized = new ResizeObserver(onSize);
  resized.observe(list);
  return () => {
    resized.disconnect();
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };

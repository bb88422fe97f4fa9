// The ranking board, part 4 of 4: cards in order of preference. What a person makes of a question lives
// in the page's model, as `draft`, so that two views of one board agree; the kernel gets it with the
// submit message.

const ordinal = (rank) => ["1st", "2nd", "3rd"][rank - 1] ?? `${rank}th`;

function render({ model, el: root }) {
  const prompt = el("div", "lab-prompt", { dir: "auto" });
  const notice = el("p", "lab-notice");
  const list = el("ol", "lab-cards", { "aria-label": "Completions, best first" });
  const hint = el("p", "lab-hint");
  const status = el("p", "lab-status", { role: "status", "aria-live": "polite" });
  const fill = el("div", "lab-fill");
  const bar = el("div", "lab-bar", { role: "progressbar", "aria-label": "Rankings", "aria-valuemin": 0 }, fill);
  const count = el("span", "lab-count"), pace = el("span", "lab-pace");
  const submit = button("Submit ranking", "lab-button lab-primary", () => act("submit", { tiers: draft().tiers }));
  const tie = button("Tie", "lab-button", () => act("submit", { tiers: [[0, 1]] }));
  const allBad = button("All bad", "lab-button", () => callBad());
  const flag = button("Flag", "lab-button", () => flagIt());
  const skip = button("Skip", "lab-button", () => act("skip"));
  const undo = button("Undo", "lab-button", () => act("undo"));
  const note = el("input", "lab-note", { type: "text", maxlength: 1000, "aria-label": "Note on this question",
    placeholder: "What is wrong or odd here? Kept with your ranking; may stay empty." });
  const board = el("div", "lab-board", { role: "group", "aria-label": "Ranking board" });

  const toggle = (name) => {
    const opens = !isUnfolded(model, name);
    if (name === "earlier" && opens) model.send({ action: "earlier" });
    unfold(model, name, opens);
  };
  const openHelp = () => {
    opener = document.activeElement;
    toggle("help");
    if (!help.node.hidden) help.close.focus();
  };
  const goBackTo = (ranking) => {
    unfold(model, "earlier", false);
    refocus = true;
    model.send({ action: "edit", ranking });
  };
  const help = makeHelp(model), guess = makeGuess(model), guidelines = makeGuidelines(model);
  const earlier = makeEarlier(model, goBackTo), summary = makeSummary(model);
  const footer = makeFooter(model, openHelp, toggle);
  const actions = el("div", "lab-actions", {}, submit, tie, allBad, skip, flag, undo,
    el("span", "lab-spinner", { "aria-hidden": "true" }), status);
  board.append(
    el("div", "lab-top", {}, bar, count, pace),
    el("div", "lab-columns", {},
      el("div", "lab-main", {}, notice, prompt, list, note, hint, actions, guess.node, summary.node),
      guidelines.node),
    footer.node, earlier.node, help.node,
  );
  root.append(board);

  let cards = [], refocus = false, opener = null;
  const draft = () => {
    const { id, tiers = [], note = null } = model.get("question");
    return (model.get("drafts") ?? {})[id] ?? { tiers, picks: [], note };
  };
  const change = (part) => model.set("drafts", { ...model.get("drafts"), [model.get("question").id]: { ...draft(), ...part } });
  const tiers = () => draft().tiers;
  const order = () => tiers().flat();
  const isTwo = () => cards.length === 2;
  const label = (card) => (isTwo() ? "AB"[card] : String(card + 1));
  const say = (words) => { status.textContent = words; };
  const sayPlace = (card) => {
    const tied = tiers()[rankOf(tiers(), card) - 1].length > 1;
    say(`Card ${label(card)} is ${ordinal(placeOf(tiers(), card))}${tied ? ", tied" : ""}.`);
  };

  const act = (action, more = {}) => {
    const { id } = model.get("question");
    if (model.get("busy") || (action !== "undo" && id === undefined)) return;
    refocus = board.contains(document.activeElement);
    const noted = action !== "undo" && draft().note !== null ? { note: draft().note } : {};
    model.send({ action, question: id, ...more, ...noted });
  };
  const prefer = (card) => act("submit", { tiers: [[card], [1 - card]] });
  const callBad = () => act("submit", { tiers: [cards.map((_, i) => i)], all_bad: true });
  const flagIt = () => {
    const flagged = draft().note !== null;
    change({ note: flagged ? null : "" });
    if (!flagged) note.focus();
  };

  const move = (card, next, pressed = null, picks = []) => {
    change({ tiers: next, picks });
    sayPlace(card);
    // A button pressed by key keeps the focus, to be pressed again; else keys go on with the card.
    if (pressed && !pressed.disabled) pressed.focus();
    else cards[card]?.focus();
  };
  const pickCard = (card) => {
    const next = pick(tiers(), draft().picks, card);
    move(card, next.tiers, null, next.picks);
  };
  const tieCard = (card, pressed = null) =>  // a tie of the last one picked: picking goes on below it
    move(card, toggleTie(tiers(), card), pressed, draft().picks.at(-1) === card ? draft().picks : []);

  const makeCard = (text, card, all) => {
    const rank = el("span", "lab-rank");
    const key = el("kbd", "lab-label", { "aria-hidden": "true" });
    key.textContent = all.length === 2 ? "AB"[card] : card + 1;
    const body = el("div", "lab-text", { dir: "auto" });
    body.textContent = text;
    const tool = (label, sign, go) => button(label, "lab-small",
      (event) => go(event.detail === 0 ? event.currentTarget : null), sign);
    const tools = el("span", "lab-tools");
    if (all.length === 2) tools.append(button(`${"AB"[card]} is better`, "lab-button lab-better", () => prefer(card)));
    else tools.append(
      tool("Move up", "↑", (pressed) => move(card, moveBy(tiers(), card, -1), pressed)),
      tool("Move down", "↓", (pressed) => move(card, moveBy(tiers(), card, 1), pressed)),
      tool("Tie with above", "=", (pressed) => tieCard(card, pressed)));
    const node = el("li", "lab-card", { tabindex: "0" }, rank, key, body, tools);
    node.dataset.card = card;
    node.addEventListener("keydown", (event) => onCardKey(event, card));
    return node;
  };

  const onCardKey = (event, card) => {
    if (event.target !== cards[card] || event.ctrlKey || event.metaKey) return;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key] ?? (isTwo() ? { ArrowLeft: -1, ArrowRight: 1 }[event.key] : 0);
    const shown = order();
    if (step && event.altKey && !isTwo()) move(card, moveBy(tiers(), card, step));
    else if (step) cards[(isTwo() ? [0, 1] : shown)[(isTwo() ? card : shown.indexOf(card)) + step]]?.focus();
    else if ((event.key === "t" || event.key === "=") && !isTwo()) tieCard(card);
    else if (event.key === "PageDown" || event.key === "PageUp") {
      const text = cards[card].querySelector(".lab-text");
      text.scrollBy(0, (event.key === "PageDown" ? 0.9 : -0.9) * text.clientHeight);
    } else return;
    event.preventDefault();
  };

  const leave = () => {  // Escape: what is open closes, then an edit is left
    if (isUnfolded(model, "help")) unfold(model, "help", false);
    else if (isUnfolded(model, "earlier")) unfold(model, "earlier", false);
    else if (model.get("question").edits) act("undo");
  };
  const ACTIONS = { Enter: () => isTwo() || submit.click(), s: () => act("skip"), u: () => act("undo"), x: callBad, f: flagIt,
    e: () => toggle("earlier"), g: () => toggle("guidelines"), "?": openHelp, Escape: leave };
  const TWO = { a: () => prefer(0), 1: () => prefer(0), b: () => prefer(1), 2: () => prefer(1), t: () => tie.click(), "=": () => tie.click() };

  board.addEventListener("keydown", (event) => {
    event.stopPropagation();  // else JupyterLab takes the key: `b` would insert a cell
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    if (event.target.tagName === "BUTTON" && event.key === "Enter") return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const card = isTwo() ? -1 : "123456789".indexOf(key);
    const action = (isTwo() && TWO[key]) || ACTIONS[key] || (card >= 0 && card < cards.length && (() => pickCard(card)));
    if (action && (cards.length || "e?gu".includes(key) || key === "Escape")) { event.preventDefault(); action(); }
  });
  note.addEventListener("input", () => change({ note: note.value }));
  note.addEventListener("keydown", (event) => {
    if (event.key === "Escape" || event.key === "Enter") { event.preventDefault(); cards[order()[0]]?.focus(); }
  });

  const drag = makeDrag(list, {
    card: (index) => cards[index],
    tiers,
    locked: isTwo,
    place: (next) => change({ tiers: next, picks: [] }),
    dropped: sayPlace,
  });

  // --- the model moves the view

  const onQuestion = () => {
    drag.forget();
    const question = model.get("question");
    const { completions = [], edits = false } = question;
    prompt.textContent = question.prompt ?? "";
    const hadFocus = refocus || list.contains(document.activeElement);
    cards = completions.map(makeCard);
    prompt.hidden = list.hidden = hint.hidden = !cards.length;
    notice.hidden = !edits;
    notice.textContent = "You are changing an earlier ranking. What you send replaces it.";
    submit.textContent = edits ? "Replace ranking" : "Submit ranking";
    undo.textContent = edits ? "Go back" : "Undo";
    for (const node of [submit, undo]) node.setAttribute("aria-label", node.textContent);
    allBad.textContent = isTwo() ? "Both bad" : "All bad";
    allBad.setAttribute("aria-label", allBad.textContent);
    submit.hidden = isTwo();
    tie.hidden = !isTwo();
    list.classList.toggle("lab-two", isTwo());
    list.setAttribute("aria-label", isTwo() ? "Two completions" : "Completions, best first");
    list.replaceChildren();
    onDraft();
    if (hadFocus && cards.length) cards[isTwo() ? 0 : order()[0]]?.focus({ preventScroll: true });
    refocus = false;
    hint.replaceChildren(...[...keysOf(cards.length), ["?", "help"]].map(keyRow));
    help.draw(cards.length);
  };

  const onSize = () => cards.forEach(markLong);

  const drawTwo = () => {
    const [best = []] = tiers(), { ranked = false } = model.get("question");
    cards.forEach((node, card) => {
      const chosen = ranked && best.length === 1 && best[0] === card;
      node.classList.toggle("lab-chosen", chosen);
      node.setAttribute("aria-label", `${label(card)}${chosen ? ", was better" : ""}: ${node.querySelector(".lab-text").textContent}`);
    });
  };

  const drawOrder = () => tiers().forEach((tier, i) => tier.forEach((card, j) => {
    const node = cards[card], { picks } = draft();
    if (!node) return;
    const picked = picks.includes(card) || picks.length === cards.length - 1;
    const rank = ordinal(placeOf(tiers(), card));
    node.querySelector(".lab-rank").textContent = rank;
    node.classList.toggle("lab-tied", j > 0);
    node.classList.toggle("lab-joined", j < tier.length - 1);
    node.classList.toggle("lab-picked", picked);
    const [up, down, tied] = node.querySelectorAll(".lab-small");
    up.disabled = i === 0 && tier.length === 1;
    down.disabled = i === tiers().length - 1 && tier.length === 1;
    tied.setAttribute("aria-pressed", String(j > 0));
    tied.disabled = i === 0 && j === 0;
    const state = `${tier.length > 1 ? ", tied" : ""}${picked ? ", picked" : ""}`;
    node.setAttribute("aria-label", `Card ${label(card)}, ${rank}${state}: ${node.querySelector(".lab-text").textContent}`);
  }));

  const onDraft = () => {
    const focused = document.activeElement;
    (isTwo() ? [0, 1] : order()).forEach((card, i) => {
      if (cards[card] && list.children[i] !== cards[card]) list.insertBefore(cards[card], list.children[i] ?? null);
    });
    if (list.contains(focused)) focused.focus({ preventScroll: true });
    if (isTwo()) drawTwo();
    else drawOrder();
    const flagged = draft().note !== null;
    flag.setAttribute("aria-pressed", String(flagged));
    note.hidden = !flagged || !cards.length;
    if (document.activeElement !== note) note.value = draft().note ?? "";
    onSize();
  };

  const onState = () => {
    const done = model.get("done"), goal = model.get("goal"), busy = model.get("busy");
    fill.style.width = `${Math.min(100, (100 * done) / Math.max(1, goal))}%`;
    bar.setAttribute("aria-valuemax", goal);
    bar.setAttribute("aria-valuenow", Math.min(done, goal));
    count.textContent = `${done} of ${goal}`;
    pace.textContent = model.get("pace") ?? "";
    board.classList.toggle("lab-busy", busy);
    board.setAttribute("aria-busy", String(busy));
    for (const node of [submit, tie, allBad, flag, skip]) node.disabled = busy || !cards.length;
    list.querySelectorAll(".lab-better").forEach((node) => { node.disabled = busy; });
    undo.disabled = busy;
  };

  const onStatus = () => {
    if (status.textContent !== model.get("status")) say(model.get("status"));
    status.classList.toggle("lab-alert", model.get("alert"));
  };

  const onFold = () => {
    const wasIn = help.node.contains(document.activeElement);
    help.draw(cards.length);
    guidelines.draw();
    earlier.draw();
    footer.draw();
    if (wasIn && help.node.hidden) (board.contains(opener) ? opener : cards[order()[0]])?.focus();
  };

  const listeners = {
    "change:question": () => { onQuestion(); onState(); },
    "change:drafts": onDraft, "change:status": onStatus, "change:alert": onStatus,
    "change:unfolded": onFold, "change:guidelines": guidelines.draw, "change:earlier": earlier.draw,
    "change:guess": guess.draw, "change:agreement": guess.draw, "change:summary": summary.draw,
  };
  for (const name of ["done", "goal", "busy", "pace"]) listeners[`change:${name}`] = onState;
  for (const name of ["rater", "ask", "asking"]) listeners[`change:${name}`] = footer.draw;
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  if (!model.get("unfolded")) model.set("unfolded", { guidelines: Boolean(model.get("guidelines")) });
  onQuestion();
  onState();
  onStatus();
  onFold();
  guess.draw();
  summary.draw();
  const resized = new ResizeObserver(onSize);
  resized.observe(list);
  return () => {
    resized.disconnect();
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };

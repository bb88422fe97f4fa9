// The token lens, part 3 of 5: the completion as a row of tokens, each shaded by a number of its own,
// and how a person moves in it, by keys and by pointer.

// The nearest token on the line above or below.
const onNextLine = (nodes, i, down) => {
  const from = nodes[i].getBoundingClientRect(), centre = from.left + from.width / 2;
  const boxes = nodes.map((node, j) => ({ j, box: node.getClientRects()[0] }))
    .filter(({ box }) => box && (down ? box.top > from.top + 4 : box.top < from.top - 4));
  if (!boxes.length) return undefined;
  const next = (down ? Math.min : Math.max)(...boxes.map(({ box }) => box.top));
  const distance = ({ box }) => Math.abs(box.left + box.width / 2 - centre);
  const onIt = boxes.filter(({ box }) => Math.abs(box.top - next) < 4);
  return onIt.sort((a, b) => distance(a) - distance(b))[0].j;
};

// Where a key leads from token i; null if it is no key of the row.
const keyLeadsTo = (key, nodes, i) => {
  if (key === "ArrowDown" || key === "ArrowUp") return onNextLine(nodes, i, key === "ArrowDown");
  return { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: nodes.length - 1 }[key] ?? null;
};

const shadeToken = (node, text, name, x, full, binds) => {
  const share = Math.min(1, Math.abs(x ?? 0) / full);
  node.style.setProperty("--share", `${Math.round(100 * share)}%`);
  node.classList.toggle("lab-lens-above", x > 0 && share > 0.02);
  node.classList.toggle("lab-lens-below", x < 0 && share > 0.02);
  node.classList.toggle("lab-lens-clipped", binds);
  node.dataset.number = inWords(name, x);
  const words = `${visible(text)}, ${MEASURES[name][0]} ${inWords(name, x)}`;
  node.setAttribute("aria-label", words + (binds ? ", the clip binds" : ""));
};

// `set` puts a choice into the model, `ask` asks for the likeliest tokens, `inspect` draws the numbers.
const makeRow = (model, reading, { set, ask, inspect }) => {
  const list = el("div", "lab-lens-tokens", { role: "listbox",
    "aria-label": "Tokens of the completion", "aria-orientation": "horizontal" });
  let nodes = [], peeked = null;

  const fill = () => {
    const { texts } = reading.kept();
    peeked = null;
    nodes = texts.map((text, i) => {
      const node = el("span", "lab-lens-token", { role: "option", dir: "auto", "data-token": i });
      node.textContent = inText(text);
      return node;
    });
    const broken = (node, i) => (texts[i].includes("\n") ? [node, el("br")] : [node]);
    list.replaceChildren(...nodes.flatMap(broken));
  };
  const shade = (name, moment) => nodes.forEach((node, i) => {
    const binds = Boolean(moment?.clipped[i]), x = reading.valueOf(name, i, moment);
    shadeToken(node, reading.kept().texts[i], name, x, reading.full(), binds);
  });
  const selected = () => Math.min(model.get("token"), nodes.length - 1);
  const select = () => nodes.forEach((node, i) => {
    node.tabIndex = i === selected() ? 0 : -1;
    node.setAttribute("aria-selected", String(i === selected()));
  });

  const choose = (i) => {
    if (i === undefined || !nodes[i]) return;
    peeked = null;
    set("token", i);
    nodes[i].focus();
    ask();
    inspect();
  };
  const tokenOf = (event) => event.target.closest?.("[data-token]")?.dataset.token;
  list.addEventListener("click", (event) => { if (tokenOf(event)) choose(Number(tokenOf(event))); });
  list.addEventListener("focusin", (event) => {  // by a screen reader's own way as well
    const i = tokenOf(event);
    if (i !== undefined && Number(i) !== selected()) set("token", Number(i));
    ask();
    inspect();
  });
  list.addEventListener("mousemove", (event) => {  // not where keys scroll a token under the pointer
    const i = tokenOf(event);
    if (!i || Number(i) === peeked || !(event.movementX || event.movementY)) return;
    peeked = Number(i);
    ask();
    inspect();
  });
  list.addEventListener("mouseleave", () => { peeked = null; inspect(); });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const to = keyLeadsTo(event.key, nodes, Number(tokenOf(event) ?? model.get("token")));
    if (to === null) return;
    event.preventDefault();
    choose(to);
  });

  const focus = () => nodes[model.get("token")]?.focus({ preventScroll: true });
  return { list, fill, shade, select, focus, pointedAt: () => peeked ?? selected() };
};

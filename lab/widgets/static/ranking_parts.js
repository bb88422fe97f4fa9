// The ranking board, part 3 of 4: what stands around the cards. Text of models and of people enters
// the page through textContent alone. What is unfolded is kept in the page's model, as `unfolded`, so
// that two views of one board agree.

const button = (label, className, onClick, text = label) => {
  const node = el("button", className, { type: "button", "aria-label": label });
  node.textContent = text;
  node.addEventListener("click", onClick);
  return node;
};

// Text that scrolls can be reached and scrolled by keys.
const markLong = (card) => {
  const text = card.querySelector(".lab-text");
  const long = text.scrollHeight > text.clientHeight + 1;
  text.classList.toggle("lab-long", long);
  if (!long) ["tabindex", "role", "aria-label"].forEach((name) => text.removeAttribute(name));
  else if (!text.hasAttribute("tabindex")) {
    text.tabIndex = 0;
    text.setAttribute("role", "group");
    text.setAttribute("aria-label", "Long completion, scrolls");
  }
};

const isUnfolded = (model, name) => Boolean((model.get("unfolded") ?? {})[name]);
const unfold = (model, name, open) =>
  model.set("unfolded", { ...model.get("unfolded"), [name]: open });

const keysOf = (k) => k === 2
  ? [["a", "the left one is better"], ["b", "the right one is better"], ["t", "a tie"],
    ["x", "both bad"], ["s", "skip"], ["u", "undo"]]
  : [[`1–${k}`, "pick in order, best first"], ["t", "tie with above"], ["Enter", "submit"],
    ["x", "all bad"], ["s", "skip"], ["u", "undo"]];

const MORE = [["f", "flag, with a note"], ["e", "earlier rankings"], ["g", "guidelines"],
  ["?", "this help"], ["Esc", "close, go back"]];
const MOVES = [["↑ ↓", "choose a card"], ["Alt+↑ ↓", "move it"], ["PgUp PgDn", "scroll a long text"]];

const keyRow = ([key, what]) => {
  const kbd = el("kbd");
  kbd.textContent = key;
  return el("span", "lab-key", {}, kbd, ` ${what}`);
};

const makeHelp = (model) => {
  const list = el("div", "lab-keys");
  const words = el("p");
  const close = button("Close help", "lab-button", () => unfold(model, "help", false), "Close");
  const node = el("div", "lab-help", { role: "dialog", "aria-label": "Help for the ranking board" },
    el("strong", "", {}, "How to rank"), words, list, close);
  const draw = (k) => {
    node.hidden = !isUnfolded(model, "help");
    const two = k === 2;
    words.textContent = two
      ? "Choose the better one; a key or a click answers at once."
      : "Best on top. Press the numbers on the cards in order of preference: for 3, 1, 4, 2 card 3 is "
        + "the best. A number pressed again starts anew from the top. Or drag the cards, or move the "
        + "one in focus. Cards you like equally go into one tier.";
    words.textContent += " Every answer is kept at once, and can be undone or changed later.";
    list.replaceChildren(...[...keysOf(k), ...(two ? MOVES.slice(2) : MOVES), ...MORE].map(keyRow));
  };
  return { node, close, draw };
};

const makeGuess = (model) => {
  const words = el("p", "lab-words"), sofar = el("p", "lab-words");
  const body = el("tbody"), from = el("p", "lab-words");
  const head = el("tr", "", {}, ...["you", "model", "completion"].map((name) =>
    el("th", "", { scope: "col" }, name)));
  const table = el("table", "", {}, el("thead", "", {}, head), body);
  const node = el("section", "lab-guess", { "aria-label": "The reward model's guess" },
    el("strong", "", {}, "Your last ranking"), words, table, from, sofar);
  const draw = () => {
    const { words: said = "", rows = [], policy = "" } = model.get("guess") ?? {};
    node.hidden = !said;
    words.textContent = said;
    sofar.textContent = rows.length ? model.get("agreement") : "";
    from.textContent = policy ? `Written by the policy: ${policy}.` : "";
    table.hidden = !rows.length;
    const ordered = new Set(rows.map(([yours]) => yours)).size > 1;
    body.replaceChildren(...rows.map(([yours, its, text]) => {
      const row = el("tr", ordered && yours === its ? "lab-agreed" : "");
      for (const value of [yours, its, text]) row.append(Object.assign(el("td"), { textContent: value }));
      row.lastChild.dir = "auto";
      return row;
    }));
  };
  return { node, draw };
};

const makeGuidelines = (model) => {
  const text = el("div", "lab-guidelines-text", { dir: "auto" });
  const field = el("textarea", "", { rows: 8, maxlength: 20000, "aria-label": "Guidelines for raters" });
  const writes = (open) => () => unfold(model, "writing", open);
  const save = button("Save guidelines", "lab-button", () => {
    model.set("guidelines", field.value);
    model.save_changes();
    writes(false)();
    edit.focus();
  }, "Save");
  const cancel = button("Cancel", "lab-button", () => { writes(false)(); edit.focus(); });
  const edit = button("Edit guidelines", "lab-button", () => { writes(true)(); field.focus(); }, "Edit");
  const form = el("div", "lab-form", {}, field, save, cancel);
  const node = el("aside", "lab-guidelines", { "aria-label": "Guidelines" },
    el("strong", "", {}, "Guidelines"), text, edit, form);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cancel.click();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save.click();
  });
  const draw = () => {
    const writing = isUnfolded(model, "writing");
    node.hidden = !isUnfolded(model, "guidelines");
    if (writing && form.hidden) field.value = model.get("guidelines");
    form.hidden = !writing;
    text.hidden = edit.hidden = writing;
    text.textContent = model.get("guidelines") || "None yet. Say what raters should look for.";
  };
  form.hidden = true;
  return { node, draw };
};

const makeEarlier = (model, onPick) => {
  const list = el("ol", "lab-list");
  const none = el("p", "lab-words", {}, "Nothing was ranked yet.");
  const close = button("Close earlier rankings", "lab-button", () => unfold(model, "earlier", false), "Close");
  const node = el("section", "lab-earlier", { "aria-label": "Earlier rankings" },
    el("strong", "", {}, "Earlier rankings, newest first: choose one to change it"), none, list, close);
  const draw = () => {
    const rows = model.get("earlier") ?? [];
    node.hidden = !isUnfolded(model, "earlier");
    none.hidden = rows.length > 0;
    list.replaceChildren(...rows.map(({ id, prompt, marks, created }) => {
      const when = new Date(created * 1000).toLocaleString();
      const entry = el("button", "lab-entry", { type: "button" });
      entry.addEventListener("click", () => onPick(id));
      const name = el("span", "lab-entry-prompt", { dir: "auto" }), note = el("span", "lab-entry-marks");
      name.textContent = prompt;
      note.textContent = [...marks, when].join(" · ");
      entry.append(name, note);
      return el("li", "", {}, entry);
    }));
  };
  return { node, draw };
};

const makeFooter = (model, openHelp, toggle) => {
  const name = el("input", "", { type: "text", maxlength: 60, size: 10, "aria-label": "Rater" });
  const ask = el("select", "", { "aria-label": "Next question" },
    el("option", "", { value: "random" }, "at random"),
    el("option", "", { value: "unsure" }, "where the model is unsure"));
  const words = el("p", "lab-words lab-asking");
  const folds = {
    guidelines: button("Guidelines", "lab-button", () => toggle("guidelines")),
    earlier: button("Earlier rankings", "lab-button", () => toggle("earlier"), "Earlier"),
    help: button("Help", "lab-button", openHelp, "?"),
  };
  const send = (trait, value) => { model.set(trait, value); model.save_changes(); };
  name.addEventListener("change", () => send("rater", name.value));
  name.addEventListener("keydown", (event) => { if (event.key === "Enter") name.blur(); });
  ask.addEventListener("change", () => send("ask", ask.value));
  const node = el("div", "lab-footer", {},
    el("label", "", {}, "Rater ", name), el("label", "", {}, "Next question ", ask),
    el("span", "lab-folds", {}, ...Object.values(folds)), words);
  const draw = () => {
    if (document.activeElement !== name) name.value = model.get("rater") ?? "";
    ask.value = model.get("ask") ?? "random";
    words.textContent = model.get("asking") ?? "";
    words.hidden = !words.textContent;
    for (const [part, node] of Object.entries(folds))
      node.setAttribute("aria-expanded", String(isUnfolded(model, part)));
  };
  return { node, draw };
};

const makeSummary = (model) => {
  const list = el("ul");
  const node = el("section", "lab-summary", { "aria-label": "Summary" },
    el("strong", "", {}, "What you have done"), list);
  const draw = () => {
    const lines = model.get("summary") ?? [];
    node.hidden = !lines.length;
    list.replaceChildren(...lines.map((line) => Object.assign(el("li"), { textContent: line })));
  };
  return { node, draw };
};

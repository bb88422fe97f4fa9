// The token lens: a completion as a row of tokens, each shaded by a number of its own. What a person
// chose lives in the model, so that two views agree. Model text enters as text nodes alone.

const el = (tag, className, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const MEASURES = {  // name in the record: [label, what negative means, what positive means]
  kl: ["KL to the reference (log-ratio)", "less likely than under the reference", "more likely"],
  advantages: ["advantage", "worse than expected", "better"],
  values: ["value", "lower", "higher"],
  rewards: ["reward", "costs", "pays"],
  returns: ["return", "lower", "higher"],
  ratio: ["ratio new / old", "made less likely", "more likely"],
};

// --- text and numbers: pure functions -----------------------------------------------------------

const MARKS = { " ": "␣", "\n": "⏎", "\t": "⇥" };
const HIDDEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const code = (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

// A token by itself: white space and what cannot be seen have signs.
export const visible = (text) =>
  text === "" ? "▯" : text.replace(/[ \n\t]/g, (c) => MARKS[c]).replace(HIDDEN, code);

// A token in its text: spaces between words stay spaces.
export const inText = (text) =>
  text.trim() === "" ? visible(text) : text.replace(/[\n\t]/g, (c) => MARKS[c]).replace(HIDDEN, code);

export const signed = (x) =>
  x === 0 ? "0" : (x > 0 ? "+" : "−") + (Math.abs(x) < 1e-3 ? Math.abs(x).toExponential(1) : Math.abs(x).toPrecision(3));
const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
const shortened = (text, length = 60) => (text.length > length ? text.slice(0, length) + "…" : text);

// --- the view -----------------------------------------------------------------------------------

function render({ model, el: root }) {
  const labelled = (words, control) => el("label", "lab-lens-control", {}, words, control);
  const update = el("input", "", { type: "number", step: 1 });
  const sample = el("select");
  const measure = el("select");
  const stage = el("input", "", { type: "range", min: 0, step: 1 });
  const moment = el("output");
  const digits = el("input", "", { type: "checkbox" });
  const controls = el("div", "lab-lens-controls", {},
    labelled("update", update), labelled("sample", sample), labelled("shade by", measure),
    el("span", "lab-lens-control", {}, labelled("moment", stage), moment), labelled("numbers", digits));
  const prompt = el("div", "lab-lens-prompt", { dir: "auto" });
  const list = el("div", "lab-lens-tokens", { role: "listbox", "aria-label": "Tokens of the completion", "aria-orientation": "horizontal" });
  const [low, middle, high, lowWords, highWords, clip] = Array.from({ length: 6 }, () => el("span"));
  const legend = el("div", "lab-lens-legend", {},
    el("span", "lab-lens-low", {}, lowWords), low, el("span", "lab-lens-bar", { "aria-hidden": "true" }), high,
    el("span", "lab-lens-high", {}, highWords), middle, clip);
  const line = el("p", "lab-lens-line", { role: "status", "aria-live": "polite" });
  const numbers = el("table", "lab-lens-numbers", { "aria-label": "Numbers of the token" });
  const tables = el("div", "lab-lens-tables");
  const body = el("div", "", {}, prompt, list, legend, line, el("div", "lab-lens-inspector", {}, numbers, tables));
  const status = el("p", "lab-lens-status", { role: "status" });
  const lens = el("div", "lab-lens", { role: "group", "aria-label": "Token lens" }, controls, body, status);
  root.append(lens);

  let nodes = [], peeked = null, asked = false;
  const record = () => model.get("record");
  const kept = () => record().rows?.[model.get("row")];
  const epochs = () => record().clipfrac?.length ?? 0;
  const likely = () => {
    const found = model.get("likely");
    return found.update === record().update && found.row === model.get("row") ? found : null;
  };
  const set = (name, value) => {
    if (model.get(name) === value) return;
    model.set(name, value);
    model.save_changes();
  };

  // Log-ratios and clips of the chosen moment; null while those of now are not here yet.
  const atStage = () => {
    const at = model.get("stage"), own = kept();
    if (at === 0) return { ratios: own.ids.map(() => 0), clipped: own.ids.map(() => 0) };
    if (at <= epochs()) return { ratios: own.log_ratios[at - 1], clipped: own.clipped[at - 1] };
    const found = likely();
    return found && { ratios: found.log_ratios, clipped: found.clipped };
  };
  const there = () => Object.keys(MEASURES).filter((name) => name === "ratio" || name in kept());
  const chosen = () => (there().includes(model.get("measure")) ? model.get("measure") : "kl");
  const valueOf = (name, i, moment) => (name === "ratio" ? moment?.ratios[i] : kept()[name]?.[i]);
  const inWords = (name, x) => (x === undefined ? "…" : name === "ratio" ? Math.exp(x).toFixed(3) : signed(x));
  const momentName = () => {
    const at = model.get("stage");
    if (at === 0) return "before the update";
    return at <= epochs() ? `epoch ${at} of ${epochs()}` : likely() ? `now, after update ${likely().at}` : "now…";
  };

  const ask = () => {
    if (!kept() || likely() || asked) return;
    asked = true;
    model.send({ action: "likely", row: model.get("row") });
  };

  // --- from the model to the page

  const onRecord = () => {
    const { first, last, update: number, samples = [] } = record();
    asked = false;
    controls.hidden = number === undefined;
    body.hidden = !record().rows?.length;
    [...controls.children].slice(1).forEach((node) => { node.hidden = body.hidden; });
    Object.assign(update, { min: first, max: last });
    update.value = number ?? "";
    if (body.hidden) return;
    sample.replaceChildren(...samples.map(({ score }, i) => new Option(`${i + 1} of ${samples.length} · score ${signed(score)}`, i)));
    measure.replaceChildren(...there().map((name) => new Option(MEASURES[name][0], name)));
    stage.max = epochs() + 1;
    onRow();
  };

  const onRow = () => {
    if (!kept()) return;
    const hadFocus = list.contains(document.activeElement);
    asked = false;
    peeked = null;
    sample.value = model.get("row");
    prompt.textContent = record().samples[model.get("row")].prompt;
    nodes = kept().texts.map((text, i) => {
      const node = el("span", "lab-lens-token", { role: "option", dir: "auto", "data-token": i });
      node.textContent = inText(text);
      return node;
    });
    list.replaceChildren(...nodes.flatMap((node, i) => (kept().texts[i].includes("\n") ? [node, el("br")] : [node])));
    onShade();
    onToken();
    if (hadFocus) nodes[model.get("token")]?.focus({ preventScroll: true });
  };

  const onShade = () => {
    if (!kept()) return;
    const moment_ = atStage(), name = chosen();
    const full = record().scales[name === "ratio" ? "log_ratios" : name] || 1;
    if (!moment_) ask();
    nodes.forEach((node, i) => {
      const x = valueOf(name, i, moment_), share = Math.min(1, Math.abs(x ?? 0) / full);
      const binds = Boolean(moment_?.clipped[i]);
      node.style.setProperty("--share", `${Math.round(100 * share)}%`);
      node.classList.toggle("lab-lens-above", x > 0 && share > 0.02);
      node.classList.toggle("lab-lens-below", x < 0 && share > 0.02);
      node.classList.toggle("lab-lens-clipped", binds);
      node.dataset.number = inWords(name, x);
      node.setAttribute("aria-label", `${visible(kept().texts[i])}, ${MEASURES[name][0]} ${inWords(name, x)}${binds ? ", the clip binds" : ""}`);
    });
    measure.value = name;
    stage.value = model.get("stage");
    moment.textContent = momentName();
    stage.setAttribute("aria-valuetext", momentName());
    const ends = name === "ratio" ? [Math.exp(-full).toFixed(2), "1", Math.exp(full).toFixed(2)] : [signed(-full), "0", signed(full)];
    [low.textContent, , high.textContent] = ends;
    middle.textContent = `no colour: ${ends[1]}`;
    [, lowWords.textContent, highWords.textContent] = MEASURES[name];
    clip.textContent = shareOfClip(moment_);
    clip.className = "lab-lens-clip-words";
    onInspect();
  };

  const shareOfClip = (moment_) => {
    const at = model.get("stage"), { clipfrac } = record();
    if (at === 0 || !moment_) return "outlined: the clip binds";
    if (at > epochs()) return `outlined: the clip would bind, at ${moment_.clipped.filter(Boolean).length} of ${nodes.length} tokens of this sample`;
    const all = clipfrac.length > 8 ? [clipfrac[at - 1]] : clipfrac;
    const words = all.length === 1 ? percent(all[0]) : all.map((share, i) => `epoch ${i + 1} ${percent(share)}`).join(", ");
    return `outlined: the clip binds (of the update's tokens: ${words})`;
  };

  const onToken = () => {
    const at = Math.min(model.get("token"), nodes.length - 1);
    nodes.forEach((node, i) => {
      node.tabIndex = i === at ? 0 : -1;
      node.setAttribute("aria-selected", String(i === at));
    });
    onInspect();
  };

  const onInspect = () => {
    if (!kept()) return;
    const i = peeked ?? Math.min(model.get("token"), nodes.length - 1), own = kept(), moment_ = atStage();
    const probability = (logprob) => `${logprob.toFixed(3).replace("-", "−")} (${percent(Math.exp(logprob))})`;
    const rows = [
      ["token", `${shortened(visible(own.texts[i]))} (id ${own.ids[i]})`],
      ["log-prob, policy at sampling", probability(own.logprobs[i])],
      ["log-prob, reference", probability(own.reference[i])],
      ...there().map((name) =>
        [MEASURES[name][0] + (name === "ratio" ? `, ${momentName()}` : ""), inWords(name, valueOf(name, i, moment_))]),
      ["clip binds", moment_ ? (moment_.clipped[i] ? "yes: no gradient from this token" : "no") : "…"],
    ];
    numbers.replaceChildren(...rows.map(([name, value]) => el("tr", "", {}, el("th", "", { scope: "row" }, name), el("td", "", {}, value))));
    const ratio = inWords("ratio", valueOf("ratio", i, moment_));
    const shaded = ["ratio", "kl"].includes(chosen()) ? "" : `, ${MEASURES[chosen()][0]} ${inWords(chosen(), own[chosen()]?.[i])}`;
    line.textContent = `Token ${i + 1} of ${nodes.length}: ${shortened(visible(own.texts[i]))} · KL ${signed(own.kl[i])}${shaded}, ratio ${ratio}${moment_?.clipped[i] ? ", the clip binds" : ""}`;
    onLikely(i);
  };

  const onLikely = (i) => {
    const found = likely(), id = kept().ids[i];
    if (!found) {
      const words = asked ? "Finding the likeliest tokens in this place…" : "Point at a token, or move to it by key, for the likeliest ones in its place.";
      return tables.replaceChildren(el("p", "", {}, words));
    }
    const table = (title, { likely: rows, logprob }) => {
      const out = el("table", "lab-lens-likely", {}, el("caption", "", {}, title));
      const all = rows.some((row) => row.id === id) ? rows : [...rows, { id, token: kept().texts[i], probability: Math.exp(logprob) }];
      for (const { id: own, token, probability } of all) {
        const text = el("th", "", { scope: "row", dir: "auto" }, shortened(visible(token), 24));
        const chance = el("td", "", { style: `--share: ${100 * probability}%` }, percent(probability));
        out.append(el("tr", "", {}, text, chance, el("td", "", {}, own === id ? "← sampled" : "")));
      }
      return out;
    };
    tables.replaceChildren(
      table(`Likeliest under the policy now, after update ${found.at}`, found.policy[i]),
      table("Likeliest under the reference", found.reference[i]),
    );
  };

  const onStatus = () => {
    status.textContent = model.get("status");
    status.classList.toggle("lab-lens-alert", model.get("alert"));
    if (model.get("alert")) asked = false;
  };

  // --- from a person to the model

  const choose = (i) => {
    if (i === undefined || !nodes[i]) return;
    peeked = null;
    set("token", i);
    nodes[i].focus();
    ask();
    onInspect();
  };
  const tokenOf = (event) => event.target.closest?.("[data-token]")?.dataset.token;
  list.addEventListener("click", (event) => { if (tokenOf(event)) choose(Number(tokenOf(event))); });
  list.addEventListener("focusin", () => { ask(); onInspect(); });
  list.addEventListener("mousemove", (event) => {  // not where keys scroll a token under the pointer
    if (!tokenOf(event) || Number(tokenOf(event)) === peeked || !(event.movementX || event.movementY)) return;
    peeked = Number(tokenOf(event));
    ask();
    onInspect();
  });
  list.addEventListener("mouseleave", () => { peeked = null; onInspect(); });

  // The nearest token on the line above or below.
  const onNextLine = (i, down) => {
    const from = nodes[i].getBoundingClientRect(), centre = from.left + from.width / 2;
    const boxes = nodes.map((node, j) => ({ j, box: node.getClientRects()[0] }))
      .filter(({ box }) => box && (down ? box.top > from.top + 4 : box.top < from.top - 4));
    if (!boxes.length) return undefined;
    const next = (down ? Math.min : Math.max)(...boxes.map(({ box }) => box.top));
    const distance = ({ box }) => Math.abs(box.left + box.width / 2 - centre);
    return boxes.filter(({ box }) => Math.abs(box.top - next) < 4).sort((a, b) => distance(a) - distance(b))[0].j;
  };
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const i = Number(tokenOf(event) ?? model.get("token"));
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: nodes.length - 1 }[event.key]
      ?? (event.key === "ArrowDown" ? onNextLine(i, true) : event.key === "ArrowUp" ? onNextLine(i, false) : null);
    if (to === null) return;
    event.preventDefault();
    choose(to);
  });
  lens.addEventListener("keydown", (event) => event.stopPropagation());  // or JupyterLab takes them
  update.addEventListener("change", () => {
    if (update.value && update.reportValidity()) model.send({ action: "show", update: Number(update.value) });
  });
  sample.addEventListener("change", () => { set("row", Number(sample.value)); });
  measure.addEventListener("change", () => set("measure", measure.value));
  stage.addEventListener("input", () => set("stage", Number(stage.value)));
  digits.addEventListener("change", () => list.classList.toggle("lab-lens-digits", digits.checked));

  const listeners = {
    "change:record": onRecord, "change:row": onRow, "change:measure": onShade, "change:stage": onShade,
    "change:token": onToken, "change:likely": () => { asked = false; onShade(); },
    "change:status": onStatus, "change:alert": onStatus,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  onRecord();
  onStatus();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };

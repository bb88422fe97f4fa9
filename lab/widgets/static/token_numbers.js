// The token lens, part 4 of 5: what the colours mean, and the numbers of one token.

const makeLegend = (reading) => {
  const [low, middle, high, lowWords, highWords, clip] = Array.from({ length: 6 }, () => el("span"));
  clip.className = "lab-lens-clip-words";
  const node = el("div", "lab-lens-legend", {},
    el("span", "lab-lens-low", {}, lowWords), low,
    el("span", "lab-lens-bar", { "aria-hidden": "true" }), high,
    el("span", "lab-lens-high", {}, highWords), middle, clip);
  const draw = (moment) => {
    const name = reading.chosen(), full = reading.full(), isRatio = name === "ratio";
    low.textContent = isRatio ? Math.exp(-full).toFixed(2) : signed(-full);
    high.textContent = isRatio ? Math.exp(full).toFixed(2) : signed(full);
    middle.textContent = `no colour: ${isRatio ? "1" : "0"}`;
    [, lowWords.textContent, highWords.textContent] = MEASURES[name];
    clip.textContent = reading.shareOfClip(moment);
  };
  return { node, draw };
};

const numbersOf = (reading, i, moment) => {
  const own = reading.kept();
  const label = (name) => MEASURES[name][0] + (name === "ratio" ? `, ${reading.momentName()}` : "");
  const binds = moment && (moment.clipped[i] ? "yes: no gradient from this token" : "no");
  return [
    ["token", `${shortened(visible(own.texts[i]))} (id ${own.ids[i]})`],
    ["log-prob, policy at sampling", probability(own.logprobs[i])],
    ["log-prob, reference", probability(own.reference[i])],
    ...reading.there().map((name) => [label(name), inWords(name, reading.valueOf(name, i, moment))]),
    ["clip binds", binds ?? "…"],
  ];
};

const lineOf = (reading, i, moment) => {
  const own = reading.kept(), name = reading.chosen();
  const words = [`KL ${signed(own.kl[i])}`];
  if (name !== "ratio" && name !== "kl")
    words.push(`${MEASURES[name][0]} ${inWords(name, own[name]?.[i])}`);
  words.push(`ratio ${inWords("ratio", reading.valueOf("ratio", i, moment))}`);
  if (moment?.clipped[i]) words.push("the clip binds");
  const token = shortened(visible(own.texts[i]));
  return `Token ${i + 1} of ${own.texts.length}: ${token} · ${words.join(", ")}`;
};

// The likeliest tokens in a place; the sampled one, `own`, stands last if it is none of them.
const likelyTable = (title, { likely: rows, logprob }, own) => {
  const table = el("table", "lab-lens-likely", {}, el("caption", "", {}, title));
  const sampled = { ...own, probability: Math.exp(logprob) };
  for (const { id, token, probability: p } of rows.some((row) => row.id === own.id) ? rows : [...rows, sampled]) {
    const text = el("th", "", { scope: "row", dir: "auto" }, shortened(visible(token), 24));
    const chance = el("td", "", { style: `--share: ${100 * p}%` }, percent(p));
    table.append(el("tr", "", {}, text, chance, el("td", "", {}, id === own.id ? "← sampled" : "")));
  }
  return table;
};

const likelyTables = (reading, i, asked) => {
  const found = reading.likely(), { ids, texts } = reading.kept(), own = { id: ids[i], token: texts[i] };
  if (!found) {
    const words = asked
      ? "Finding the likeliest tokens in this place…"
      : "Point at a token, or move to it by key, for the likeliest ones in its place.";
    return [el("p", "", {}, words)];
  }
  return [
    likelyTable(`Likeliest under the policy now, after update ${found.at}`, found.policy[i], own),
    likelyTable("Likeliest under the reference", found.reference[i], own),
  ];
};

const makeInspector = (reading) => {
  const line = el("p", "lab-lens-line", { role: "status", "aria-live": "polite" });
  const numbers = el("table", "lab-lens-numbers", { "aria-label": "Numbers of the token" });
  const tables = el("div", "lab-lens-tables");
  const node = el("div", "lab-lens-inspector", {}, numbers, tables);
  const draw = (i, asked) => {
    const moment = reading.atStage();
    numbers.replaceChildren(...numbersOf(reading, i, moment).map(([name, value]) =>
      el("tr", "", {}, el("th", "", { scope: "row" }, name), el("td", "", {}, value))));
    line.textContent = lineOf(reading, i, moment);
    tables.replaceChildren(...likelyTables(reading, i, asked));
  };
  return { line, node, draw };
};

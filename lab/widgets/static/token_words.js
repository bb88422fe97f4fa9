// The token lens, part 1 of 5: what is read and said, and how. Pure functions. Model text enters the
// page as text nodes alone.

const MEASURES = {  // name in the record: [label, what negative means, what positive means]
  kl: ["KL to the reference (log-ratio)", "less likely than under the reference", "more likely"],
  advantages: ["advantage", "worse than expected", "better"],
  values: ["value", "lower", "higher"],
  rewards: ["reward", "costs", "pays"],
  returns: ["return", "lower", "higher"],
  ratio: ["ratio new / old", "made less likely", "more likely"],
};

const MARKS = { " ": "␣", "\n": "⏎", "\t": "⇥" };
const HIDDEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const code = (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

// A token by itself: white space and what cannot be seen have signs.
const visible = (text) =>
  text === "" ? "▯" : text.replace(/[ \n\t]/g, (c) => MARKS[c]).replace(HIDDEN, code);

// A token in its text: spaces between words stay spaces.
const inText = (text) =>
  text.trim() === "" ? visible(text) : text.replace(/[\n\t]/g, (c) => MARKS[c]).replace(HIDDEN, code);

const shortened = (text, length = 60) => (text.length > length ? text.slice(0, length) + "…" : text);

const signed = (x) => {
  if (x === 0) return "0";
  const size = Math.abs(x);
  return (x > 0 ? "+" : "−") + (size < 1e-3 ? size.toExponential(1) : size.toPrecision(3));
};
const percent = (p) => (p > 0 && p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
const probability = (logprob) =>
  `${logprob.toFixed(3).replace("-", "−")} (${percent(Math.exp(logprob))})`;

// A number of a measure; log-ratios are read as ratios.
const inWords = (name, x) =>
  x === undefined ? "…" : name === "ratio" ? Math.exp(x).toFixed(3) : signed(x);

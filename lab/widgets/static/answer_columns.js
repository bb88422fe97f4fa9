// Answers in columns, side by side. Texts grow while they are written, so cards are filled in place.
// Model text enters the page through textContent alone. Uses compare_parts.js.

const MARK = "here it parts from the first column";

// What a card says: all of it, or what is shared with the first column, a mark, and the rest.
const parts = ({ text, same }) => {
  if (same === null || same === undefined) return [make("span", "", text)];
  const letters = Array.from(text);  // as the kernel counts them, not in UTF-16
  const mark = make("span", "lab-mark", "▸");
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", MARK);
  mark.title = MARK;
  return [
    make("span", "", letters.slice(0, same).join("")), mark,
    make("span", "lab-parted", letters.slice(same).join("")),
  ];
};

const makeCard = () => {
  const node = make("li", "lab-answer");
  const said = make("div", "lab-said");
  said.dir = "auto";
  const under = make("div", "lab-under");
  node.append(said, under);
  let known = "";
  const fill = (answer) => {
    const now = JSON.stringify(answer);
    if (now === known) return;
    known = now;
    const atEnd = said.scrollTop + said.clientHeight >= said.scrollHeight - 4;
    said.replaceChildren(...parts(answer));
    under.textContent = answer.under;
    if (answer.writing && atEnd) said.scrollTop = said.scrollHeight;
    onSize();
  };
  const onSize = () => reachable(said, "Long answer, scrolls");
  return { node, fill, onSize };
};

function render({ model, el }) {
  const root = make("div", "lab-columns");
  const prompt = make("div", "lab-asked");
  const grid = make("div", "lab-grid");
  prompt.dir = "auto";
  root.append(prompt, grid);
  el.append(root);
  let views = [], shape = "";

  const build = (columns) => {
    views = columns.map((column) => {
      const section = make("section", "lab-column");
      section.setAttribute("aria-label", column.title);
      const heading = make("h4", "", column.title);
      const note = make("div", "lab-under");
      const list = make("ul", "lab-answers");
      const cards = column.answers.map(makeCard);
      list.append(...cards.map((card) => card.node));
      section.append(heading, note, list);
      return { section, note, cards };
    });
    grid.replaceChildren(...views.map((view) => view.section));
  };

  const draw = () => {
    const columns = model.get("columns");
    const now = JSON.stringify(columns.map((column) => [column.title, column.answers.length]));
    if (now !== shape) { shape = now; build(columns); }
    columns.forEach((column, i) => {
      views[i].note.textContent = column.note;
      column.answers.forEach((answer, row) => views[i].cards[row].fill(answer));
    });
  };

  const onPrompt = () => {
    prompt.textContent = model.get("prompt");
    prompt.hidden = !model.get("prompt");
    onSize();
  };

  const onSize = () => {
    reachable(prompt, "Long prompt, scrolls");
    for (const view of views) view.cards.forEach((card) => card.onSize());
  };

  model.on("change:columns", draw);
  model.on("change:prompt", onPrompt);
  onPrompt();
  draw();
  const resized = new ResizeObserver(onSize);
  resized.observe(root);
  return () => {
    resized.disconnect();
    model.off("change:columns", draw);
    model.off("change:prompt", onPrompt);
  };
}

export default { render };

// The token lens, part 5 of 5: controls, and what moves when the model does. Model text enters the
// page as text nodes alone.

const makeControls = (model, set) => {
  const labelled = (words, control) => el("label", "lab-lens-control", {}, words, control);
  const update = el("input", "", { type: "number", step: 1 });
  const sample = el("select"), measure = el("select"), moment = el("output");
  const stage = el("input", "", { type: "range", min: 0, step: 1 });
  const digits = el("input", "", { type: "checkbox" });
  const node = el("div", "lab-lens-controls", {},
    labelled("update", update), labelled("sample", sample), labelled("shade by", measure),
    el("span", "lab-lens-control", {}, labelled("moment", stage), moment), labelled("numbers", digits));
  update.addEventListener("change", () => {
    if (update.value && update.reportValidity()) model.send({ action: "show", update: Number(update.value) });
  });
  sample.addEventListener("change", () => set("row", Number(sample.value)));
  measure.addEventListener("change", () => set("measure", measure.value));
  stage.addEventListener("input", () => set("stage", Number(stage.value)));

  const offer = (reading) => {
    const { first, last, update: number, samples = [], rows = [] } = reading.record();
    const none = !rows.length;
    node.hidden = number === undefined;
    [...node.children].slice(1).forEach((child) => { child.hidden = none; });
    Object.assign(update, { min: first, max: last });
    update.value = number ?? "";
    if (none) return;
    sample.replaceChildren(...samples.map(({ score }, i) =>
      new Option(`${i + 1} of ${samples.length} · score ${signed(score)}`, i)));
    measure.replaceChildren(...reading.there().map((name) => new Option(MEASURES[name][0], name)));
    stage.max = reading.epochs() + 1;
  };
  const draw = (reading) => {
    measure.value = reading.chosen();
    stage.value = model.get("stage");
    moment.textContent = reading.momentName();
    stage.setAttribute("aria-valuetext", reading.momentName());
  };
  return { node, sample, digits, offer, draw };
};

function render({ model, el: root }) {
  let asked = false;
  const set = (name, value) => {
    if (model.get(name) === value) return;
    model.set(name, value);
    model.save_changes();
  };
  const reading = makeReading(model);
  const ask = () => {
    if (!reading.kept() || reading.likely() || asked) return;
    asked = true;
    model.send({ action: "likely", row: model.get("row") });
  };
  const inspect = () => { if (reading.kept()) inspector.draw(row.pointedAt(), asked); };

  const controls = makeControls(model, set), legend = makeLegend(reading);
  const inspector = makeInspector(reading), row = makeRow(model, reading, { set, ask, inspect });
  const prompt = el("div", "lab-lens-prompt", { dir: "auto" });
  const body = el("div", "", {}, prompt, row.list, legend.node, inspector.line, inspector.node);
  const status = el("p", "lab-lens-status", { role: "status" });
  const lens = el("div", "lab-lens", { role: "group", "aria-label": "Token lens" }, controls.node, body, status);
  root.append(lens);
  lens.addEventListener("keydown", (event) => event.stopPropagation());  // or JupyterLab takes them
  controls.digits.addEventListener("change", () =>
    row.list.classList.toggle("lab-lens-digits", controls.digits.checked));

  const onRecord = () => {
    asked = false;
    body.hidden = !reading.record().rows?.length;
    controls.offer(reading);
    onRow();
  };
  const onRow = () => {
    if (!reading.kept()) return;
    const hadFocus = row.list.contains(document.activeElement);
    asked = false;
    controls.sample.value = model.get("row");
    prompt.textContent = reading.record().samples[model.get("row")].prompt;
    row.fill();
    onShade();
    onToken();
    if (hadFocus) row.focus();
  };
  const onShade = () => {
    if (!reading.kept()) return;
    const moment = reading.atStage();
    if (!moment) ask();
    row.shade(reading.chosen(), moment);
    controls.draw(reading);
    legend.draw(moment);
    inspect();
  };
  const onToken = () => { row.select(); inspect(); };
  const onStatus = () => {
    status.textContent = model.get("status");
    status.classList.toggle("lab-lens-alert", model.get("alert"));
    if (model.get("alert")) asked = false;
  };

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

// The token lens, part 2 of 5: what the model holds of the sample, the measure and the moment that a
// person chose. What a person chose lives in the model, so that two views agree.

const makeReading = (model) => {
  const record = () => model.get("record");
  const kept = () => record().rows?.[model.get("row")];
  const epochs = () => record().clipfrac?.length ?? 0;
  const likely = () => {
    const found = model.get("likely");
    return found.update === record().update && found.row === model.get("row") ? found : null;
  };

  const there = () => Object.keys(MEASURES).filter((name) => name === "ratio" || name in record().rows[0]);
  const chosen = () => (there().includes(model.get("measure")) ? model.get("measure") : "kl");
  const valueOf = (name, i, moment) => (name === "ratio" ? moment?.ratios[i] : kept()[name]?.[i]);
  const full = () => record().scales[chosen() === "ratio" ? "log_ratios" : chosen()] || 1;

  // Log-ratios and clips of the chosen moment; null while those of now are not here yet.
  const atStage = () => {
    const at = model.get("stage"), own = kept();
    if (at === 0) return { ratios: own.ids.map(() => 0), clipped: own.ids.map(() => 0) };
    if (at <= epochs()) return { ratios: own.log_ratios[at - 1], clipped: own.clipped[at - 1] };
    const found = likely();
    return found && { ratios: found.log_ratios, clipped: found.clipped };
  };
  const momentName = () => {
    const at = model.get("stage");
    if (at === 0) return "before the update";
    if (at <= epochs()) return `epoch ${at} of ${epochs()}`;
    return likely() ? `now, after update ${likely().at}` : "now…";
  };

  const shareOfClip = (moment) => {
    const at = model.get("stage"), { clipfrac } = record();
    if (at === 0 || !moment) return "outlined: the clip binds";
    if (at > epochs()) {
      const bound = moment.clipped.filter(Boolean).length;
      return `outlined: the clip would bind, at ${bound} of ${kept().ids.length} tokens of this sample`;
    }
    const all = clipfrac.length > 8 ? [clipfrac[at - 1]] : clipfrac;
    const words = all.length === 1
      ? percent(all[0])
      : all.map((share, i) => `epoch ${i + 1} ${percent(share)}`).join(", ");
    return `outlined: the clip binds (of the update's tokens: ${words})`;
  };

  return { record, kept, epochs, likely, there, chosen, valueOf, full, atStage, momentName, shareOfClip };
};

// The ranking board, part 1 of 4 (one module in the end): orders. Pure functions on tiers, which are
// lists of positions, best first; those in one tier are tied.

export const rankOf = (tiers, card) => tiers.findIndex((tier) => tier.includes(card)) + 1;

// As in sports: two that are tied first are followed by a third.
export const placeOf = (tiers, card) => 1 + tiers.slice(0, rankOf(tiers, card) - 1).flat().length;

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

// Picks the next best card, below those picked so far; one that was picked already is the best of a
// new start.
export const pick = (tiers, picks, card) => {
  const before = picks.includes(card) ? [] : picks;
  const rest = without(tiers, card);
  const at = before.length ? rankOf(rest, before.at(-1)) : 0;
  return { tiers: [...rest.slice(0, at), [card], ...rest.slice(at)], picks: [...before, card] };
};

// The ranking board, part 2 of 4: drag. The list captures the pointer, since a card that moves in the
// page would lose it.

const onScrollbar = ({ target, offsetX }) => target.matches(".lab-text") && offsetX >= target.clientWidth;

// `hand` is what the board lends: card(index), tiers(), locked(), place(tiers), dropped(index).
const makeDrag = (list, hand) => {
  let grabbed = null;
  const others = () => hand.tiers().flat().filter((card) => card !== grabbed.card);

  list.addEventListener("pointerdown", (event) => {
    const node = event.target.closest(".lab-card");
    if (!node || event.target.closest("button") || event.button !== 0 || onScrollbar(event)) return;
    node.focus();
    if (!hand.locked()) grabbed = { card: Number(node.dataset.card), y: event.clientY, moved: false };
  });
  list.addEventListener("mousedown", (event) => {  // the card keeps the focus, not its long text
    if (!hand.locked() && event.target.matches(".lab-text") && !onScrollbar(event)) event.preventDefault();
  });
  list.addEventListener("pointermove", (event) => {
    if (!grabbed) return;
    if (!(event.buttons & 1)) return drop();  // let go where the list could not see it
    if (!grabbed.moved && Math.abs(event.clientY - grabbed.y) < 5) return;
    if (!grabbed.moved) { grabbed.moved = true; list.setPointerCapture(event.pointerId); }
    hand.card(grabbed.card).classList.add("lab-grabbed");
    const index = others().filter((card) => {
      const box = hand.card(card).getBoundingClientRect();
      return event.clientY > box.top + box.height / 2;
    }).length;
    if (hand.tiers().flat().indexOf(grabbed.card) !== index) hand.place(placeAt(hand.tiers(), grabbed.card, index));
  });
  const drop = () => {
    if (grabbed?.moved && hand.card(grabbed.card)) {
      hand.card(grabbed.card).classList.remove("lab-grabbed");
      hand.dropped(grabbed.card);
    }
    grabbed = null;
  };
  list.addEventListener("pointerup", drop);
  list.addEventListener("pointercancel", drop);
  return { forget: () => { grabbed = null; } };
};

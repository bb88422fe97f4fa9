// What the pages of the compare panel share; comes before each of them. Model text enters the page
// through textContent alone.

const make = (tag, className, text = "") => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
};

// Text that scrolls can be reached and scrolled by keys.
const reachable = (node, label) => {
  const long = node.scrollHeight > node.clientHeight + 1;
  for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", label]])
    if (long) node.setAttribute(name, value);
    else node.removeAttribute(name);
};

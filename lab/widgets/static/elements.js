// Comes before the parts of a widget: an element of the page, with what is in it. Strings among the
// children become text nodes, never markup.

const el = (tag, className, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
